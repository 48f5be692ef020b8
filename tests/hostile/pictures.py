"""Pictures of thousands of millions of pixels, of kinds that are not read, and damaged ones."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from tests.hostile.corpus import Family, Place

FAMILY = Family("pictures")
WIDE = 40_000


def encoded(kind: str, size: tuple[int, int] = (12, 12)) -> bytes:
    """Return a small picture that is read."""
    stream = BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a part of a PNG with its right checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, pixels: bytes, *before: bytes) -> bytes:
    """Return a PNG of any said size."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(before) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def _zeros(count: int) -> bytes:
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    return b"".join([*(packer.compress(block) for _ in range(count >> 20)), packer.flush()])


def _bmp() -> bytes:
    return encoded("BMP")[:18] + struct.pack("<ii", WIDE, WIDE) + encoded("BMP")[26:]


def _gif() -> bytes:
    return b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + encoded("GIF")[10:]


def _tiff() -> bytes:
    content = encoded("TIFF")
    for tag in (256, 257):
        at = next(place for place in range(0, len(content)) if content[place : place + 4] in _entries(tag))
        content = content[: at + 2] + struct.pack("<HII", 4, 1, WIDE) + content[at + 12 :]
    return content


def _entries(tag: int) -> Iterator[bytes]:
    return (struct.pack("<HH", tag, kind) for kind in (3, 4))


def _jpeg() -> bytes:
    content = encoded("JPEG")
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", 60_000, 60_000) + content[at + 4 :]


def _webp() -> bytes:
    # A lossless picture says its size in 14 bits each: 16,383 x 16,383.
    stream = BytesIO()
    Image.new("RGB", (12, 12)).save(stream, "WEBP", lossless=True)
    content = stream.getvalue()
    at = content.index(b"VP8L") + 9
    return content[:at] + b"\xfe\xbf\xff\x0f" + content[at + 4 :]


def _many_scans(count: int = 2_000) -> bytes:
    """Return a progressive JPEG whose last scan stands there again and again: each is unpacked anew."""
    stream = BytesIO()
    Image.new("RGB", (1_000, 1_000)).save(stream, "JPEG", progressive=True)
    content = stream.getvalue()
    return content[:-2] + content[content.rindex(b"\xff\xda") : -2] * count + content[-2:]


MANY: dict[str, bytes] = {
    "PNG": png(WIDE, WIDE, b""),
    "PNG that is all there": b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 7_900, 7_900, 8, 2, 0, 0, 0))
    + chunk(b"IDAT", _zeros(7_900 * 3 * 7_900 + 8_000))
    + chunk(b"IEND", b""),
    "PPM": b"P6\n40000 40000\n255\n" + bytes(100),
    "PPM with a size of a thousand digits": b"P6\n" + b"9" * 1000 + b" 9\n255\n",
    "BMP": _bmp(),
    "GIF": _gif(),
    "TIFF": _tiff(),
    "JPEG": _jpeg(),
    "WEBP": _webp(),
}
for _name, _content in MANY.items():

    def _large(place: Place, content: bytes = _content) -> Path:
        (place.folder / "picture.png").write_bytes(content)
        return place.folder / "picture.png"

    FAMILY.add("10^9 pixels", "data", "", _large, f"{_name} of too many pixels")

FOREIGN: dict[str, tuple[bytes, str]] = {
    "Photoshop": (b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 12, 12, 8, 3) + bytes(400), "CVE-2026-25990"),
    "FITS": (b"SIMPLE  =                    T" + b" " * 50 + b"NAXIS   = 999999999" + b" " * 3000, "CVE-2026-42311"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 12 12\n(/etc/passwd) (r) file\n", "CVE-2026-40192"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', ""),
    "PDF": (b"%PDF-1.7\n1 0 obj <</OpenAction <</S /Launch>> >> endobj", ""),
    "ICNS": (b"icns" + struct.pack(">I", 1 << 31) + bytes(64), "CVE-2026-42309"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(64), ""),
    "FLI": (b"\0\0\0\0\x12\xaf" + bytes(128), ""),
}
for _name, (_content, _threat) in FOREIGN.items():

    def _foreign(place: Place, content: bytes = _content) -> Path:
        (place.folder / "picture.png").write_bytes(content)
        return place.folder / "picture.png"

    FAMILY.add("of a kind that is not read", "data", "", _foreign, f"{_name} called PNG", _threat)

DAMAGED: dict[str, bytes] = {
    "a colour profile that unpacks to a gigabyte": png(12, 12, b"", chunk(b"iCCP", b"x\0\0" + _zeros(1 << 27))),
    "a note that unpacks to a gigabyte": png(12, 12, b"", chunk(b"zTXt", b"x\0\0" + _zeros(1 << 27))),
    "a thousand notes": png(12, 12, b"", *(chunk(b"zTXt", b"%d\0\0" % n + _zeros(1 << 20)) for n in range(200))),
    "a part longer than the file": b"\x89PNG\r\n\x1a\n\xff\xff\xff\xf0IHDR" + bytes(20),
    "two thousand scans": _many_scans(),
    "a size below zero": encoded("BMP")[:18] + struct.pack("<ii", -1, -1) + encoded("BMP")[26:],
    "a directory that follows itself": b"II*\0\x08\0\0\0\0\0\x08\0\0\0" + bytes(20),
    "half a picture": encoded("PNG", (64, 64))[:3000],
    "pixels by the hundred digits": b"P3\n12 12\n255\n" + b"9" * 5_000_000,
}
for _name, _content in DAMAGED.items():

    def _damaged(place: Place, content: bytes = _content) -> Path:
        (place.folder / "picture.png").write_bytes(content)
        return place.folder / "picture.png"

    FAMILY.add("damaged", "data", "", _damaged, _name, "CVE-2026-42309" if "below zero" in _name else "")


def _folder(place: Place, count: int = 4) -> Path:
    folder = place.folder / "set"
    (folder / "a").mkdir(parents=True)
    for number in range(count):
        (folder / "a" / f"{number}.png").write_bytes(encoded("PNG"))
    return folder


@FAMILY.file("folder that leads outside", "data", "lead out of the folder")
def links_to_files_outside(place: Place) -> Path:
    folder = _folder(place, 0)
    (folder / "a" / "0.png").symlink_to(place.secret)
    return folder


@FAMILY.file("folder that leads outside", "data", "lead out of the folder")
def a_class_that_is_a_link(place: Place) -> Path:
    folder = place.folder / "set"
    folder.mkdir()
    (folder / "a").symlink_to(place.secret.parent)
    return folder


@FAMILY.file("folder that leads outside", "data", "no pictures of a class")
def pipes_and_devices_among_the_pictures(place: Place) -> Path:
    folder = _folder(place, 0)
    os.mkfifo(folder / "a" / "0.png")
    return folder


@FAMILY.file("folder that leads outside", "data", "cannot be read")
def names_that_move_the_cursor(place: Place) -> Path:
    folder = place.folder / "set"
    (folder / "\x1b[2J\x1b]0;evil\x07\n<script>").mkdir(parents=True)
    (folder / "\x1b[2J\x1b]0;evil\x07\n<script>" / "=cmd|'calc'!A1\r\n.png").write_bytes(b"\x89PNG")
    return folder
