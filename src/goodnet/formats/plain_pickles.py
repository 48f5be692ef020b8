"""Pickles of plain values and arrays, read without executing what is in them.

A pickle is a program: on loading, it may call any function that it names. Here each name is looked up in a list of
three stand-ins of ours; any other name ends the reading. numpy's own functions are not called either.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from goodnet.core.errors import UnreadableData
from goodnet.formats.files import require_file
from goodnet.formats.pickle_reader import BoundedUnpickler


class _StoredArray:
    """A pickled array: numpy's `_reconstruct` makes it empty, then its state comes, (version, shape, type, order, bytes)."""

    def __init__(self, *_: object) -> None:
        self.values: npt.NDArray[np.uint8] | None = None

    def __setstate__(self, state: Sequence[Any]) -> None:
        _, shape, kind, is_fortran, content = state
        if not isinstance(kind, _StoredType) or kind.name not in ("u1", "|u1") or not isinstance(content, bytes):
            raise ValueError("expected an array of uint8")
        self.values = np.frombuffer(content, np.uint8).reshape(shape, order="F" if is_fortran else "C")


class _StoredType:
    """A pickled numpy type, by name; its further state (byte order and so on) says nothing about uint8."""

    def __init__(self, name: object, *_: object) -> None:
        self.name = bytes_as_text(name)

    def __setstate__(self, state: object) -> None:
        """Leave the state alone."""


class _EncodedText(bytes):
    """Bytes as Python 3 writes them into old pickles: as Latin-1 text, one letter for each byte."""

    def __new__(cls, text: str, _: str) -> Self:
        return super().__new__(cls, text.encode("latin-1"))

    def __setstate__(self, state: object) -> None:
        """Leave the state alone: without this method a pickle could set attributes of the class."""


_STAND_INS: dict[tuple[str, str], type] = {
    ("numpy.core.multiarray", "_reconstruct"): _StoredArray,
    ("numpy._core.multiarray", "_reconstruct"): _StoredArray,
    ("numpy", "ndarray"): _StoredArray,
    ("numpy", "dtype"): _StoredType,
    ("_codecs", "encode"): _EncodedText,
}


class _ForbiddenName(pickle.UnpicklingError):
    """A pickle asks for a function or class."""


class _PlainUnpickler(BoundedUnpickler):
    """Reads pickles of plain values and uint8 arrays; each name in them gets one of our stand-ins, or is refused."""

    def find_class(self, module: str, name: str) -> type:
        """Return our stand-in for what numpy's pickles call.

        Raises:
            UnpicklingError: the pickle asks for anything else, which could run code.
        """
        stand_in = _STAND_INS.get((module, name))
        if stand_in is None:
            raise _ForbiddenName(f"{module}.{name}")
        return stand_in


def read_plain_pickle(path: str | Path) -> dict[str, Any]:
    """Read a pickled dictionary of plain values and uint8 arrays, without executing what is in it; keys become text.

    Text of Python 2 comes as bytes, see `bytes_as_text`.

    Raises:
        UnreadableData: the file is damaged, holds something else, or names a function or class.
    """
    path = require_file(path)
    try:
        values = _PlainUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except _ForbiddenName as error:
        raise UnreadableData(
            f"{path}: refused, the pickle asks for {error}, which could run code; expected arrays, lists, text and numbers"
        ) from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise UnreadableData(
            f"{path}: expected a pickle of plain values, but the file is damaged or of another kind"
        ) from error
    if not isinstance(values, dict):
        raise UnreadableData(f"{path}: expected a pickled dictionary, got {type(values).__name__}")
    return {
        bytes_as_text(key): value.values if isinstance(value, _StoredArray) else value for key, value in values.items()
    }


def bytes_as_text(value: object) -> str:
    """Return text that Python 2 pickled as bytes, one letter a byte."""
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
