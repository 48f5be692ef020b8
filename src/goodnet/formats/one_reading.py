"""A file is one thing: what another program would take for something else than we do is refused."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

from goodnet.core.errors import InputError
from goodnet.formats.shown_paths import show_path
from goodnet.formats.zip_archives import find_second_reading

#: How zip archives begin, empty ones too.
ZIP_BEGINNINGS = (b"PK\x03\x04", b"PK\x05\x06")


def require_one_reading(path: Path, kind: type[InputError]) -> None:
    """Check that a file can be taken for one thing only, and an archive for one content.

    A zip archive is known by its end: anything may stand before it. So a file that begins as something else and ends as an
    archive shows different contents to different programs.

    Raises:
        InputError: (of `kind`) it can be read in two ways.
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        refuse_second_reading(stream, show_path(path), kind)


def refuse_second_reading(stream: BinaryIO, shown: str, kind: type[InputError]) -> None:
    """Check the same of an open file, which `shown` names, and leave it somewhere in its middle.

    Raises:
        InputError: (of `kind`) it can be read in two ways.
        OSError: it cannot be read.
    """
    stream.seek(0)
    try:
        found = _second_reading(stream, stream.read(4))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, EOFError):
        return  # A damaged archive: whoever reads it says so.
    if found is not None:
        raise kind(
            f"{shown}: refused, {found}, so different programs could read different contents; save it again with the program "
            "that made it"
        )


def _second_reading(stream: BinaryIO, beginning: bytes) -> str | None:
    if beginning in ZIP_BEGINNINGS:
        return find_second_reading(stream)
    if zipfile.is_zipfile(stream):
        return "it begins as one thing and ends as a zip archive"
    return None
