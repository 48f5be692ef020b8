"""Records of any shape as lines of name and value: options, changes, and results that no section knows better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from goodnet.core.results import Rate

#: A list of more values than this is told by its length.
_LISTED = 12


@dataclass(frozen=True)
class Fact:
    """One line: a name and its value, as a rate where it is one."""

    name: str
    text: str
    rate: Rate | None = None


def list_facts(record: Mapping[str, Any], within: str = "") -> tuple[Fact, ...]:
    """Return the values of a record, nested ones under the names of all that they are in; empty ones are left out."""
    return tuple(fact for name, value in record.items() for fact in _describe(f"{within}{_words(str(name))}", value))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _describe(name: str, value: Any) -> Iterator[Fact]:
    if value is None or value in ("", [], {}):
        return
    rate = as_rate(value)
    if rate is not None:
        yield Fact(name, show_number(rate.value), rate)
    elif isinstance(value, Mapping):
        yield from list_facts(value, f"{name}, ")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield Fact(name, _show_list(value))
    else:
        yield Fact(name, show_number(value))


def _show_list(values: Sequence[Any]) -> str:
    if len(values) > _LISTED or any(isinstance(value, Mapping) for value in values):
        return f"{len(values)} entries"
    return ", ".join(map(show_number, values))


def show_number(value: Any) -> str:
    """Return a value for a reader: fractions to four digits, yes and no, everything else as it is."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def as_rate(value: Any) -> Rate | None:
    """Return a record {value, n, low, high} as a rate, None for everything else."""
    if not isinstance(value, Mapping) or set(value) != set(Rate.model_fields):
        return None
    try:
        return Rate.model_validate(value)
    except ValidationError:
        return None
