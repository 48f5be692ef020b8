"""One door for every model file: the file's kind, found by its content, decides who reads it."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import torch

from goodnet import architectures
from goodnet.architectures import deepid
from goodnet.core.classifier import Classifier
from goodnet.core.errors import InvalidOption, UnreadableModel
from goodnet.formats.checkpoints import read_checkpoint
from goodnet.formats.file_kinds import find_kind, is_onnx_goodnet, refuse_kind
from goodnet.formats.files import require_file
from goodnet.formats.keras import from_keras, is_keras_model, read_keras
from goodnet.formats.keras_deepid import build_keras
from goodnet.formats.keras_factories import fill_keras
from goodnet.formats.keras_weights import read_keras_weights
from goodnet.formats.network_folders import is_network_folder, read_network_folder
from goodnet.formats.onnx_networks import read_onnx_network
from goodnet.formats.pytorch import from_module, read_state_dict

#: Endings of models: a file of no known kind is called one by them, and data else.
_ENDINGS = (".h5", ".hdf5", ".keras", ".pt", ".pth", ".safetensors", ".ckpt", ".bin", ".onnx", ".pt2", ".tar")
#: Formats in which a network that is made here can be saved.
FORMATS = ("pt", "safetensors", "h5", "keras")


def read_network(
    path: str | Path,
    architecture: str | None = None,
    image_shape: tuple[int, int, int] | None = None,
    key: str | None = None,
) -> Classifier:
    """Read a model file, whatever its ending.

    Args:
        path: a whole Keras model (HDF5, `.keras`), Keras weights (HDF5), a file of torch.save, safetensors; a folder of
            Hugging Face or timm.
        architecture: for files that hold weights alone, a name or `package.module:factory`.
        image_shape: (C, H, W), for architectures that do not know theirs.
        key: which network of a PyTorch checkpoint that holds several, as the error lists it.

    Raises:
        UnreadableModel: the file cannot be read, needs an architecture and none is given, or needs a key.
        InvalidOption: there is no network under the key, or the file is no checkpoint.
        UnknownMethod: there is no such architecture.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path, architecture, image_shape, key)
    path = require_file(path, UnreadableModel)
    kind = find_kind(path)
    if kind not in ("keras", "keras weights", "torch", "safetensors", "onnx"):
        raise refuse_kind(path, kind)
    if key is not None and kind in ("keras", "keras weights", "onnx"):
        raise InvalidOption(
            f"{path}: a key chooses among the networks of a PyTorch checkpoint; leave out --key for {kind}"
        )
    if kind == "keras":
        return read_keras(path, image_shape)
    if kind == "onnx":
        if is_onnx_goodnet(path):
            raise refuse_kind(path, kind)
        return read_onnx_network(path, image_shape)
    if architecture is None:
        if kind == "torch":
            read_checkpoint(path)  # what is a pickled program is said to be one
        known = ", ".join(architectures.names())
        raise UnreadableModel(
            f"{path}: the file holds weights alone; say which network they belong to: --architecture NAME ({known}) "
            "or package.module:factory"
        )
    found = architectures.find(architecture)
    if kind == "keras weights":
        model = _build_keras(found.factory) if ":" in architecture else None
        return read_keras_weights(path, found, image_shape) if model is None else fill_keras(path, model, architecture)
    return read_state_dict(path, found, image_shape, key)


def _build_keras(factory: Callable[..., Any]) -> Any:
    """Return the model of a user's factory of Keras models that needs no arguments, None for any other factory."""
    if any(
        item.default is item.empty and item.kind is not item.VAR_KEYWORD
        for item in signature(factory).parameters.values()
    ):
        return None
    model = factory()
    return model if is_keras_model(model) else None


def _read_folder(
    path: Path, architecture: str | None, image_shape: tuple[int, int, int] | None, key: str | None
) -> Classifier:
    if not is_network_folder(path):
        raise refuse_kind(path, find_kind(path))
    if architecture is not None or key is not None:
        raise InvalidOption(f"{path}: the folder says which network it holds; leave out --architecture and --key")
    return read_network_folder(path, image_shape)


def is_network(path: Path) -> bool:
    """Whether a path is a model rather than data, or something that can only be meant for one.

    Raises:
        OSError: the file cannot be read.
    """
    if path.is_dir():
        return is_network_folder(path)
    kind = find_kind(path)
    if kind in ("unknown", "zip", "tar"):
        return path.suffix.lower() in _ENDINGS
    return kind not in ("hdf5", "npz")


def says_its_size(path: Path) -> bool:
    """Whether a network says itself how large its images are: a folder of Hugging Face or timm does."""
    return path.is_dir() and is_network_folder(path)


def make_network(
    architecture: str, classes: int, image_shape: tuple[int, int, int], *, file_format: str = "pt", seed: int = 0
) -> Classifier:
    """Return a network with fresh weights, drawn from `seed`, that is saved as `network.FORMAT`.

    Raises:
        InvalidOption: no such format, one that this architecture cannot be saved in, or images it does not take.
        UnknownMethod: there is no such architecture.
    """
    found = architectures.find(architecture)
    name = f"network.{file_format}"
    if file_format not in FORMATS:
        raise InvalidOption(f"expected a format out of {', '.join(FORMATS)}, got '{file_format}'")
    if file_format in ("h5", "keras"):
        if found.name != "deepid" or image_shape != deepid.IMAGE_SHAPE:
            raise InvalidOption(
                f"Keras files are made of deepid for images {deepid.IMAGE_SHAPE}, not of {found.name} for {image_shape}; "
                "choose --format pt or safetensors"
            )
        return from_keras(build_keras(classes, seed), f".{file_format}", name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = found.build(classes=classes, image_shape=image_shape)
    return from_module(module, image_shape, name=name, architecture=found.name, suffix=f".{file_format}")
