"""Archives of Keras models that lead outside, or show one model to some programs and another to others."""

from __future__ import annotations

import copy
import json
from pathlib import Path

from tests.hostile import zips
from tests.hostile.corpus import Family, Place
from tests.hostile.sound_keras import members, sound

FAMILY = Family("Keras")

NAMES = "CVE-2026-11816, 2026-12479, 2026-12482, 2025-12060"
for _name, _member in {
    "a name that leads up": "../../evil.py",
    "an absolute name": "/tmp/evil.py",
    "a name with backslashes": "..\\..\\evil.py",
    "a drive": "C:evil.py",
}.items():

    def _named(place: Place, member: str = _member) -> Path:
        path = place.folder / "net.keras"
        path.write_bytes(zips.pack_by_hand([*members().items(), (member, b"x")]))
        return path

    FAMILY.add("archive that leads outside", "model", "leads out of the archive", _named, _name, NAMES)


@FAMILY.file("archive that leads outside", "model", "leads out of the archive", threat=NAMES)
def a_symbolic_link_in_the_archive(place: Place) -> Path:
    path = place.folder / "net.keras"
    path.write_bytes(zips.linked(members(), "assets/x", str(place.secret)))
    return path


def _evil_members(place: Place) -> dict[str, bytes]:
    content = copy.deepcopy(members())
    config = json.loads(content["config.json"])
    config["config"]["layers"].insert(1, {"class_name": "Lambda", "config": {"name": "l"}})
    return content | {"config.json": json.dumps(config).encode()}


def two_readings(first: dict[str, bytes], second: dict[str, bytes], key: str) -> dict[str, tuple[bytes, str]]:
    """Return archives that show `first` to some programs and `second` to others, which differ in the member `key`."""
    return {
        "two archives in one file": (zips.pack(second) + zips.pack(first), "before or between its members"),
        "a second directory in the comment": (
            zips.pack(first)[:-2] + len(zips.pack(second)).to_bytes(2, "little") + zips.pack(second),
            "refused",
        ),
        "a name twice": (zips.pack_by_hand([(key, second[key]), *first.items()]), "one name twice"),
        "another name in the header": (
            zips.pack_by_hand([*first.items()], local_names={key: "x" * len(key)}),
            "otherwise than the directory",
        ),
        "another size in the header": (_other_size(zips.pack(first)), "otherwise than the directory"),
        "a flag that says encrypted": (zips.pack_by_hand([*first.items()], flags=1), "encrypted"),
        "bytes before the archive": (b"#!/bin/sh\n" + zips.pack(first), "ends as a zip archive"),
        "bytes after the directory": (_gap(zips.pack(first)), "refused"),
    }


#: Where the reason is another than that there are two readings: zipfile cannot read it at all.
_TWOFOLD = {"bytes after the directory": "zip archive that is damaged"}


def _other_size(content: bytes) -> bytes:
    return content[:22] + (int.from_bytes(content[22:26], "little") + 7).to_bytes(4, "little") + content[26:]


def _gap(content: bytes) -> bytes:
    return content[:-22] + b"hidden" + content[-22:]


for _name in (
    "two archives in one file",
    "a second directory in the comment",
    "a name twice",
    "another name in the header",
    "another size in the header",
    "a flag that says encrypted",
    "bytes before the archive",
    "bytes after the directory",
):

    def _twofold(place: Place, name: str = _name) -> Path:
        path = place.folder / "net.keras"
        path.write_bytes(two_readings(members(), _evil_members(place), "config.json")[name][0])
        return path

    FAMILY.add("ambiguous archive", "model", _TWOFOLD.get(_name, "refused"), _twofold, _name)


@FAMILY.file("HDF5 and zip in one file", "model", "ends as a zip archive")
def a_model_behind_a_model(place: Place) -> Path:
    path = place.folder / "net.h5"
    path.write_bytes(sound(".h5") + zips.pack(_evil_members(place)))
    return path
