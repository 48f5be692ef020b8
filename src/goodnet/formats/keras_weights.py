"""Keras weights-only files (`.h5` written by `save_weights`) <-> `Classifier`.

The file names each layer's arrays; the architecture must have modules of the same names (DeepID: conv_1 ... output).
Keras is not needed: HDF5 groups are read and written as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from goodnet.architectures import Architecture
from goodnet.core.classifier import Classifier
from goodnet.core.errors import UnreadableModel
from goodnet.core.graph import trace
from goodnet.formats.files import replacing, require_file
from goodnet.formats.keras import refuse_links
from goodnet.formats.pytorch import load_weights

#: Keras's array names and torch's parameter names.
_PARAMETERS = {
    "kernel": "weight",
    "gamma": "weight",
    "bias": "bias",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def is_keras_weights(path: Path) -> bool:
    """Whether the file is HDF5 with layers' weights and without an architecture."""
    try:
        with h5py.File(path, "r") as file:
            return "model_config" not in file.attrs and "layer_names" in file.attrs
    except OSError:
        return False


def read_keras_weights(
    path: str | Path, architecture: Architecture, image_shape: tuple[int, int, int] | None = None
) -> Classifier:
    """Read a Keras weights-only file into the network that `architecture` builds.

    Raises:
        UnreadableModel: the file is damaged or does not fit the architecture.
    """
    path = require_file(path, UnreadableModel)
    try:
        with h5py.File(path, "r") as file:
            refuse_links(file, path)
            attributes = {key: file.attrs[key] for key in file.attrs}
            layers = {_text(name): _arrays(file[_text(name)]) for name in file.attrs["layer_names"]}
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise UnreadableModel(
            f"{path}: expected Keras weights (layer_names, weight_names), but the file is damaged"
        ) from error
    weights = {
        f"{layer}.{_parameter(path, key)}": _to_torch(array)
        for layer, arrays in layers.items()
        for key, array in arrays.items()
    }
    shape = image_shape or architecture.image_shape
    if shape is None:
        raise UnreadableModel(f"{path}: the image size is not known; give it with --image-shape C,H,W")
    matrices = [array for arrays in layers.values() for array in arrays.values() if array.ndim == 2]
    module = architecture.build(classes=int(matrices[-1].shape[1]) if matrices else 0, image_shape=shape)
    load_weights(module, weights, path, architecture.name)
    source = KerasWeightsSource(path.suffix, attributes, layers)
    return Classifier(
        trace(module),
        image_shape=shape,
        layout="NHWC",
        source=source,
        name=path.name,
        architecture=architecture.name,
    )


def _arrays(group: h5py.Group) -> dict[str, npt.NDArray[np.float32]]:
    return {_text(name): np.asarray(group[_text(name)][()], np.float32) for name in group.attrs["weight_names"]}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _parameter(path: Path, key: str) -> str:
    word = key.rsplit("/", 1)[-1].split(":", maxsplit=1)[0]
    if word not in _PARAMETERS:
        raise UnreadableModel(f"{path}: weight '{key}' has no counterpart in PyTorch; known: {', '.join(_PARAMETERS)}")
    return _PARAMETERS[word]


def _to_torch(array: npt.NDArray[np.float32]) -> Tensor:
    axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim, tuple(range(array.ndim)))
    return torch.from_numpy(np.ascontiguousarray(array.transpose(axes), dtype=np.float32))


def _to_keras(tensor: Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = tensor.detach().cpu().numpy()
    return array.transpose({4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim, tuple(range(array.ndim))))


@dataclass(frozen=True)
class KerasWeightsSource:
    """Writes the weights back into the groups, names and attributes that the file came with."""

    suffix: str
    attributes: Mapping[str, object]
    layers: Mapping[str, Mapping[str, npt.NDArray[np.float32]]]

    def write(self, network: nn.Module, path: Path) -> None:
        """Write one group per layer, as `save_weights` of Keras 2 does; Keras 3 reads it too."""
        # A network that could not be traced is one node called "network".
        values = {name.removeprefix("network."): value for name, value in network.state_dict().items()}
        with replacing(path) as temporary, h5py.File(temporary, "w") as file:
            for key, value in self.attributes.items():
                file.attrs[key] = value
            for layer, arrays in self.layers.items():
                group = file.create_group(layer)
                group.attrs["weight_names"] = np.array([name.encode() for name in arrays], dtype="S")
                for name in arrays:
                    group[name] = _to_keras(values[f"{layer}.{_parameter(path, name)}"])
