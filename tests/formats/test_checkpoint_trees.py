"""What is made of a pickle's notes: tensors that lie in their storage, and nothing that is not on the list."""

from pickle import UnpicklingError
from typing import Any

import pytest
import torch

from goodnet.formats.checkpoint_trees import TooDeep, build_checkpoint, is_made


def tensor(offset: int, size: tuple[int, ...], stride: tuple[int, ...], kind: str = "torch.FloatStorage") -> Any:
    """A record of one tensor in a storage of six floats, 0 to 5."""
    values = [offset, *size, *stride, False]
    first = 5
    numbers = [["value", value] for value in values]
    sizes = list(range(first + 1, first + 1 + len(size)))
    strides = list(range(first + 1 + len(size), first + len(values) - 1))
    notes = [
        ["made", "torch._utils._rebuild_tensor_v2", True, [1, first, 2, 3, first + len(values) - 1, 4], [], []],
        *(["storage", "0"], ["tuple", sizes], ["tuple", strides], ["value", None]),
        *numbers,
    ]
    record = {"names": ["torch._utils._rebuild_tensor_v2"], "notes": notes, "storages": {"0": kind}}
    return build_checkpoint(record, {"storage 0": torch.arange(6.0).view(torch.uint8)})


def test_a_tensor_is_a_view_of_its_storage() -> None:
    assert tensor(1, (2, 2), (2, 1)).tolist() == [[1, 2], [3, 4]]
    assert tensor(0, (3,), (1,), "torch.DoubleStorage").shape == (3,)
    assert tensor(6, (0,), (1,)).shape == (0,)


@pytest.mark.parametrize(
    ("offset", "size", "stride"), [(0, (7,), (1,)), (1, (2, 3), (3, 1)), (0, (2,), (1 << 40,)), (-1, (2,), (1,))]
)
def test_a_tensor_that_leaves_its_storage_is_none(offset: int, size: Any, stride: Any) -> None:
    with pytest.raises(RuntimeError):
        tensor(offset, size, stride)


@pytest.mark.parametrize("name", ["os.system", "eval", "torch.load", "torch.hub.load", "numpy.load", "torch.Tensor"])
def test_what_is_not_on_the_list_is_not_made_even_where_it_is_not_called(name: str) -> None:
    assert not is_made(name)
    with pytest.raises(UnpicklingError, match=f"GLOBAL {name}"):
        build_checkpoint({"names": [name], "notes": [["value", 1]], "storages": {}}, {})


def test_a_name_that_the_record_does_not_list_is_not_made_either() -> None:
    """A child that was taken over may say what it likes."""
    for note in (["made", "os.system", True, [], [], []], ["name", "os.system"], ["all", []], ["fill", {}, []]):
        with pytest.raises((KeyError, AttributeError, TypeError)):
            build_checkpoint({"names": [], "notes": [note], "storages": {}}, {})


def test_notes_without_an_end_are_refused() -> None:
    notes = [["tuple", [number + 1]] for number in range(500)]
    with pytest.raises(TooDeep):
        build_checkpoint({"names": [], "notes": [*notes, ["value", 1]], "storages": {}}, {})
