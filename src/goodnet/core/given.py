"""Fields of a record that mean nothing where they are given are refused, not ignored."""

from __future__ import annotations

from dataclasses import fields

from goodnet.core.errors import InvalidOption


def refuse_given(record: object, who: str, *names: str) -> None:
    """Refuse those of the fields `names` that do not have their defaults.

    Args:
        record: what was given, a dataclass.
        who: what cannot use the fields, for the message.
        names: the fields.

    Raises:
        InvalidOption: one was given.
    """
    for field in fields(record):  # type: ignore[arg-type]
        value = getattr(record, field.name)
        if field.name in names and value != field.default:
            raise InvalidOption(f"{who} cannot use {field.name}, got {value!r}; leave it out")
