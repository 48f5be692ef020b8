"""One door for every model file: the file's kind decides who reads it."""

from __future__ import annotations

from pathlib import Path

import h5py
import torch

from goodnet import architectures
from goodnet.architectures import deepid
from goodnet.core.classifier import Classifier
from goodnet.core.errors import InvalidOption, UnreadableModel
from goodnet.formats.files import require_file
from goodnet.formats.keras import from_keras, read_keras
from goodnet.formats.keras_weights import is_keras_weights, read_keras_weights
from goodnet.formats.pytorch import from_module, read_state_dict

_KERAS = (".h5", ".hdf5", ".keras")
_TORCH = (".pt", ".pth", ".safetensors")
#: Formats in which a network that is made here can be saved.
FORMATS = ("pt", "safetensors", "h5", "keras")


def read_network(
    path: str | Path, architecture: str | None = None, image_shape: tuple[int, int, int] | None = None
) -> Classifier:
    """Read a model file.

    Args:
        path: `.h5`, `.keras` (whole Keras models), `.h5` (Keras weights), `.pt`, `.pth`, `.safetensors`.
        architecture: for files that hold weights alone, a name or `package.module:factory`.
        image_shape: (C, H, W), for architectures that do not know theirs.

    Raises:
        UnreadableModel: the file cannot be read, or needs an architecture and none is given.
        UnknownMethod: there is no such architecture.
    """
    path = require_file(path, UnreadableModel)
    suffix = path.suffix.lower()
    weights_only = suffix in _TORCH or (suffix in (".h5", ".hdf5") and is_keras_weights(path))
    if suffix not in (*_KERAS, *_TORCH):
        raise UnreadableModel(
            f"{path}: unknown kind of model '{path.suffix}'; expected {', '.join((*_KERAS, *_TORCH))}"
        )
    if not weights_only:
        return read_keras(path)
    if architecture is None:
        known = ", ".join(architectures.names())
        raise UnreadableModel(
            f"{path}: the file holds weights alone; say which network they belong to: --architecture NAME ({known}) "
            "or package.module:factory"
        )
    found = architectures.find(architecture)
    if suffix in _TORCH:
        return read_state_dict(path, found, image_shape)
    return read_keras_weights(path, found, image_shape)


def is_network(path: Path) -> bool:
    """Whether a file is a model rather than data: HDF5 files can be either."""
    suffix = path.suffix.lower()
    if suffix in (".keras", *_TORCH):
        return True
    if suffix not in _KERAS or not h5py.is_hdf5(path):
        return False
    with h5py.File(path, "r") as file:
        return "model_config" in file.attrs or is_keras_weights(path)


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
        return from_keras(deepid.build_keras(classes, seed), f".{file_format}", name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = found.build(classes=classes, image_shape=image_shape)
    return from_module(module, image_shape, name=name, architecture=found.name, suffix=f".{file_format}")
