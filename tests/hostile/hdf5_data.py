"""HDF5 data sets that lie in other files, unpack without end, or are no numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from tests.hostile.corpus import Family, Place

FAMILY = Family("HDF5 data")
IMAGES = (8, 3, 12, 12)


def sound(file: h5py.File) -> None:
    """Fill a file with what is read."""
    file["data"], file["label"] = np.zeros(IMAGES, np.uint8), np.arange(8) % 4


def replace(key: str, **options: object) -> Callable[[h5py.File], None]:
    """Return what makes a data set anew."""

    def change(file: h5py.File) -> None:
        del file[key]
        file.create_dataset(key, **options)

    return change


def write(path: Path, change: Callable[[h5py.File], None]) -> Path:
    """Write a file of data that is changed."""
    with h5py.File(path, "w") as file:
        sound(file)
        change(file)
    return path


SIZES: dict[str, Callable[[h5py.File], None]] = {
    "images without bytes": replace("data", shape=(1 << 40, 3, 12, 12), dtype=np.uint8, chunks=(1, 3, 12, 12)),
    "images that are all one number": replace(
        "data", shape=(1 << 20, 3, 32, 32), dtype=np.float32, chunks=(64, 3, 32, 32)
    ),
    "packed images": replace(
        "data", data=np.zeros((1 << 16, 3, 48, 48), np.uint8), compression="gzip", chunks=(512, 3, 48, 48)
    ),
    "labels without bytes": replace("label", shape=(1 << 40,), dtype=np.int64, chunks=(1 << 10,)),
    "a chunk of gigabytes": replace(
        "data", shape=IMAGES, dtype=np.uint8, chunks=(8, 3, 6000, 6000), maxshape=(None,) * 4, compression="gzip"
    ),
    "a bystander of terabytes": lambda file: (
        file.create_dataset("x", (1 << 40,), np.float64, chunks=(1 << 10,)) and None
    ),
    "one picture of terabytes": replace("data", shape=(1, 3, 1 << 20, 1 << 20), dtype=np.uint8, chunks=(1, 3, 64, 64)),
}
for _name, _change in SIZES.items():

    def _sized(place: Place, change: Callable[[h5py.File], None] = _change) -> Path:
        return write(place.folder / "data.h5", change)

    FAMILY.add("far larger than the file", "data", "far more than its size", _sized, _name, "CVE-2026-0897")


for _key in ("data", "label"):
    for _name in ("external link", "soft link", "external storage", "virtual data set"):

        def _linked(place: Place, key: str = _key, name: str = _name) -> Path:
            def change(file: h5py.File) -> None:
                outside, shape = str(place.secret), file[key].shape
                del file[key]
                if name == "external link":
                    file[key] = h5py.ExternalLink(outside, "x")
                elif name == "soft link":
                    file["hidden/x"] = h5py.ExternalLink(outside, "x")
                    file[key] = h5py.SoftLink("/hidden/x")
                elif name == "external storage":
                    file.create_dataset(key, shape, np.uint8, external=[(outside, 0, int(np.prod(shape)))])
                else:
                    layout = h5py.VirtualLayout(shape, np.uint8)
                    layout[:] = h5py.VirtualSource(outside, "x", shape)
                    file.create_virtual_dataset(key, layout)

            return write(place.folder / "data.h5", change)

        FAMILY.add(
            "in another file",
            "data",
            "points to another file",
            _linked,
            f"{_key} by {_name}",
            "CVE-2026-1669, 2026-9335",
        )


def _own_filter(place: Place) -> Path:
    path = write(
        place.folder / "data.h5", replace("data", data=np.zeros(IMAGES, np.uint8), chunks=IMAGES, fletcher32=True)
    )
    content = path.read_bytes()
    # The filter's number (3) in the message of the data set's filters: version 1, one filter.
    at = content.index(b"\x01\x01\x00\x00\x00\x00\x00\x00\x03\x00")
    path.write_bytes(content[: at + 8] + (32015).to_bytes(2, "little") + content[at + 10 :])
    return path


FAMILY.add(
    "needs a program of its own",
    "data",
    "compression filter that HDF5 does not bring",
    _own_filter,
    "a filter that is not built in",
)

OTHERS: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "images that are strings": (replace("data", data=["x"] * 8), ""),
    "images that are references": (replace("data", shape=IMAGES, dtype=h5py.ref_dtype), "uint8 or float"),
    "images of records": (replace("data", data=np.zeros(IMAGES, [("a", "u1"), ("b", "S99")])), "uint8 or float"),
    "images of texts of any length": (replace("data", shape=IMAGES, dtype=h5py.string_dtype()), "uint8 or float"),
    "labels of records": (replace("label", data=np.zeros(8, [("a", "u1")])), "labels"),
    "labels of lists": (replace("label", shape=(8,), dtype=h5py.vlen_dtype(np.int64)), "labels"),
    "no images at all": (replace("data", data=h5py.Empty("f4")), ""),
    "labels beyond any number": (replace("label", data=np.full(8, 2**64 - 1, np.uint64)), "labels"),
    "labels that are no numbers": (replace("label", data=np.full(8, np.nan)), "labels"),
    "pixels that are no numbers": (replace("data", data=np.full(IMAGES, np.inf, np.float32)), "finite"),
}
for _name, (_change, _says) in OTHERS.items():

    def _other(place: Place, change: Callable[[h5py.File], None] = _change) -> Path:
        return write(place.folder / "data.h5", change)

    FAMILY.add("not numbers", "data", _says, _other, _name)


def _loop(file: h5py.File) -> None:
    file["group/again"] = file["/"]


def _deep(file: h5py.File) -> None:
    file.create_group("/".join("g" * 2000))


def _no_text(file: h5py.File) -> None:
    """Found by fuzzing: h5py cannot name what a link leads to."""
    file.id.links.create_soft(b"to\xb8", b"no\xff")


FAMILY.add(
    "in another file",
    "data",
    "points to another file",
    lambda p: write(p.folder / "data.h5", _no_text),
    "a link that is no text",
)

for _name, _change in (("a group inside itself", _loop), ("two thousand groups in one another", _deep)):

    def _endless(place: Place, change: Callable[[h5py.File], None] = _change) -> Path:
        return write(place.folder / "data.h5", change)

    FAMILY.add("groups without end", "data", "inside itself", _endless, _name)


@FAMILY.file("damaged", "data", "damaged", threat="CVE-2026-26200")
def a_header_of_zeros(place: Place) -> Path:
    path = write(place.folder / "data.h5", lambda _: None)
    content = bytearray(path.read_bytes())
    content[24:96] = bytes(72)
    path.write_bytes(bytes(content))
    return path


@FAMILY.file("damaged", "data", "ends as a zip archive")
def data_and_an_archive_in_one_file(place: Place) -> Path:
    from tests.hostile.sound_keras import members
    from tests.hostile.zips import pack

    path = write(place.folder / "data.h5", lambda _: None)
    path.write_bytes(path.read_bytes() + pack(members()))
    return path
