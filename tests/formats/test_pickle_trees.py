"""A pickle's notes say what it would make, and nothing is made."""

import io
import os
import pickle
from collections import OrderedDict
from typing import Any

import pytest

from goodnet.formats.pickle_trees import PickleReader, list_names, take_notes


def notes(content: Any) -> list[list[Any]]:
    return take_notes(PickleReader(io.BytesIO(pickle.dumps(content, protocol=2))).load())


def test_plain_values_refer_to_one_another_by_number() -> None:
    shared = ["x"]
    assert notes({"a": 1, "b": (shared, shared), 2: None}) == [
        ["dict", [[1, 2], [3, 4], [5, 6]]],
        *(["text", "a"], ["value", 1], ["text", "b"], ["tuple", [7, 7]], ["value", 2], ["value", None]),
        *(["list", [8]], ["text", "x"]),
    ]


def test_what_holds_itself_has_an_end() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert notes(endless) == [["list", [0]]]


def test_calls_are_noted_with_what_they_were_given() -> None:
    found = notes(OrderedDict(a=1))
    assert found[0] == ["made", "collections.OrderedDict", True, [], [], [[1, 2]]]


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("/nowhere/to/be/made",)


@pytest.mark.parametrize("protocol", range(6))
def test_names_are_listed_in_every_protocol_and_not_called(protocol: int) -> None:
    assert list_names(io.BytesIO(pickle.dumps([Payload()], protocol=protocol))) == ["posix.mkdir"]


def test_a_damaged_pickle_lists_what_comes_before_the_damage() -> None:
    assert list_names(io.BytesIO(b"\x80\x02cos\nsystem\n\xff\xff")) == ["os.system"]
    assert list_names(io.BytesIO(b"")) == []
