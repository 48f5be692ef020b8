"""One door for every model file: the file's kind decides who reads it."""

from __future__ import annotations

from pathlib import Path

import h5py

from goodnet import architectures
from goodnet.core.classifier import Classifier
from goodnet.core.errors import UnreadableModel
from goodnet.formats.files import require_file
from goodnet.formats.keras import read_keras
from goodnet.formats.keras_weights import is_keras_weights, read_keras_weights
from goodnet.formats.pytorch import read_state_dict

_KERAS = (".h5", ".hdf5", ".keras")
_TORCH = (".pt", ".pth", ".safetensors")


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
        return "model_config" in file.attrs or "layer_names" in file.attrs
