"""Paths as text that can be printed: a file name may hold any bytes."""

from __future__ import annotations

from pathlib import Path


def show_path(path: str | Path) -> str:
    r"""Return a path as one line of text for messages, notes and tables.

    Bytes that are no text become `\xff`; line ends, terminal escapes and other characters that do not show become
    escapes, too (`\n`, `\x1b`). The result names the file for a reader and opens nothing.
    """
    return "".join(char if char.isprintable() else _escape(char) for char in str(path))


def _escape(char: str) -> str:
    # Python reads a byte b that is no text as the character 0xDC00 + b (os.fsdecode).
    if "\udc80" <= char <= "\udcff":
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")
