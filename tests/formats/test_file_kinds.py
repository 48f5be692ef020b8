"""What a file is goes by its content: its ending makes no difference, and what nobody can read is called by its name."""

import io
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import torch
from keras import layers as kl
from safetensors.torch import save_file

from goodnet.core.errors import InvalidOption, UnreadableModel
from goodnet.formats.file_kinds import find_kind
from goodnet.formats.networks import read_model_file, read_network
from tests.formats.checkpoint_files import SHAPE, state
from tests.formats.checkpoint_files import is_network as predicts_as

RESIDUAL = "tests.small_networks:Residual"
ENDINGS = [".pt", ".ckpt", ".bin", ".pth.tar", ".h5", ".keras", ".onnx", "", ".PT", ".95"]


def a_torch_file(path: Path) -> None:
    torch.save({"state_dict": state(1)}, path)


def a_legacy_torch_file(path: Path) -> None:
    torch.save({"state_dict": state(1)}, path, _use_new_zipfile_serialization=False)


def safetensors(path: Path) -> None:
    save_file(state(1), path)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("write", [a_torch_file, a_legacy_torch_file, safetensors])
def test_weights_open_and_are_written_back_whatever_the_name(
    write: Callable[[Path], None], ending: str, tmp_path: Path
) -> None:
    path = tmp_path / f"net{ending}"
    write(path)
    kind = find_kind(path)
    assert kind == ("safetensors" if write is safetensors else "torch")
    assert read_model_file(path).is_network
    classifier = read_network(path, RESIDUAL, SHAPE)
    assert predicts_as(classifier, 1)
    assert classifier.suffix == path.suffix
    written = classifier.save(tmp_path / f"new{classifier.suffix}")
    assert find_kind(written) == kind
    assert predicts_as(read_network(written, RESIDUAL, SHAPE), 1)


@pytest.mark.parametrize("ending", [".h5", ".keras", ".pt", ".model", ""])
@pytest.mark.parametrize("inside", [".h5", ".keras"])
def test_keras_models_are_known_whatever_the_name(inside: str, ending: str, tmp_path: Path) -> None:
    keras.Sequential([keras.Input((4, 4, 3)), kl.Flatten(), kl.Dense(2)]).save(tmp_path / f"own{inside}")
    path = (tmp_path / f"own{inside}").rename(tmp_path / f"net{ending}")
    assert find_kind(path) == "keras"
    assert read_model_file(path).is_network
    assert read_network(path).classes == 2
    with pytest.raises(InvalidOption, match="leave out --key for keras"):
        read_network(path, key="model")


def torchscript(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))


def exported(path: Path) -> None:
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),)), buffer)
    path.write_bytes(buffer.getvalue())


def older_exported(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", "7.2")
        archive.writestr("serialized_exported_program.json", "{}")


def an_onnx_graph(path: Path) -> None:
    path.write_bytes(b"\x08\x0a\x12\x07pytorch\x1a\x032.1")


def an_onnx_graph_of_an_unnamed_producer(path: Path) -> None:
    path.write_bytes(b"\x08\x09\x3a\x04\x12\x02hi")


def an_lfs_pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n")


def a_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"weight": [1.0]}))


def an_old_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"weight": [1.0]}, protocol=2))


def an_npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, data=np.zeros(3))


def data_in_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros((2, 3, 4, 4))


def data_behind_a_user_block(path: Path) -> None:
    with h5py.File(path, "w", userblock_size=1024) as file:
        file["data"] = np.zeros((2, 3, 4, 4))


def some_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


def two_models_in_one_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("net/data.pkl", b"\x80\x02}q\x00.")


def an_empty_zip(path: Path) -> None:
    zipfile.ZipFile(path, "w").close()


def a_tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("net.pt"))


def text(path: Path) -> None:
    path.write_text("hello, I am a long text about networks")


def nothing(path: Path) -> None:
    path.write_bytes(b"")


OTHERS: list[tuple[Callable[[Path], Any], str, str]] = [
    (torchscript, "torchscript", r"TorchScript program; .*torch\.jit\.load\(path\)\.state_dict"),
    (exported, "pt2", r"program of torch\.export; .*torch\.export\.load\(path\)\.state_dict"),
    (older_exported, "pt2", r"program of torch\.export"),
    (an_onnx_graph, "onnx", "expected an ONNX (graph|file)"),
    (an_onnx_graph_of_an_unnamed_producer, "onnx", "expected an ONNX (graph|file)"),
    (an_lfs_pointer, "lfs pointer", "run: git lfs pull"),
    (a_pickle, "pickle", "refused, .* found a bare pickle"),
    (an_old_pickle, "pickle", "refused, .* found a bare pickle"),
    (an_npz, "npz", "found an npz archive of arrays"),
    (data_in_hdf5, "hdf5", "found HDF5 that is damaged or holds no Keras model"),
    (data_behind_a_user_block, "hdf5", "found HDF5"),
    (some_zip, "zip", "zip archive that is damaged or holds neither"),
    (two_models_in_one_zip, "zip", "zip archive"),
    (an_empty_zip, "zip", "zip archive"),
    (a_tar, "tar", "found a tar archive; unpack it"),
    (text, "unknown", "unknown kind of model '.*', text; expected a model of Keras"),
    (nothing, "unknown", "an empty file; expected a model of Keras"),
]


@pytest.mark.parametrize("ending", [".pt", ".h5", ".keras", ".safetensors", ".xyz", ""])
@pytest.mark.parametrize(("write", "kind", "words"), OTHERS, ids=[write.__name__ for write, _, _ in OTHERS])
def test_what_cannot_be_read_is_called_by_its_name(
    write: Callable[[Path], Any], kind: str, words: str, ending: str, tmp_path: Path
) -> None:
    path = tmp_path / f"net{ending}"
    write(path)
    assert find_kind(path) == kind
    with pytest.raises(UnreadableModel, match=words) as caught:
        read_network(path, RESIDUAL, SHAPE)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (a_torch_file, True),
        (safetensors, True),
        (torchscript, True),
        (an_onnx_graph, True),
        (data_in_hdf5, False),
        (an_npz, False),
    ],
)
def test_whether_a_file_is_meant_for_a_model_goes_by_its_content(
    write: Callable[[Path], None], expected: bool, tmp_path: Path
) -> None:
    for ending in (".pt", ".h5", ".npz", ".keras", ""):
        write(tmp_path / f"file{ending}")
        assert read_model_file(tmp_path / f"file{ending}", confine=False).is_network is expected


def test_the_ending_says_what_a_file_of_no_known_kind_was_meant_for(tmp_path: Path) -> None:
    for name, expected in (
        ("net.pt", True),
        ("net.ckpt", True),
        ("notes.txt", False),
        ("cat.png", False),
        ("data.npz", False),
    ):
        text(tmp_path / name)
        assert read_model_file(tmp_path / name, confine=False).is_network is expected


@pytest.mark.parametrize("length", [0x0280, 0x0202, 0x4B50, 0x4D42, 0x3150])
def test_a_header_s_length_that_reads_like_another_kind_is_a_length(length: int, tmp_path: Path) -> None:
    """The eight bytes of these lengths begin as a pickle, as zip archives ("PK") and as pictures ("BM", "P1") do."""
    save_file(state(1), tmp_path / "net")
    content = (tmp_path / "net").read_bytes()
    old = int.from_bytes(content[:8], "little")
    length += (length < old) * (old // 65536 + 1) * 65536
    padded = content[8 : 8 + old].ljust(length) + content[8 + old :]
    (tmp_path / "net").write_bytes(length.to_bytes(8, "little") + padded)
    assert find_kind(tmp_path / "net") == "safetensors"
    assert predicts_as(read_network(tmp_path / "net", RESIDUAL, SHAPE), 1)


@pytest.mark.parametrize("follows", [b"PK\x03\x04", b"version https://git-lfs", b"\x80\x02"])
def test_what_begins_as_hdf5_is_hdf5_whatever_follows(follows: bytes, tmp_path: Path) -> None:
    data_in_hdf5(tmp_path / "data")
    a_torch_file(tmp_path / "net")
    (tmp_path / "both").write_bytes((tmp_path / "data").read_bytes() + follows + (tmp_path / "net").read_bytes())
    assert zipfile.is_zipfile(tmp_path / "both")
    assert find_kind(tmp_path / "both") == "hdf5"
