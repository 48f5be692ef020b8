"""What a repeated run says of the first one: what is equal, what differs, and by what."""

from __future__ import annotations

from goodnet.core.results import Record
from goodnet.core.tables import PlainTable, Shown


class Comparison(Record):
    """One thing that was compared; `difference` says how it differs from what was recorded, None where it is equal."""

    what: str
    difference: str | None = None


class Verification(Shown, Record):
    """The comparison of a run of `verb` with its repetition; `notes` say what may explain a difference, or was not compared."""

    verb: str
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()

    @property
    def different(self) -> tuple[Comparison, ...]:
        """What differs."""
        return tuple(item for item in self.comparisons if item.difference is not None)

    @property
    def equal(self) -> bool:
        """Whether everything that was compared is equal."""
        return not self.different

    def table(self) -> PlainTable:
        """Return one line for each thing that was compared."""
        rows = ((item.what, "equal" if item.difference is None else item.difference) for item in self.comparisons)
        count = f"{len(self.different)} of {len(self.comparisons)}"
        title = f"{self.verb}, run again: " + ("everything is equal" if self.equal else f"{count} things differ")
        return PlainTable(title, (), tuple(rows), tuple(f"note: {note}" for note in self.notes))
