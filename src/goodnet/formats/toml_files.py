"""TOML files -> checked records: what is misspelt or out of bounds is one clear line, before any work starts."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from goodnet.core.errors import InputError, InvalidOption
from goodnet.formats.files import require_file


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
        return kind.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidOption(f"{path}: expected TOML, {error}") from error
    except ValidationError as error:
        raise InvalidOption(f"{path}: {describe_invalid(error)}") from error
    except InputError as error:
        raise InvalidOption(f"{path}: {error}") from error


def describe_invalid(error: ValidationError) -> str:
    """Return what is wrong, in one line: where, what was expected, what came; misspelt keys before all else."""
    errors = error.errors()
    first = next((item for item in errors if item["type"] == "extra_forbidden"), errors[0])
    where = ".".join(str(part) for part in first["loc"]) or "the spec"
    if first["type"] == "extra_forbidden":
        return f"unknown key '{where}'; is it misspelt?"
    message = first["msg"].removeprefix("Value error, ")
    came = "" if first["type"] in ("missing", "value_error") else f", got {first['input']!r}"
    return f"'{where}': {message[:1].lower()}{message[1:]}{came}"
