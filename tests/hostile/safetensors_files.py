"""Safetensors files that say one thing and hold another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.hostile import zips
from tests.hostile.corpus import Family, Place

FAMILY = Family("safetensors")
SOUND = {"weight": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}}


def pack(header: Any, content: bytes = bytes(64), *, told: int | None = None) -> bytes:
    """Return a file of a header, given as text or as a value, and the bytes behind it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if told is None else told).to_bytes(8, "little") + text + content


def tensors(**changes: Any) -> dict[str, Any]:
    return {"weight": SOUND["weight"] | changes}


def two(first: list[int], second: list[int]) -> dict[str, Any]:
    entry = {"dtype": "F32", "shape": [2, 4]}
    return {"a": {**entry, "data_offsets": first}, "b": {**entry, "data_offsets": second}}


_ENTRY = b'{"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}'
FILES: dict[str, tuple[str, bytes]] = {
    "bytes behind the last tensor": ("bytes left over", pack(SOUND, bytes(65))),
    "another file behind the last tensor": ("bytes left over", pack(SOUND, bytes(64) + b"\x80\x02cposix\nsystem\n.")),
    "bytes between two tensors": ("bytes left over", pack(two([0, 32], [40, 72]), bytes(72))),
    "a name twice": ("key twice", pack(b'{"weight": %s, "weight": %s}' % (_ENTRY, _ENTRY.replace(b"4, 4", b"2, 8")))),
    "offsets twice": ("key twice", pack(b'{"weight": %s}' % _ENTRY.replace(b"}", b', "data_offsets": [0, 64]}'))),
    "notes twice": ("key twice", pack(b'{"__metadata__": {"a": "1", "a": "2"}, "weight": %s}' % _ENTRY)),
    "two tensors in one place": ("overlap or leave the file", pack(two([0, 32], [16, 48]), bytes(48))),
    "the same bytes for two tensors": ("overlap or leave the file", pack(two([0, 32], [0, 32]), bytes(32))),
    "offsets outside the file": ("overlap or leave the file", pack(tensors(data_offsets=[1 << 40, (1 << 40) + 64]))),
    "offsets backwards": ("overlap or leave the file", pack(tensors(data_offsets=[64, 0]))),
    "negative offsets": ("overlap or leave the file", pack(tensors(data_offsets=[-64, 0]))),
    "a tensor larger than its bytes": ("larger than its bytes", pack(tensors(shape=[1 << 20, 1 << 20]))),
    "a shape whose product overflows": ("larger than its bytes", pack(tensors(shape=[1 << 32, 1 << 32, 1 << 32]))),
    "a header of 100 MB": ("header", pack(SOUND, told=100_000_000)),
    "a header longer than the file": ("header", pack(SOUND, told=5_000)),
    "a header that is no JSON": ("header", pack(b"{'weight': 1}")),
    "a header nested without end": ("header", pack(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}")),
    "a number of ten thousand digits": ("header", pack(b'{"a": {"shape": [' + b"9" * 10_000 + b"]}}")),
    "a kind of number that nobody knows": ("header", pack(tensors(dtype="PICKLE"))),
}
for _name, (_says, _content) in FILES.items():

    def _write(place: Place, content: bytes = _content) -> Path:
        (place.folder / "net.safetensors").write_bytes(content)
        return place.folder / "net.safetensors"

    _kind = {"key": "key twice", "bytes": "bytes left over", "overlap": "offsets that overlap or leave the file"}
    FAMILY.add(
        _kind.get(_says.split()[0], "tensor larger than its bytes" if "larger" in _says else "damaged header"),
        "weights",
        "",
        _write,
        _name,
    )


@FAMILY.file("two readings", "weights", "ends as a zip archive")
def a_zip_archive_inside_the_last_tensor(place: Place) -> Path:
    from tests.hostile.torch_files import _evil

    archive = zips.pack(_evil(place))
    archive = bytes(-len(archive) % 4) + archive
    header = {"weight": {"dtype": "F32", "shape": [len(archive) // 4], "data_offsets": [0, len(archive)]}}
    (place.folder / "net.safetensors").write_bytes(pack(header, archive))
    return place.folder / "net.safetensors"
