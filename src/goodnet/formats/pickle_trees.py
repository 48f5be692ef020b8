"""What a pickle says, as plain data: nothing that it names is looked up, imported or called.

A pickle is a program that makes objects by calling what it names. Here each name gets a stand-in that remembers by which
name it was called, with what, and what was put into it; the result is a list of such notes that refer to one another by
their numbers, ready for JSON. `checkpoint_trees.py` decides which objects are built.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, BinaryIO

#: Notes of one pickle, more than any checkpoint has.
_MOST = 5_000_000
#: Pickles that come before that of the content in files of torch before 1.6: a mark, a version, facts of the system.
PROGRAMS_BEFORE = 3
#: Letters of a name that are kept.
_LONGEST_NAME = 200


class _Named:
    """Stands for what a pickle names; its instances stand for what a call of it would have made."""

    path = ""
    called = False

    def __new__(cls, *arguments: Any) -> _Named:
        made = object.__new__(cls)
        made.arguments, made.called, made.state, made.items = arguments, False, (), []
        return made

    arguments: tuple[Any, ...]
    #: Empty, or the state alone: None may be one.
    state: tuple[Any, ...]
    items: list[tuple[Any, Any]]

    def __init__(self, *_: Any) -> None:
        self.called = True

    def __setstate__(self, state: Any) -> None:
        self.state = (state,)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))


class _Storage:
    """Stands for numbers that lie elsewhere in the file."""

    def __init__(self, kind: str, key: str, count: int) -> None:
        self.kind, self.key, self.count = kind, key, count


class PickleReader(pickle.Unpickler):
    """Reads pickles of torch.save, and others, and remembers all that they name.

    Attributes:
        names: what is named, in order, each once: `module.name`.
        storages: the storages by key: their kind, and how many numbers.
    """

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream, encoding="utf-8")
        self.names: list[str] = []
        self.storages: dict[str, tuple[str, int]] = {}
        self._kinds: dict[str, type[_Named]] = {}

    def find_class(self, module: str, name: str) -> type[_Named]:
        """Return a stand-in."""
        # Protocol 2 has the builtins under their name in Python 2.
        path = (name if module in ("builtins", "__builtin__") else f"{module}.{name}")[:_LONGEST_NAME]
        if path not in self._kinds:
            self.names.append(path)
            self._kinds[path] = type("Named", (_Named,), {"path": path})
        return self._kinds[path]

    def persistent_load(self, pid: Any) -> _Storage | type[_Named]:
        """Return the stand-in of a storage, or of a class that comes with its source text.

        Raises:
            UnpicklingError: it is none that torch.save writes.
        """
        if isinstance(pid, tuple) and pid[:1] == ("module",) and isinstance(pid[1], type):
            return pid[1]
        try:
            what, kind, key, _, count = pid[:5]
            storage = _Storage(kind.path, str(key), int(count))
        except (TypeError, ValueError, AttributeError) as error:
            raise pickle.UnpicklingError("not a storage") from error
        if what != "storage" or any(pid[5:]):
            raise pickle.UnpicklingError("not a storage")
        self.storages[storage.key] = (storage.kind, storage.count)
        return storage


def take_notes(content: Any) -> list[list[Any]]:
    """Return what a `PickleReader` has read as notes; the first is the content, the others are reached from it.

    Each is a kind and what belongs to it, other notes by number: `["text", "a"]`, `["list", [4, 7]]`.

    Raises:
        UnpicklingError: there are too many, or an object of a kind that no pickle makes.
    """
    objects: list[Any] = [content]
    numbers = {id(content): 0}

    def number(value: Any) -> int:
        if id(value) not in numbers:
            numbers[id(value)] = len(objects)
            objects.append(value)
        return numbers[id(value)]

    def all_of(values: Iterable[Any]) -> list[int]:
        return [number(value) for value in values]

    notes = []
    for value in objects:  # grows on the way
        if len(objects) > _MOST:
            raise pickle.UnpicklingError("too many objects")
        notes.append(_note(value, all_of))
    return notes


def _note(value: Any, all_of: Callable[[Iterable[Any]], list[int]]) -> list[Any]:
    if isinstance(value, _Named):
        items = [all_of(pair) for pair in value.items]
        return ["made", value.path, value.called, all_of(value.arguments), all_of(value.state), items]
    if isinstance(value, type) and issubclass(value, _Named):
        return ["name", value.path]
    if type(value) not in _NOTES:
        raise pickle.UnpicklingError(f"an object of {type(value)}")
    return _NOTES[type(value)](value, all_of)


_Note = Callable[[Any, Callable[[Iterable[Any]], list[int]]], list[Any]]
_NOTES: dict[type, _Note] = {
    **dict.fromkeys((type(None), bool, int, float), lambda value, _: ["value", value]),
    str: lambda value, _: ["text", value],
    **dict.fromkeys((bytes, bytearray), lambda value, _: [type(value).__name__, value.decode("latin-1")]),
    **dict.fromkeys((list, tuple, set, frozenset), lambda value, all_of: [type(value).__name__, all_of(value)]),
    dict: lambda value, all_of: ["dict", [all_of(pair) for pair in value.items()]],
    _Storage: lambda value, _: ["storage", value.key],
}


def find_program(archive: zipfile.ZipFile) -> str:
    """Return the name of the pickle in an archive of torch.save.

    Raises:
        StopIteration: there is none.
    """
    return next(name for name in archive.namelist() if name.endswith("/data.pkl"))


def list_names(stream: BinaryIO) -> list[str]:
    """Return all that a pickle names, a bare one or one in a file of torch.save, as far as it can be read; none is called."""
    stream.seek(0)
    names: list[str] = []
    with suppress(Exception):  # A damaged pickle can fail in any way; what comes before is known.
        if stream.read(2) == b"PK":
            with zipfile.ZipFile(stream) as archive:
                _note_names(io.BytesIO(archive.read(find_program(archive))), names)
        else:
            stream.seek(0)
            for _ in range(PROGRAMS_BEFORE + 1):  # A bare pickle has one, and then ends.
                _note_names(stream, names)
    return list(dict.fromkeys(names))


def _note_names(stream: BinaryIO, names: list[str]) -> None:
    reader = PickleReader(stream)
    try:
        reader.load()
    finally:
        names += reader.names
