"""The stand-ins for numpy's own functions make plain numbers, and nothing of anything else."""

import pickle
from typing import Any

import numpy as np
import pytest

from goodnet.formats.inert_objects import INERT, StoredArray, StoredType

SCALAR: Any = next(call for call, name in INERT if name == "numpy._core.multiarray.scalar")  # type: ignore[misc]


def stored(name: str, order: str = "<") -> StoredType:
    kind = StoredType(name, False, True)
    kind.__setstate__((3, order, None, None, None, -1, -1, 0))
    return kind


def test_numbers_and_arrays_are_those_that_were_pickled() -> None:
    assert SCALAR(stored("f8"), np.float64(2.5).tobytes()) == 2.5
    assert SCALAR(stored("i2", ">"), b"\x01\x00") == 256
    array = StoredArray(np.ndarray, (0,), b"b")
    array.__setstate__((1, (2, 2), stored("u1"), True, b"\x01\x02\x03\x04"))
    back = pickle.loads(pickle.dumps(array))
    assert type(back) is np.ndarray
    assert back.tolist() == [[1, 3], [2, 4]]


@pytest.mark.parametrize(
    "name", ["O", "O8", "V4", "i4,f8", "M8", "(3,)i4", "{'names':['a'],'formats':['O']}", "U99999", ""]
)
def test_types_that_hold_more_than_plain_numbers_are_refused(name: str) -> None:
    with pytest.raises(pickle.UnpicklingError, match="holds more than plain numbers"):
        StoredType(name, False, True)


@pytest.mark.parametrize(
    "arguments", [(np.dtype("O"), []), ("f8", b"12345678"), (None, None), (stored("f8"), "12345678")]
)
def test_a_number_is_made_of_a_stored_type_and_bytes_alone(arguments: tuple[Any, Any]) -> None:
    with pytest.raises(pickle.UnpicklingError, match="expected"):
        SCALAR(*arguments)


def test_a_number_of_too_many_or_too_few_bytes_is_none() -> None:
    for content in (b"1234567", b"1234567812345678", b""):
        with pytest.raises(ValueError):
            SCALAR(stored("f8"), content)


def test_nothing_that_calls_anything_is_allowed() -> None:
    names = {name for _, name in INERT}  # type: ignore[misc]
    assert not {"builtins.getattr", "builtins.eval", "functools.partial", "os.system"} & names
    assert all(name.split(".")[0] in {"argparse", "types", "pathlib", "datetime", "torch", "numpy"} for name in names)
