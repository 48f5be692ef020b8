"""CIFAR-10, MNIST and GTSRB in folders of strangers."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
from pathlib import Path

from tests.hostile.corpus import Family, Place
from tests.hostile.pictures import encoded
from tests.hostile.torch_files import Calls

FAMILY = Family("published sets")


def _cifar(place: Place, content: bytes) -> Path:
    folder = place.folder / "cifar"
    folder.mkdir()
    for name in (*(f"data_batch_{index}" for index in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(content)
    return folder


def _short(text: bytes) -> bytes:
    return b"U" + bytes([len(text)]) + text


PICKLES: dict[str, tuple[bytes, str]] = {
    "a number kept under 2,000,000,000": (b"\x80\x02}r\x00\x94\x35\x77.", ""),
    "bytes of terabytes": (b"\x80\x05\x96" + struct.pack("<Q", 1 << 42) + b"x.", "damaged"),
    "a text of terabytes": (b"\x80\x04\x8d" + struct.pack("<Q", 1 << 42) + b"x.", "damaged"),
    "a frame of terabytes": (b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N.", ""),
    "an array of objects": (b"\x80\x02}" + _short(b"data") + b"cnumpy\ndtype\n" + _short(b"O8") + b"\x85Rs.", ""),
    "a list that holds itself": (b"\x80\x02]q\0h\0a.", ""),
    "a number of a million digits": (b"I" + b"9" * 1_000_000 + b"\n.", ""),
    "marks without end": (b"(" * 1_000_000 + b".", ""),
}
for _name, (_content, _says) in PICKLES.items():

    def _pickled(place: Place, content: bytes = _content) -> Path:
        return _cifar(place, content)

    FAMILY.add("pickle of plain values", "cifar10", _says, _pickled, _name)


@FAMILY.file("pickle of plain values", "cifar10", "refused")
def a_payload_in_a_batch(place: Place) -> Path:
    return _cifar(place, pickle.dumps({b"data": Calls(os.system, place.command)}))


@FAMILY.file("pickle of plain values", "cifar10", "refused")
def a_payload_in_numpys_name(place: Place) -> Path:
    return _cifar(place, b"\x80\x02cnumpy.testing._private.utils\nrunstring\n" + _short(b"1") + b"}\x86R.")


def _mnist(place: Place, images: bytes, labels: bytes, *, packed: bool = False) -> Path:
    folder = place.folder / "mnist"
    folder.mkdir()
    for part in ("train", "t10k"):
        for kind, content in (("images-idx3", images), ("labels-idx1", labels)):
            name = f"{part}-{kind}-ubyte" + (".gz" if packed else "")
            (folder / name).write_bytes(gzip.compress(content, 9) if packed else content)
    return folder


def _idx(rank: int, *shape: int, content: bytes = b"") -> bytes:
    return bytes((0, 0, 8, rank)) + struct.pack(f">{rank}I", *shape) + content


IDX: dict[str, tuple[bytes, bytes, bool]] = {
    "sizes of terabytes": (_idx(3, 2**32 - 1, 2**32 - 1, 2**32 - 1), _idx(1, 1, content=b"\0"), False),
    "no images": (_idx(3, 0, 28, 28), _idx(1, 0), False),
    "a gzip bomb": (_idx(3, 1, 1, 1, content=bytes(400 << 20)), _idx(1, 1, content=b"\0"), True),
}
for _name, (_images, _labels, _packed) in IDX.items():

    def _indexed(place: Place, images: bytes = _images, labels: bytes = _labels, packed: bool = _packed) -> Path:
        return _mnist(place, images, labels, packed=packed)

    FAMILY.add("sizes that lie", "mnist", "", _indexed, _name)

HEADER = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"
ROWS: dict[str, str] = {
    "a picture outside the folder": "../../secret.png;12;12;0;0;5;5;0\n",
    "an absolute picture": "/etc/passwd;12;12;0;0;5;5;0\n",
    "a box outside the picture": "a.png;12;12;-5;0;99999999;5;0\n",
    "a number of ten thousand digits": f"a.png;12;12;{'9' * 10_000};0;5;5;0\n",
    "a field of 200,000 letters": f"{'a' * 200_000};12;12;0;0;5;5;0\n",
    "a name with a null": "a\0.png;12;12;0;0;5;5;0\n",
    "a class below zero": "a.png;12;12;0;0;5;5;-1\n",
    "terminal escapes": "\x1b[2J;12;12;x;0;5;5;0\n",
}
for _name, _row in ROWS.items():

    def _signs(place: Place, row: str = _row) -> Path:
        folder = place.folder / "GTSRB"
        for part in ("Final_Training/Images/00000", "Final_Test/Images"):
            (folder / part).mkdir(parents=True)
            (folder / part / "a.png").write_bytes(encoded("PNG"))
        (folder / "Final_Training/Images/00000/GT-00000.csv").write_text(HEADER + row)
        (folder / "Final_Test/Images/GT-final_test.csv").write_text(HEADER + row)
        return folder

    FAMILY.add("tables that lie", "gtsrb", "", _signs, _name)
