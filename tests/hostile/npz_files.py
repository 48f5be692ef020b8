"""`.npz` archives with objects, with headers that lie, and that are ambiguous."""

from __future__ import annotations

import os
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile import zips
from tests.hostile.corpus import Family, Place
from tests.hostile.torch_files import Calls

FAMILY = Family("npz data")


def npy(array: Any) -> bytes:
    """Return an array as a .npy file."""
    stream = BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), allow_pickle=True)
    return stream.getvalue()


def sound() -> dict[str, bytes]:
    """Return the members of an archive that is read."""
    return {"data.npy": npy(np.zeros((8, 3, 12, 12), np.uint8)), "label.npy": npy(np.arange(8) % 4)}


def header(text: str, content: bytes = bytes(96)) -> bytes:
    """Return a .npy file with a header of one's own."""
    line = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little") + line + content


def described(shape: str, kind: str = "|u1", order: str = "False") -> str:
    return f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}"


for _key in ("data", "label", "bystander"):

    def _objects(place: Place, key: str = _key) -> Path:
        payload = np.array([Calls(os.system, place.command)] * 2, dtype=object)
        path = place.folder / "data.npz"
        path.write_bytes(zips.pack(sound() | {f"{key}.npy": npy(payload)}))
        return path

    FAMILY.add("arrays of objects", "data", "holds objects", _objects, f"{_key} of objects", "CVE-2019-6446")

HEADERS: dict[str, bytes] = {
    "images of terabytes": header(described("(1099511627776, 3, 32, 32)")),
    "a product that overflows": header(described("(4294967296, 4294967296, 4294967296, 3)")),
    "a negative shape": header(described("(-1, 3, 12, 12)")),
    "a shape of expressions": header("{'descr': '|u1', 'fortran_order': False, 'shape': (9**9**9, 3, 1, 1), }"),
    "a call in the header": header(
        "{'descr': __import__('os').system('true'), 'fortran_order': False, 'shape': (1,), }"
    ),
    "a header nested without end": header("(" * 9_000 + ")" * 9_000),
    "a header of 60,000 letters": header(described("(1, 3, 12, 12)") + " " * 60_000),
    "a kind with objects inside": header("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (2, 3, 4, 4), }"),
    "a version of the future": b"\x93NUMPY\x09\x00" + bytes(200),
    "fewer bytes than it says": header(described("(8, 3, 12, 12)"), bytes(50)),
    "more bytes than it says": header(described("(1, 3, 4, 4)"), bytes(5_000)),
    "a pickle in its place": b"\x80\x04cposix\nsystem\n(X\x04\x00\x00\x00truetR.",
}
for _name, _content in HEADERS.items():

    def _lying(place: Place, content: bytes = _content) -> Path:
        (place.folder / "data.npz").write_bytes(zips.pack(sound() | {"data.npy": content}))
        return place.folder / "data.npz"

    FAMILY.add("headers that lie", "data", "damaged or holds objects", _lying, _name, "CVE-2019-6446")


@FAMILY.file("zip bomb", "data", "far more than its size")
def packed_zeros(place: Place) -> Path:
    packed = zips.pack(sound() | {"data.npy": npy(np.zeros((1 << 17, 3, 32, 32), np.uint8))}, zipfile.ZIP_DEFLATED)
    (place.folder / "data.npz").write_bytes(packed)
    return place.folder / "data.npz"


@FAMILY.file("zip bomb", "data", "refused")
def a_thousand_names_for_the_same_bytes(place: Place) -> Path:
    """Overlapping members: each entry of the directory names the same packed bytes."""
    packed = zips.pack({"data.npy": npy(np.zeros((1 << 12, 3, 32, 32), np.uint8))}, zipfile.ZIP_DEFLATED)
    start = int.from_bytes(packed[-6:-2], "little")
    entry, count = packed[start:-22], 900
    entries = b"".join(entry.replace(b"data.npy", b"%04d.npy" % index) for index in range(count))
    end = b"PK\5\6\0\0\0\0" + count.to_bytes(2, "little") * 2 + len(entries).to_bytes(4, "little") + packed[-6:]
    (place.folder / "data.npz").write_bytes(packed[:start] + entries + end)
    return place.folder / "data.npz"


for _name in ("two archives in one file", "a name twice", "another name in the header", "bytes before the archive"):

    def _twofold(place: Place, name: str = _name) -> Path:
        from tests.hostile.keras_archives import two_readings

        other = sound() | {"label.npy": npy(np.zeros(8, np.int64))}
        (place.folder / "data.npz").write_bytes(two_readings(sound(), other, "label.npy")[name][0])
        return place.folder / "data.npz"

    FAMILY.add("ambiguous archive", "data", "", _twofold, _name)


@FAMILY.file("not a file", "data", "expected a file")
def a_pipe(place: Place) -> Path:
    os.mkfifo(place.folder / "data.npz")
    return place.folder / "data.npz"


@FAMILY.file("not a file", "data", "expected a file")
def a_device(place: Place) -> Path:
    (place.folder / "data.npz").symlink_to("/dev/zero")
    return place.folder / "data.npz"
