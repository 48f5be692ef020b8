"""What a file is, by its content. The ending says how a network is written back, and nothing else.

A file is one thing: what begins as HDF5 is HDF5, what begins as a zip archive is one, whatever else follows.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import BinaryIO, Literal

import h5py

from goodnet.core.errors import UnreadableModel
from goodnet.formats.first_bytes import HDF5_BEGINNING, holds_hdf5, is_safetensors, kind_of
from goodnet.formats.hdf5_files import holds_weights_alone
from goodnet.formats.one_reading import ZIP_BEGINNINGS

Kind = Literal[
    "keras",
    "keras weights",
    "torch",
    "safetensors",
    "hdf5",
    "torchscript",
    "pt2",
    "onnx",
    "lfs pointer",
    "pickle",
    "npz",
    "zip",
    "tar",
    "tflite",
    "core ml",
    "openvino",
    "saved model",
    "core ml folder",
    "goodnet folder",
    "folder",
    "unknown",
]

#: Bytes from the beginning of a file that tell its kind.
HEAD = 512
#: The number with which a file of torch.save begins that is no zip archive (before torch 1.6), as pickle writes it.
_TORCH_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
_STATE_DICT = "torch.save(net.state_dict(), path)"
_CORE_ML = (
    "expected a model with gradients, found Core ML, which keeps none; ask for the PyTorch, Keras or ONNX model that it was "
    "converted from"
)
#: What is no model that can be read: what it is, and the way out.
_WAYS_OUT: dict[Kind, str] = {
    "hdf5": "expected a model, found HDF5 that is damaged or holds no Keras model and no weights; data goes to --clean",
    "torchscript": "expected weights, found a TorchScript program; load it where it was made and save its state dict: "
    "torch.save(torch.jit.load(path).state_dict(), 'net.pt')",
    "pt2": "expected weights, found a program of torch.export; load it where it was made and save its state dict: "
    "torch.save(torch.export.load(path).state_dict, 'net.pt')",
    "onnx": "expected a network, found a GoodNet in ONNX; give the network that it was made of (predict, evaluate and serve take "
    "the GoodNet)",
    "lfs pointer": "expected a model, found a Git LFS pointer, which stands for a file that has not been fetched; run: git lfs "
    "pull",
    "pickle": f"refused, expected a file of torch.save, found a bare pickle, which can run code on loading; save the state dict "
    f"where it was made: {_STATE_DICT}",
    "npz": "expected a model, found an npz archive of arrays; data goes to --clean",
    "zip": "expected a Keras model or a file of torch.save, found a zip archive that is damaged or holds neither; fetch it "
    "again, or unpack it and give the model inside",
    "tflite": "expected a model with gradients, found TFLite, which keeps none; ask for the Keras model or the ONNX file that "
    "it was converted from",
    "core ml": _CORE_ML,
    "core ml folder": _CORE_ML,
    "openvino": "expected a model with gradients, found OpenVINO, which keeps none; ask for the ONNX, PyTorch or Keras model "
    "that it was converted from",
    "saved model": "expected a model in one file, found a TensorFlow SavedModel, which runs operations on loading; convert it "
    "where it was made: python -m tf2onnx.convert --saved-model FOLDER --output net.onnx, or save it in Keras as .keras",
    "goodnet folder": "expected a network, found the folder of a GoodNet; give its original network (original.*), or measure "
    "the GoodNet: goodnet evaluate GOODNET",
    "folder": "expected a model, found a folder without config.json and weights (Hugging Face, timm); give the model's file",
    "tar": f"expected a model, found a tar archive; unpack it (tar -xf) and give the model inside, or save the state dict again: "
    f"{_STATE_DICT}",
}


#: What an ONNX file holds where it is a GoodNet: an entry of that name, and its second output.
_GOODNET_MARKS = (b"\n\x07goodnet\x12", b"opinions")


def is_onnx_goodnet(path: Path) -> bool:
    """Whether an ONNX file says that it is a GoodNet, and not a network alone.

    Raises:
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    return all(mark in content for mark in _GOODNET_MARKS)


def find_kind(path: Path) -> Kind:
    """Return what a file, or a folder that holds no network that is read, is. Nothing of it is run.

    Raises:
        OSError: it cannot be read.
    """
    if path.is_dir():
        return _kind_of_folder(path)
    with path.open("rb") as stream:
        return kind_of_content(stream)


def kind_of_content(stream: BinaryIO) -> Kind:
    """Return what an open file is, and leave it somewhere in its middle.

    Raises:
        OSError: it cannot be read.
    """
    stream.seek(0)
    head = stream.read(HEAD)
    if head.startswith(HDF5_BEGINNING):
        return _kind_of_hdf5(stream)
    if head.startswith(ZIP_BEGINNINGS):
        return _kind_of_zip(stream)
    # HDF5 may begin later, behind a block of the user's own.
    return kind_by_beginning(head) or (_kind_of_hdf5(stream) if holds_hdf5(stream) else "unknown")


def _kind_of_folder(path: Path) -> Kind:
    if (path / "saved_model.pb").is_file():
        return "saved model"
    if path.suffix == ".mlpackage" or (path / "Manifest.json").is_file():
        return "core ml folder"
    return "goodnet folder" if (path / "goodnet.json").is_file() or (path / "goodnet").is_dir() else "folder"


def kind_by_beginning(head: bytes) -> Kind | None:
    """Return what a file is that begins so, None where that does not tell."""
    return _kind_without_gradients(head) or _kind_with_weights(head)


def _kind_without_gradients(head: bytes) -> Kind | None:
    if head[4:8] == b"TFL3":
        return "tflite"
    if head.lstrip().startswith(b"<?xml") and b"<net " in head:
        return "openvino"
    # A small version number, then a description of inputs, where ONNX has the name of what wrote it.
    if head[:1] == b"\x08" and head[1:2] < b"\x10" and head[2:3] == b"\x12" and head[4:5] == b"\x0a":
        return "core ml"
    return None


def _kind_with_weights(head: bytes) -> Kind | None:
    if head.startswith(b"version https://git-lfs"):
        return "lfs pointer"
    # A tar archive begins with the name of a member, which may look like anything.
    if head[257:262] == b"ustar":
        return "tar"
    if is_safetensors(head):
        return "safetensors"
    if head[:1] == b"\x80" and _TORCH_MAGIC in head[:32]:
        return "torch"
    if head[:1] == b"\x80" and 2 <= head[1] <= 5:
        return "pickle"
    # Protocol buffers have no mark of their own: a small version number, then the producer, the graph or the operators.
    return (
        "onnx"
        if head[:1] == b"\x08" and head[1:2] < b"\x20" and head[2:3] in b"\x12\x3a\x42" and len(head) > 3
        else None
    )


def _kind_of_hdf5(stream: BinaryIO) -> Kind:
    try:
        with h5py.File(stream, "r") as file:
            if "model_config" in file.attrs:
                return "keras"
            return "keras weights" if holds_weights_alone(file) else "hdf5"
    except (OSError, RuntimeError, ValueError, KeyError):  # h5py fails in many ways on damaged attributes
        return "hdf5"


def _kind_of_zip(stream: BinaryIO) -> Kind:
    try:
        with zipfile.ZipFile(stream) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "zip"
    # torch puts all that it writes into one folder.
    inside = {name.partition("/")[2] for name in names}
    if inside & {"archive_format", "models/model.json"} or "serialized_exported_program.json" in names:
        return "pt2"
    if "constants.pkl" in inside:
        return "torchscript"
    is_torch, is_keras = "data.pkl" in inside, "config.json" in names
    if is_torch != is_keras:
        return "torch" if is_torch else "keras"
    return "npz" if names and all(name.endswith(".npy") for name in names) else "zip"


def refuse_kind(path: Path, kind: Kind) -> UnreadableModel:
    """Return the error for a file that is no model of Keras or PyTorch: what it is, and the way out."""
    found = _WAYS_OUT.get(kind)
    if found is None:
        found = (
            f"unknown kind of model '{path.suffix}', {kind_of(path)}; expected a model of Keras (HDF5, .keras), weights of "
            "PyTorch (torch.save, safetensors), an ONNX file, or a folder of Hugging Face or timm; is the file whole?"
        )
    return UnreadableModel(f"{path}: {found}")
