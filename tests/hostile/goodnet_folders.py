"""Folders of GoodNets whose metadata and networks are untrusted."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hostile.corpus import Family, Place
from tests.hostile.torch_files import Calls, save

FAMILY = Family("GoodNet folder")
CARD: dict[str, Any] = {
    "kind": "disagreement",
    "schema_version": 2,
    "original": "original.pt",
    "repaired": "repaired.pt",
    "architecture": "small_cnn",
    "input_range": "0..1",
    "image_shape": [3, 12, 12],
    "classes": 4,
    "targets": None,
    "tolerance": 0.0,
}


@functools.cache
def network() -> bytes:
    """Return the weights of a small network of goodnet's own."""
    from goodnet import architectures

    module = architectures.find("small_cnn").build(classes=4, image_shape=(3, 12, 12))
    return save(module.state_dict())


def write(place: Place, card: str | None = None, **changes: Any) -> Path:
    """Write the folder of a GoodNet with other metadata."""
    folder = place.folder / "goodnet"
    folder.mkdir()
    for name in ("original.pt", "repaired.pt"):
        (folder / name).write_bytes(network())
    (folder / "goodnet.json").write_text(json.dumps(CARD | changes) if card is None else card)
    return folder


CARDS: dict[str, tuple[dict[str, Any], str]] = {
    "a network above the folder": ({"original": "../../secret.pt"}, "no such file"),
    "an absolute network": ({"original": "/etc/passwd"}, "no such file"),
    "the folder itself": ({"original": ".."}, ""),
    "no name": ({"original": ""}, ""),
    "a name with a null": ({"original": "a\0b"}, ""),
    "a name of a megabyte": ({"original": "a" * (1 << 20)}, ""),
    "code as architecture": ({"architecture": "os:system"}, "names code outside goodnet"),
    "an architecture that is a path": ({"architecture": "../../evil"}, "unknown architecture"),
    "images of terabytes": ({"image_shape": [3, 1 << 20, 1 << 20]}, ""),
    "images of a gigabyte in a network": ({"image_shape": [3, 4096, 4096]}, "damaged"),  # by fuzzing
    "images of less than nothing": ({"image_shape": [3, -12, 12]}, ""),
    "images of no pixels": ({"image_shape": [0, 0, 0]}, ""),
    "a target that is no class": ({"targets": [10**18]}, "damaged"),
    "a tolerance without end": ({"tolerance": 1e999}, "damaged"),
    "a range of words": ({"input_range": "\x1b[2J"}, "damaged"),
    "another kind": ({"kind": "__import__('os')"}, "damaged"),
    "a key too many": ({"__class__": "x"}, "damaged"),
}
for _name, (_changes, _says) in CARDS.items():

    def _carded(place: Place, changes: Any = _changes) -> Path:
        return write(place, **changes)

    FAMILY.add(
        "metadata that points outside", "goodnet", _says, _carded, _name, "CVE-2026-4372" if "code" in _name else ""
    )

TEXTS: dict[str, str] = {
    "a duplicate key": json.dumps(CARD)[:-1] + ', "original": "evil.pt"}',
    "nested without end": "[" * 200_000,
    "a number of ten thousand digits": json.dumps(CARD).replace("4,", "9" * 10_000 + ","),
    "an empty file": "",
    "a list": "[]",
    "half of it": json.dumps(CARD)[:60],
}
for _name, _text in TEXTS.items():

    def _written(place: Place, text: str = _text) -> Path:
        return write(place, text)

    FAMILY.add("metadata that is not valid", "goodnet", "damaged", _written, f"metadata: {_name}")


def _payload(folder: Path, place: Place) -> None:
    (folder / "repaired.pt").write_bytes(save(Calls(os.system, place.command)))


def _link(folder: Path, place: Place) -> None:
    (folder / "repaired.pt").unlink()
    (folder / "repaired.pt").symlink_to(place.secret)


def _pipe(folder: Path, _: Place) -> None:
    (folder / "repaired.pt").unlink()
    os.mkfifo(folder / "repaired.pt")


def _card_pipe(folder: Path, _: Place) -> None:
    (folder / "goodnet.json").unlink()
    os.mkfifo(folder / "goodnet.json")


def _card_folder(folder: Path, _: Place) -> None:
    (folder / "goodnet.json").unlink()
    (folder / "goodnet.json").mkdir()


def _card_link(folder: Path, place: Place) -> None:
    (folder / "goodnet.json").unlink()
    (folder / "goodnet.json").symlink_to(place.secret)


def _card_device(folder: Path, _: Place) -> None:
    (folder / "goodnet.json").unlink()
    (folder / "goodnet.json").symlink_to("/dev/zero")


def _wide(folder: Path, _: Place) -> None:
    import torch

    (folder / "original.pt").write_bytes(save({"weight": torch.zeros(1 << 20, 1)}))


PARTS: dict[str, tuple[Callable[[Path, Place], None], str]] = {
    "a payload in a network": (_payload, "refused"),
    "a network that is a link": (_link, "leads out of its folder"),
    "a network that is a pipe": (_pipe, "expected a file"),
    "metadata in a pipe": (_card_pipe, "expected a file"),
    "metadata in a folder": (_card_folder, "expected a file"),
    "metadata in a link": (_card_link, "leads out of its folder"),
    "metadata in a device": (_card_device, "leads out of its folder"),
    "a matrix of a million classes": (_wide, "do not fit"),
}
for _name, (_change, _says) in PARTS.items():

    def _parted(place: Place, change: Any = _change) -> Path:
        folder = write(place)
        change(folder, place)
        return folder

    FAMILY.add("parts that are not what they seem", "goodnet", _says, _parted, _name)
