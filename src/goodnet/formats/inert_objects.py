"""Objects that often lie beside weights and do nothing when they are read: numbers, arrays, records of options, paths, dates.

torch's reader calls nothing but what is allowed by name. What can be trusted with any argument is allowed as it is. For
numpy's own functions, which take apart whatever they are given, there are stand-ins that take plain numbers and text.
"""

from __future__ import annotations

import argparse
import datetime
import pathlib
import re
import types
from collections.abc import Callable, Sequence
from pickle import UnpicklingError
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

#: Numpy types that hold plain numbers and text; of any other, objects among them, nothing is made.
_PLAIN = re.compile(r"b1|i[1248]|u[1248]|f[248]|c8|c16|[US]\d{1,4}")


class StoredType:
    """A pickled numpy type: its name, then its state (version, byte order, ...)."""

    def __init__(self, name: object, *_: object) -> None:
        if not _PLAIN.fullmatch(str(name)):
            raise UnpicklingError(f"GLOBAL numpy.dtype({str(name)!r}) holds more than plain numbers")
        self.kind = np.dtype(str(name))

    def __setstate__(self, state: Sequence[Any]) -> None:
        self.kind = self.kind.newbyteorder(state[1])

    def read(self, content: object) -> npt.NDArray[Any]:
        """Return the values that `content`, bytes, holds."""
        if not isinstance(content, bytes):
            raise UnpicklingError(f"expected a number's bytes, got {type(content).__name__}")
        return np.frombuffer(content, self.kind)


class StoredArray:
    """A pickled numpy array: made empty, then its state comes (version, shape, type, order, bytes). Saved, it is numpy's."""

    def __init__(self, *_: object) -> None:
        self.values: npt.NDArray[Any] = np.empty(0)

    def __setstate__(self, state: Sequence[Any]) -> None:
        _, shape, kind, is_fortran, content = state
        if not isinstance(kind, StoredType):
            raise UnpicklingError("expected the type of an array's values")
        self.values = kind.read(content).reshape(shape, order="F" if is_fortran else "C")

    def __reduce__(self) -> Any:
        return self.values.__reduce__()


def _read_scalar(kind: object, content: object) -> Any:
    if not isinstance(kind, StoredType):
        raise UnpicklingError("expected the type of a number")
    return kind.read(content).reshape(())[()]


#: Records of options, paths, dates and versions: they hold what they are given.
_TRUSTED: tuple[type, ...] = (
    *(argparse.Namespace, types.SimpleNamespace, pathlib.PosixPath, pathlib.PurePosixPath),
    *(datetime.datetime, datetime.date, datetime.timedelta, torch.torch_version.TorchVersion),
)
#: What a file may call, each with the name by which it does: for `torch.serialization.safe_globals`.
INERT: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    *((kind, f"{kind.__module__}.{kind.__qualname__}") for kind in _TRUSTED),
    *((StoredType, "numpy.dtype"), (StoredArray, "numpy.ndarray")),
    # The same functions in numpy 1 and 2.
    *((_read_scalar, f"{module}.scalar") for module in ("numpy.core.multiarray", "numpy._core.multiarray")),
    *((StoredArray, f"{module}._reconstruct") for module in ("numpy.core.multiarray", "numpy._core.multiarray")),
]
