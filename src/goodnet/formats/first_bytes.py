"""What a file is, by its first bytes: names are given by people and tell lies."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

#: The pictures that are read, by how they begin. Every further decoder would be one more that a stranger can attack.
PICTURES: dict[str, tuple[bytes, ...]] = {
    "PNG": (b"\x89PNG",),
    "JPEG": (b"\xff\xd8",),
    "BMP": (b"BM",),
    "PPM": (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "WEBP": (b"RIFF",),
    "GIF": (b"GIF87a", b"GIF89a"),
}
HDF5 = "an HDF5 file"
ZIP = "a zip archive"
PICTURE = "a picture"
NUMPY = "a single numpy array (.npy)"
PARQUET = "a parquet file"
TEXT = "text"

HDF5_BEGINNING = b"\x89HDF\r\n\x1a\n"
#: Where the signature of HDF5 may stand behind a block of the user's own: here, and at every double of it.
_FIRST_PLACE = 512
#: The longest header that the safetensors library reads.
_LONGEST_HEADER = 100_000_000
#: How files begin that are taken for data now and then, and what they are.
_OTHERS = {
    b"PK": ZIP,
    b"version https://git-lfs": "a pointer of Git LFS without the data (git lfs pull fetches them)",
    b"\x93NUMPY": NUMPY,
    b"PAR1": PARQUET,
    b"\x80": "a pickle",
    b"\x1f\x8b": "a gzip archive",
    b"8BPS": "a Photoshop picture",
    b"SIMPLE  =": "a FITS picture",
    b"%!PS": "a PostScript picture",
    b"%PDF": "a PDF",
}
_PRINTABLE = bytes(range(32, 256)) + b"\t\n\r\f"


def kind_of(path: Path) -> str:
    """Return what a file is in words: `HDF5`, `ZIP`, `PICTURE`, or the name of what nobody reads.

    The first bytes decide, so that no file is two things at once. Only where they say nothing is the signature of HDF5
    looked for further inside, where MATLAB puts it.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        head = stream.read(512)
        is_hdf5 = holds_hdf5(stream)
    if head.startswith(HDF5_BEGINNING):
        return HDF5
    if head.startswith(tuple(beginning for kind in PICTURES.values() for beginning in kind)):
        return PICTURE
    found = next((what for beginning, what in _OTHERS.items() if head.startswith(beginning)), None)
    if found is None and is_hdf5:
        return HDF5
    return found or _describe_unknown(head)


def holds_hdf5(stream: BinaryIO) -> bool:
    """Whether a file has the signature of HDF5 where the library looks for it; nothing else is read."""
    place, end = 0, stream.seek(0, 2)
    while place < end:
        stream.seek(place)
        if stream.read(len(HDF5_BEGINNING)) == HDF5_BEGINNING:
            return True
        place = 2 * place or _FIRST_PLACE
    return False


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins with `head` is a safetensors file: the header's length in 8 bytes, then JSON."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LONGEST_HEADER


def _describe_unknown(head: bytes) -> str:
    if not head:
        return "an empty file"
    return "something else" if head.translate(None, _PRINTABLE) else TEXT
