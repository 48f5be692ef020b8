"""TOML files -> checked records: what is misspelt or out of bounds is one clear line, before any work starts."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from goodnet.core.errors import InputError, InvalidOption
from goodnet.core.one_line import describe_error, one_line
from goodnet.formats.files import require_file

#: Bytes of the longest spec: the time that tomllib takes grows faster than a text.
_LONGEST = 1 << 16


class Strict(BaseModel):
    """A part of a spec: it cannot be changed, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


AnySpec = TypeVar("AnySpec", bound=Strict)


def read_toml(path: str | Path, kind: type[AnySpec]) -> AnySpec:
    """Read a TOML file as a checked record.

    Raises:
        InvalidOption: it is no TOML, a key is misspelt or missing, or a value is out of bounds.
        UnreadableData: there is no such file.
    """
    path = require_file(path)
    try:
        if path.stat().st_size > _LONGEST:
            raise ValueError(f"of at most {_LONGEST:,} bytes, got {path.stat().st_size:,}")
        return kind.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise InvalidOption(f"{path}: {describe_invalid(error)}") from error
    except (ValueError, RecursionError) as error:  # also no UTF-8, a number of ten thousand digits, nested without end
        raise InvalidOption(f"{path}: expected TOML, {describe_error(error)}") from error
    except InputError as error:
        raise InvalidOption(f"{path}: {error}") from error


def describe_invalid(error: ValidationError) -> str:
    """Return what is wrong, in one line: where, what was expected, what came; misspelt keys before all else."""
    errors = error.errors()
    first = next((item for item in errors if item["type"] == "extra_forbidden"), errors[0])
    where = ".".join(str(part) for part in first["loc"]) or "the spec"
    if first["type"] == "extra_forbidden":
        return f"unknown key '{one_line(where)}'; is it misspelt?"
    message = first["msg"].removeprefix("Value error, ")
    came = "" if first["type"] in ("missing", "value_error") else f", got {first['input']!r}"
    return one_line(f"'{where}': {message[:1].lower()}{message[1:]}{came}")
