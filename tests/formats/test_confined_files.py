"""A network that a confined child has read is the same to the byte as one that was read here, and so is what is written."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import torch
from keras import layers as kl
from safetensors.torch import save_file

from goodnet.confinement.reading import Contents
from goodnet.core.errors import CodeInFile, UnreadableModel
from goodnet.formats import confined_files, networks
from goodnet.formats.confined_files import checkpoint_of, read_confined
from goodnet.formats.inert_objects import StoredArray
from goodnet.formats.networks import read_model_file, read_network
from tests.formats.checkpoint_files import SHAPE, state
from tests.formats.keras_networks import randomise
from tests.formats.test_checkpoints import BESIDE, OwnNetwork, endless, nested
from tests.formats.test_onnx_networks import save, small

RESIDUAL = "tests.small_networks:Residual"


def keras_model() -> Any:
    layers = [keras.Input((6, 7, 3)), kl.Conv2D(4, 3), kl.BatchNormalization(), kl.PReLU(shared_axes=[1, 2])]
    return randomise(keras.Sequential([*layers, kl.Flatten(), kl.Dense(3, activation="softmax")]), 0)


def keras_file(path: Path) -> None:
    keras_model().save(path)


def torch_file(path: Path) -> None:
    content = {"epoch": 3, "net": state(1, "module."), "twice": state(1, "module."), "beside": BESIDE}
    content["shared"] = content["beside"]
    torch.save(content, path)


def old_torch_file(path: Path) -> None:
    weights = state(1)
    torch.save({"net": weights, "again": weights}, path, _use_new_zipfile_serialization=False)


def safetensors_file(path: Path) -> None:
    save_file(state(1), path, metadata={"license": "mine"})


def onnx_file(path: Path) -> None:
    save(small(), path)


def half_safetensors_file(path: Path) -> None:
    save_file({name: value.bfloat16() for name, value in state(1).items()}, path)


FILES: list[tuple[str, Callable[[Path], None], tuple[Any, ...]]] = [
    ("net.h5", keras_file, ()),
    ("net.keras", keras_file, ()),
    ("net.pt", torch_file, (RESIDUAL, SHAPE, "net/module. = twice/module.")),
    ("old.pt", old_torch_file, (RESIDUAL, SHAPE)),
    ("net.safetensors", safetensors_file, (RESIDUAL, SHAPE)),
    ("net.onnx", onnx_file, ()),
    ("half.safetensors", half_safetensors_file, (RESIDUAL, SHAPE)),
]


@pytest.mark.parametrize(("name", "write", "how"), FILES, ids=[name for name, _, _ in FILES])
def test_the_network_and_what_is_written_are_equal_to_the_byte(
    name: str, write: Callable[[Path], None], how: tuple[Any, ...], tmp_path: Path
) -> None:
    write(tmp_path / name)
    how = (*how[:2], "net/module.") if len(how) == 3 else how
    confined, plain = (read_network(tmp_path / name, *how, confine=confine) for confine in (True, False))
    weights, others = confined.network.state_dict(), plain.network.state_dict()
    assert list(weights) == list(others)
    assert all(torch.equal(weights[key], others[key]) for key in weights)
    assert (confined.name, confined.suffix, confined.layout) == (plain.name, plain.suffix, plain.layout)
    assert confined.sha256 == sha256((tmp_path / name).read_bytes()).hexdigest()
    assert (confined.notes, plain.notes) == ((), ("the model file was read without confinement",))
    written = [network.save(tmp_path / where / name) for network, where in ((confined, "a"), (plain, "b"))]
    assert _content(written[0]) == _content(written[1])


def _content(path: Path) -> Any:
    """The bytes of a file, of a zip archive without the date on which it was written."""
    if path.suffix == ".keras":
        import zipfile

        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist() if name != "metadata.json"}
    return path.read_bytes()


def test_weights_of_keras_alone_are_written_as_they_were(csaw: Path, tmp_path: Path) -> None:
    path = csaw / "lab3_bd_weights.h5"
    written = [
        read_network(path, "deepid", confine=confine).save(tmp_path / f"{confine}.h5") for confine in (True, False)
    ]
    assert written[0].read_bytes() == written[1].read_bytes()


def test_a_checkpoint_holds_what_torch_reads_in_it(tmp_path: Path) -> None:
    torch_file(tmp_path / "net.pt")
    content = checkpoint_of(read_confined(tmp_path / "net.pt")).content
    assert list(content) == ["epoch", "net", "twice", "beside", "shared"]
    assert content["shared"] is content["beside"]
    expected = torch.load(tmp_path / "net.pt", weights_only=False)
    for ours, theirs in zip(content["beside"], expected["beside"], strict=True):
        ours = ours.values if isinstance(ours, StoredArray) else ours  # noqa: PLW2901
        assert np.array_equal(ours, theirs) if isinstance(theirs, np.ndarray) else ours == theirs


@pytest.mark.parametrize("make", [lambda: nested(100), endless])
def test_a_checkpoint_without_an_end_is_refused_behind_the_walls_too(make: Callable[[], Any], tmp_path: Path) -> None:
    torch.save(make(), tmp_path / "net.pt")
    with pytest.raises(UnreadableModel, match="refused, expected a checkpoint of at most"):
        read_network(tmp_path / "net.pt", RESIDUAL, SHAPE)


@pytest.mark.parametrize("confine", [True, False])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_whole_network_is_refused_with_all_that_it_names(legacy: bool, confine: bool, tmp_path: Path) -> None:
    torch.save(OwnNetwork(3, 2), tmp_path / "net.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CodeInFile) as caught:
        read_network(tmp_path / "net.pt", RESIDUAL, SHAPE, confine=confine)
    assert caught.value.names == (f"{OwnNetwork.__module__}.OwnNetwork",)


@pytest.mark.parametrize("confine", [True, False])
def test_a_bare_pickle_is_refused_with_all_that_it_names(confine: bool, tmp_path: Path) -> None:
    # Protocol 4 takes names from its stack, where a list of opcodes would not see them: GLOBAL is protocol 0's.
    (tmp_path / "net.pt").write_bytes(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R0cbuiltins\neval\n.")
    with pytest.raises(CodeInFile, match=r"found a bare pickle, .*; it names os\.system, eval$") as caught:
        read_network(tmp_path / "net.pt", confine=confine)
    assert caught.value.names == ("os.system", "eval")


def test_names_of_a_stranger_reach_the_message_harmlessly(tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(b"\x80\x04\x8c\x04a\x1b[m\x8c\x03b\nc\x93.")
    with pytest.raises(CodeInFile) as caught:
        read_network(tmp_path / "net.pt")
    assert caught.value.names == (r"a\x1b[m.b\nc",)


def test_a_file_that_changes_while_it_is_read_has_the_hash_of_what_was_read(tmp_path: Path) -> None:
    keras_file(tmp_path / "net.h5")
    first = sha256((tmp_path / "net.h5").read_bytes()).hexdigest()
    file = read_model_file(tmp_path / "net.h5")
    (tmp_path / "net.h5").write_bytes(b"something else")
    assert file.confined is not None
    assert file.confined.sha256 == first
    assert set(file.confined.tensors) == {f"array {number}" for number in range(9)}


def test_data_are_no_network_and_are_not_copied(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["data"] = np.zeros((2, 3, 4, 4))
    file = read_confined(tmp_path / "data.h5")
    assert (file.kind, file.sha256, file.tensors) == ("hdf5", "", {})


def test_walls_that_are_missing_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    safetensors_file(tmp_path / "net.safetensors")
    found = replace(read_confined(tmp_path / "net.safetensors"), missing=("no Landlock", "no limit of memory"))
    with monkeypatch.context() as patch:
        patch.setattr(networks, "read_confined", lambda _: found)
        notes = read_network(tmp_path / "net.safetensors", RESIDUAL, SHAPE).notes
    words = (
        "the confinement in which the model file was read is incomplete on this system: no Landlock, no limit of memory"
    )
    assert notes == (words,)
    monkeypatch.setattr(networks, "can_confine", lambda: False)
    words = "the model file was read without confinement, which this system does not have"
    assert read_network(tmp_path / "net.safetensors", RESIDUAL, SHAPE).notes == (words,)


@pytest.mark.parametrize(
    "change",
    [
        {
            "kind": "keras",
            "config": "{}",
            "version": "3",
            "places": [{"place": "a", "array": "none", "attributes": {}}],
        },
        {"kind": "keras", "config": 5},
        {"kind": "keras weights", "places": 7},
        {"kind": "torch", "names": [], "notes": [["made", "os.system", True, [], [], []]], "storages": {}},
        {"kind": "safetensors", "names": ["a"]},
        {"kind": "onnx", "graph": {"no such field": 1}},
        {"kind": "another"},
        {},
    ],
)
def test_a_child_that_was_taken_over_can_say_what_it_likes(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    safetensors_file(tmp_path / "net.h5")
    monkeypatch.setattr(confined_files, "read_file", lambda *_: Contents(change, {}, ()))
    with pytest.raises(UnreadableModel, match=r"net\.h5: "):
        read_network(tmp_path / "net.h5", RESIDUAL, SHAPE)
