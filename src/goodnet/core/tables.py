"""Results as a short table: as text for `print`, and as HTML for a notebook."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class PlainTable:
    """A title, the names of the columns (none: no head), the rows below them, and lines that stand below the table."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """Return it as text, the columns in line."""
        lines = [self.columns, *self.rows] if self.columns else self.rows
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        shown = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
        return "\n".join([self.title, *(line.rstrip() for line in shown), *self.notes])

    def html(self) -> str:
        """Return it as an HTML table; whatever came from a file or a name is escaped."""
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in self.rows)
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        caption, head = f"<caption>{escape(self.title)}</caption>", f"<thead><tr>{head}</tr></thead>" if head else ""
        return f"<table>{caption}{head}<tbody>{body}</tbody></table>{notes}"


class Shown:
    """A result that prints as its table, and shows it in a notebook."""

    @abstractmethod
    def table(self) -> PlainTable:
        """Return the table that stands for the result."""

    def __str__(self) -> str:
        """Return the table as text."""
        return self.table().text()

    def _repr_html_(self) -> str:
        return self.table().html()


def show_value(value: object) -> str:
    """Return a value for a reader: yes and no, fractions to three digits, everything else as it is."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
