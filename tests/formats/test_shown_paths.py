"""Paths as text that every terminal prints."""

import os
from pathlib import Path

import pytest

from goodnet.formats.shown_paths import show_path


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"0007.png", "0007.png"),
        ("Möwe 鳥 🐦.png".encode(), "Möwe 鳥 🐦.png"),
        (b"\xff.png", r"\xff.png"),
        (b"M\xf6we.png", r"M\xf6we.png"),
        (b"a\nb\r\tc", r"a\nb\r\tc"),
        (b"\x1b[31mred", r"\x1b[31mred"),
        ("\u202egnp.exe".encode(), r"\u202egnp.exe"),
        (b"back\\slash", "back\\slash"),
    ],
)
def test_any_bytes_become_one_printable_line(name: bytes, shown: str) -> None:
    path = Path("folder", os.fsdecode(name))
    assert show_path(path) == f"folder/{shown}"
    assert show_path(str(path)) == f"folder/{shown}"
    assert show_path(path).encode().decode().isprintable()


def test_a_character_that_is_half_a_pair() -> None:
    assert show_path("\ud83d.png") == r"\ud83d.png"
