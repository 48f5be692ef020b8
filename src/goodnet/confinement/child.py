"""The child: imports a reader, closes the walls, reads, and answers. `python -m goodnet.confinement.child REQUEST`."""

from __future__ import annotations

import codecs
import importlib
import json
import os
import sys
from collections.abc import Callable
from typing import BinaryIO, TypeAlias

from goodnet.confinement.answers import Answer, write_answer
from goodnet.confinement.limits import Limits
from goodnet.confinement.walls import Watch, close_walls
from goodnet.core.errors import InputError
from goodnet.core.one_line import describe_error

#: A reader: the file, an empty file for a copy of it, and what messages call it.
Reader: TypeAlias = Callable[[BinaryIO, BinaryIO, str], Answer]
#: Modules and alphabets that Python loads when they are first needed, when no file can be opened any more.
_LATER_NEEDED = ("zipfile", "zlib", "bz2", "lzma", "hashlib")
_ALPHABETS = ("utf-8", "latin-1", "ascii", "cp437", "unicode_escape", "raw_unicode_escape", "idna")


def find_reader(name: str) -> Reader:
    """Return the function that `module:function` names."""
    module, _, function = name.partition(":")
    reader: Reader = getattr(importlib.import_module(module), function)
    return reader


def run_reader(reader: Reader, source: BinaryIO, copy: BinaryIO, name: str) -> Answer:
    """Return what a reader finds, or the error with which it refuses the file, as data."""
    try:
        answer = reader(source, copy, name)
    except InputError as error:
        return Answer({"error": {"kind": type(error).__name__, "message": str(error)}})
    return Answer({"found": dict(answer.record)}, answer.arrays)


def main(request: str) -> None:
    """Serve one request: JSON with the reader, the numbers of the three open files, a name, and the limits."""
    asked = json.loads(request)
    reader = find_reader(asked["reader"])
    for module in _LATER_NEEDED:
        importlib.import_module(module)
    for alphabet in _ALPHABETS:
        codecs.lookup(alphabet)
    source, copy = os.fdopen(asked["source"], "rb"), os.fdopen(asked["copy"], "w+b")
    limits = Limits(**asked["limits"])
    watch, missing = close_walls(limits)
    answer = _read(lambda: run_reader(reader, source, copy, asked["name"]), limits, watch)
    try:
        _write(answer, missing, asked["out"])
    except (OSError, ValueError, MemoryError) as error:
        os.ftruncate(asked["out"], 0)
        os.lseek(asked["out"], 0, os.SEEK_SET)
        _write(_stopped(f"its content cannot be handed back ({describe_error(error)})"), missing, asked["out"])
    os._exit(0)  # Nothing is tidied up behind the walls.


def _write(answer: Answer, missing: list[str], number: int) -> None:
    write_answer(Answer({**answer.record, "missing": missing}, answer.arrays), os.fdopen(number, "wb", closefd=False))


def _read(read: Callable[[], Answer], limits: Limits, watch: Watch) -> Answer:
    """Return the answer, or what stopped it: an attempt counts even where the reader has made nothing of its failure."""
    try:
        answer = read()
    except MemoryError:
        answer = _stopped(f"it asked for more than {limits.memory >> 20} MiB of memory")
    except Exception as error:  # whatever a library does with a stranger's bytes
        answer = _stopped(f"the reader failed ({describe_error(error)})")
    return _stopped(watch.attempts[0]) if watch.attempts else answer


def _stopped(why: str) -> Answer:
    return Answer({"stopped": why})


if __name__ == "__main__":
    main(sys.argv[1])
