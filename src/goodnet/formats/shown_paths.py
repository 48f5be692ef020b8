"""Paths as text that can be printed: a file name may hold any bytes."""

from __future__ import annotations

from pathlib import Path

#: How formulas begin.
_FORMULA = ("=", "+", "-", "@")


def show_path(path: str | Path) -> str:
    r"""Return a path as one line of text for messages, notes and tables.

    Bytes that are no text become `\xff`; line ends, terminal escapes and other characters that do not show become
    escapes, too (`\n`, `\x1b`). The result names the file for a reader and opens nothing.
    """
    return "".join(char if char.isprintable() else _escape(char) for char in str(path))


def show_lines(text: str) -> str:
    """Return a text of several lines for a terminal: line ends stay, all else that does not show becomes escapes."""
    return "\n".join(map(show_path, text.split("\n")))


def show_cell(value: object) -> object:
    """Return what stands in a cell of a table for spreadsheets: text that does not begin a formula, numbers as they are.

    Source: OWASP, "CSV Injection": a spreadsheet runs what begins with =, +, - or @.
    """
    if not isinstance(value, str):
        return value
    shown = show_path(value)
    return f"'{shown}" if shown.lstrip().startswith(_FORMULA) else shown


def _escape(char: str) -> str:
    # Python reads a byte b that is no text as the character 0xDC00 + b (os.fsdecode).
    if "\udc80" <= char <= "\udcff":
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")
