"""Files of torch.save and safetensors: nothing of them runs, and what they hold comes back as it was."""

import argparse
import datetime
import pathlib
import pickle
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from goodnet.core.errors import UnreadableModel, UnwritableOutput
from tests.formats.checkpoint_files import is_network, opened, state


def reread(path: Path) -> Any:
    """What a program that trusts the file reads in it."""
    return torch.load(path, weights_only=False)


BESIDE: list[Any] = [
    np.float64(91.25),
    np.int64(-3),
    np.bool_(True),
    np.float32(0.5),
    np.str_("best"),
    np.complex64(1 + 2j),
    np.arange(6, dtype=np.int32).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.array([1, 2], dtype=">i2"),
    argparse.Namespace(lr=0.1, arch="small", path=None),
    types.SimpleNamespace(depth=3),
    pathlib.PosixPath("/data/x"),
    datetime.datetime(2024, 5, 6, 7, 8),
    datetime.timedelta(seconds=3),
    torch.__version__,
    {"nested": [np.float64(1.5), (np.int8(1),)]},
]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("value", BESIDE, ids=lambda value: type(value).__name__)
def test_inert_objects_beside_the_weights_are_no_obstacle_and_stay(value: Any, legacy: bool, tmp_path: Path) -> None:
    content = {"net": state(1, "module."), "acc": value, "epoch": 3}
    torch.save(content, tmp_path / "net.pth", _use_new_zipfile_serialization=not legacy)
    classifier = opened(tmp_path / "net.pth")
    assert is_network(classifier, 1)
    saved = reread(classifier.save(tmp_path / "new.pth"))
    assert list(saved) == list(content)
    assert type(saved["acc"]) is type(value)
    np.testing.assert_array_equal(saved["acc"], value) if isinstance(value, np.ndarray) else None
    assert isinstance(value, np.ndarray) or saved["acc"] == value
    # Numpy itself brings the bytes of an array into this machine's order.
    expected = pickle.loads(pickle.dumps(value))
    assert getattr(saved["acc"], "dtype", None) == getattr(expected, "dtype", None)


class Own:
    """A class of whoever saved the file."""


class OwnNetwork(nn.Linear):
    """A network of whoever saved the file."""


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("content", "name"),
    [
        (OwnNetwork(3, 2), f"{__name__}.OwnNetwork"),
        ({"net": state(1), "args": Own()}, f"{__name__}.Own"),
        ({"net": state(1), "call": eval}, "eval"),
        ({"net": state(1), "names": np.array(["a", None], dtype=object)}, "numpy.dtype('O8')"),
        ({"net": state(1), "made": np.zeros(2, dtype=[("a", "i4"), ("b", "f8")])}, "numpy.dtype('V12')"),
    ],
)
def test_what_else_is_in_a_file_is_refused_by_name(content: Any, name: str, legacy: bool, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UnreadableModel, match=r"refused, it holds a .*torch\.save") as caught:
        opened(path)
    assert f"'{name}'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_the_program_has_allowed_itself_stays_allowed(tmp_path: Path) -> None:
    before = torch.serialization.get_safe_globals()
    with torch.serialization.safe_globals([argparse.Namespace]):
        opened(tmp_path / "net.pt", state(1))
        assert argparse.Namespace in torch.serialization.get_safe_globals()
    assert set(torch.serialization.get_safe_globals()) == set(before)


def test_a_file_of_another_pickle_protocol_says_which_is_read(tmp_path: Path) -> None:
    torch.save(state(1), tmp_path / "net.pt", pickle_protocol=4)
    with pytest.raises(UnreadableModel, match=r"pickle protocol 2.* save it again: torch\.save"):
        opened(tmp_path / "net.pt")


def nested(depth: int) -> Any:
    content: Any = state(1)
    for _ in range(depth):
        content = {"inside": content}
    return content


def endless() -> Any:
    content: dict[str, Any] = {"net": state(1)}
    content["self"] = content
    return content


def doubling() -> Any:
    content: Any = state(1)
    for _ in range(40):
        content = {"a": content, "b": content}
    return content


@pytest.mark.parametrize("make", [lambda: nested(100), endless, doubling])
def test_checkpoints_without_an_end_are_refused(make: Any, tmp_path: Path) -> None:
    with pytest.raises(UnreadableModel, match="refused, expected a checkpoint of at most"):
        opened(tmp_path / "net.pt", make())
    assert is_network(opened(tmp_path / "net.pt", nested(20)), 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_the_types_of_a_file_stay_and_float32_is_computed_in(dtype: torch.dtype, suffix: str, tmp_path: Path) -> None:
    weights = {name: value.to(dtype) if value.is_floating_point() else value for name, value in state(1).items()}
    weights["shift"] = state(1)["shift"]  # a file of mixed types
    if dtype is torch.float64:
        weights["head.weight"] = weights["head.weight"] + 1e-12
    path = tmp_path / f"net{suffix}"
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    classifier = opened(path)
    assert {value.dtype for value in classifier.network.parameters()} == {torch.float32}
    classifier.layer("stem").silence([2])
    written = classifier.save(tmp_path / f"new{suffix}")
    saved = load_file(written) if suffix == ".safetensors" else torch.load(written, weights_only=True)
    assert {name: value.dtype for name, value in saved.items()} == {
        name: value.dtype for name, value in weights.items()
    }
    assert (saved["stem.weight"][2] == 0).all()
    assert torch.equal(saved["head.weight"], weights["head.weight"])
    assert torch.equal(saved["stem.weight"][3], weights["stem.weight"][3].float().to(dtype))


def test_a_weight_that_its_type_cannot_hold_is_not_written(tmp_path: Path) -> None:
    half = {name: value.half() if value.is_floating_point() else value for name, value in state(1).items()}
    classifier = opened(tmp_path / "net.pt", half)
    with torch.no_grad():
        classifier.layer("stem").weight[0] = 1e6
    with pytest.raises(UnwritableOutput, match=r"'stem\.weight' has grown beyond what the file's float16 can hold"):
        classifier.save(tmp_path / "new.pt")
    assert not (tmp_path / "new.pt").exists()


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt", "net.bin", "net"])
@pytest.mark.parametrize("metadata", [None, {"format": "pt", "license": "mine"}])
def test_the_notes_of_safetensors_stay_whatever_the_name(metadata: Any, name: str, tmp_path: Path) -> None:
    save_file(state(1), tmp_path / name, metadata=metadata)
    written = opened(tmp_path / name).save(tmp_path / f"new_{name}")
    with safe_open(written, "pt") as file:
        assert file.metadata() == metadata
    assert is_network(opened(written), 1)


def test_kinds_of_mappings_their_order_notes_and_parameters_stay(tmp_path: Path) -> None:
    weights = state(1)
    weights["stem.weight"] = nn.Parameter(weights["stem.weight"], requires_grad=False)
    weights._metadata = {"": {"version": 1}}  # type: ignore[attr-defined]
    content = OrderedDict(z=1, net=weights, a=2)
    classifier = opened(tmp_path / "net.pt", content)
    classifier.layer("stem").silence([1])
    saved = torch.load(classifier.save(tmp_path / "new.pt"), weights_only=True)
    assert (type(saved), list(saved)) == (OrderedDict, ["z", "net", "a"])
    assert (type(saved["net"]), list(saved["net"])) == (OrderedDict, list(weights))
    assert saved["net"]._metadata == {"": {"version": 1}}
    assert isinstance(saved["net"]["stem.weight"], nn.Parameter)
    assert not saved["net"]["stem.weight"].requires_grad


def test_tensors_that_hold_no_numbers_of_their_own_are_no_weights(tmp_path: Path) -> None:
    for value in (state(1)["head.weight"].to_sparse(), torch.zeros(1).expand(5, 6)):
        with pytest.raises(UnreadableModel, match="1 missing, "):
            opened(tmp_path / "net.pt", {**state(1), "head.weight": value})
