"""Specs of zoos and benches that are no TOML, or ask for what cannot be."""

from __future__ import annotations

import os
from pathlib import Path

from tests.hostile.corpus import Family, Place
from tests.micro_zoo import ZOO

FAMILY = Family("specs")

TEXTS: dict[str, tuple[bytes, str]] = {
    "nested without end": (b"a = " + b"[" * 100_000, "expected TOML"),
    "tables nested without end": (b"[" + b"a." * 50_000 + b"a]\n", ""),
    "a number of ten thousand digits": (b"seed = " + b"9" * 10_000, "expected TOML"),
    "a duplicate key": (ZOO.encode() + b'\nname = "again"\n', ""),
    "no text": (bytes(range(256)) * 20, "expected TOML"),
    "nothing": (b"", ""),
    "line ends and escapes in a key": (b'"\\u001b[2J\\n<script>" = 1\n', "unknown key"),
    "a date in place of a name": (b"name = 2026-01-01\n", ""),
    "a pickle": (b"\x80\x04cposix\nsystem\n.", "expected TOML"),
}
for _name, (_content, _says) in TEXTS.items():
    for _reader in ("zoo spec", "bench spec"):

        def _written(place: Place, content: bytes = _content) -> Path:
            (place.folder / "spec.toml").write_bytes(content)
            return place.folder / "spec.toml"

        FAMILY.add("not TOML", _reader, _says, _written, f"{_reader} with {_name}")


@FAMILY.file("asks for what cannot be", "zoo spec", "less than or equal to 10000")
def a_million_million_pairs(place: Place) -> Path:
    lines = [line if not line.startswith("pairs") else "pairs = 1000000000000" for line in ZOO.splitlines()]
    (place.folder / "spec.toml").write_text("\n".join(lines))
    return place.folder / "spec.toml"


@FAMILY.file("asks for what cannot be", "zoo spec", "")
def an_architecture_that_is_no_network(place: Place) -> Path:
    lines = [line if not line.startswith("architecture") else 'architecture = "os:getcwd"' for line in ZOO.splitlines()]
    (place.folder / "spec.toml").write_text("\n".join(lines))
    return place.folder / "spec.toml"


@FAMILY.file("not a file", "zoo spec", "expected a file")
def a_pipe_for_a_spec(place: Place) -> Path:
    os.mkfifo(place.folder / "spec.toml")
    return place.folder / "spec.toml"


@FAMILY.file("not a file", "bench spec", "expected a file")
def a_device_for_a_spec(place: Place) -> Path:
    (place.folder / "spec.toml").symlink_to("/dev/zero")
    return place.folder / "spec.toml"
