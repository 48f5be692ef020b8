"""Keras weights-only files (`.h5` written by `save_weights`) <-> `Classifier`.

The file names each layer's arrays; the architecture must have modules of the same names (DeepID: conv_1 ... output).
Keras is not needed: HDF5 groups are read and written as they are. Keras 2 names the arrays too; Keras 3 (`.weights.h5`)
numbers them, in each layer's group `vars`, which carries the layer's name.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from goodnet.architectures import Architecture
from goodnet.core.classifier import Classifier
from goodnet.core.errors import UnknownImageSize, UnreadableModel, UnwritableOutput
from goodnet.core.graph import trace
from goodnet.formats.declared_sizes import require_image_size
from goodnet.formats.files import replacing, require_file
from goodnet.formats.hdf5_files import is_keras_3, new_hdf5, require_own_content
from goodnet.formats.keras import KerasSource
from goodnet.formats.pytorch import build_for, load_weights, rebuild_module
from goodnet.formats.shown_paths import show_path

#: Keras's array names and torch's parameter names.
_PARAMETERS = {
    "kernel": "weight",
    "gamma": "weight",
    "bias": "bias",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
#: Torch's names of the arrays that Keras 3 numbers, of layers that begin with a kernel, and of normalisations.
_KERNEL_FIRST = ("weight", "bias")
_NORMALISATION = ("weight", "bias", "running_mean", "running_var")
#: Where a layer's own arrays are in Keras 3's layout; deeper groups hold states such as random seeds.
_LAYER_GROUP = re.compile(r"(.*/)?layers/[^/]+/vars")

#: The endings by which Keras knows Keras 2's layout.
_NAMED_ENDINGS = (".h5", ".hdf5")


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
            require_own_content(file, show_path(path), path.stat().st_size, UnreadableModel)
            content = _read_numbered(path, file) if is_keras_3(file) else _read_named(path, file)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise UnreadableModel(
            f"{path}: expected Keras weights, as save_weights writes them, but the file is damaged"
        ) from error
    weights = {name: _to_torch(content.arrays[place]) for place, name in content.parameters.items()}
    shape = image_shape or architecture.image_shape
    if shape is None:
        raise UnknownImageSize(f"{path}: the image size is not known; give it with --image-shape C,H,W")
    require_image_size(show_path(path), shape)
    module = build_for(weights, architecture, shape)
    load_weights(module, weights, path, architecture.name)
    source = KerasWeightsSource(_ending_to_write(path, content), module, content)
    return Classifier(
        trace(module),
        image_shape=shape,
        layout="NHWC",
        source=source,
        name=show_path(path.name),
        architecture=architecture.name,
    )


@dataclass(frozen=True)
class WeightsFile:
    """A weights file's content: `arrays` by their place in it, `attributes` of its groups, and which parameter of the
    torch module each array is (`parameters`, by place). `numbered` is Keras 3's layout.
    """

    arrays: Mapping[str, npt.NDArray[np.float32]]
    attributes: Mapping[str, Mapping[str, object]]
    parameters: Mapping[str, str]
    numbered: bool


def _ending_to_write(path: Path, content: WeightsFile) -> str:
    """Return the ending with which weights are written back: one by which Keras knows their layout."""
    if content.numbered:
        return ".weights.h5"
    return path.suffix.lower() if path.suffix.lower() in _NAMED_ENDINGS else ".h5"


def _read_named(path: Path, file: h5py.File) -> WeightsFile:
    """Read Keras 2's layout: a group for each layer, which lists the names of its arrays."""
    layers = [_text(name) for name in file.attrs["layer_names"]]
    places = {layer: [_text(name) for name in file[layer].attrs["weight_names"]] for layer in layers}
    return WeightsFile(
        {f"{layer}/{key}": np.asarray(file[layer][key][()], np.float32) for layer in layers for key in places[layer]},
        {"/": dict(file.attrs)} | {layer: dict(file[layer].attrs) for layer in layers},
        {f"{layer}/{key}": f"{layer}.{_parameter(path, key)}" for layer in layers for key in places[layer]},
        numbered=False,
    )


def _read_numbered(path: Path, file: h5py.File) -> WeightsFile:
    """Read Keras 3's layout: groups within groups, arrays 0, 1, ... in the order in which a layer makes them."""
    groups: dict[str, h5py.Group] = {"/": file}
    arrays: dict[str, npt.NDArray[np.float32]] = {}

    def visit(place: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Group):
            groups[place] = item
        else:
            arrays[place] = item[()]

    file.visititems(visit)
    parameters: dict[str, str] = {}
    for place, group in groups.items():
        if _LAYER_GROUP.fullmatch(place) and len(group):
            if "name" not in group.attrs:
                raise UnreadableModel(
                    f"{path}: the layers in this file have no names, an older version of Keras 3 wrote it; open it in "
                    "Keras and save the whole model, model.save('model.keras')"
                )
            words = _KERNEL_FIRST if group["0"].ndim > 1 else _NORMALISATION
            layer = _text(group.attrs["name"])
            parameters |= {f"{place}/{index}": f"{layer}.{word}" for index, word in enumerate(words[: len(group)])}
    return WeightsFile(arrays, {place: dict(group.attrs) for place, group in groups.items()}, parameters, numbered=True)


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


def has_weights_alone(classifier: Classifier) -> bool:
    """Whether the network came as a whole Keras model; the other files that `save` writes hold only weights anyway."""
    return isinstance(classifier.source, KerasSource)


def write_weights_alone(classifier: Classifier, path: Path) -> None:
    """Write the weights of a whole Keras model to `path`, `*.weights.h5`, as Keras 3's `save_weights` does."""
    write_weights_of(classifier.to_model(), path)


def write_weights_of(model: Any, path: Path) -> None:
    """Write the file that Keras 3's `model.save_weights` writes.

    It is a part of the archive that `save` makes, which Keras writes with Python: see `new_hdf5`.
    """
    with replacing(path) as temporary:
        archive = temporary.with_name("model.keras")
        model.save(archive)
        with zipfile.ZipFile(archive) as parts:
            temporary.write_bytes(parts.read("model.weights.h5"))


@dataclass(frozen=True)
class KerasWeightsSource:
    """Writes the weights back into the groups, names and attributes that the file came with."""

    suffix: str
    module: nn.Module
    content: WeightsFile

    def write(self, network: nn.Module, path: Path) -> None:
        """Write a file of the same layout; Keras 3 reads Keras 2's too.

        Raises:
            UnwritableOutput: the path's ending is not one by which Keras knows the layout.
        """
        if not self.content.numbered and path.suffix.lower() not in _NAMED_ENDINGS:
            raise UnwritableOutput(
                f"{path}: Keras reads such weights from .h5 and .hdf5, got '{path.suffix}'; name it so"
            )
        if self.content.numbered and not path.name.endswith(self.suffix):
            raise UnwritableOutput(
                f"{path}: Keras 3 reads such weights only from files that end in {self.suffix}, got '{path.name}'; name it so"
            )
        values = self.rebuild(network).state_dict()
        with new_hdf5(path) as file:
            for place, attributes in self.content.attributes.items():
                group = file.require_group(place)
                for key, value in attributes.items():
                    group.attrs[key] = value
            for place, array in self.content.arrays.items():
                name = self.content.parameters.get(place)
                file[place] = array if name is None else _to_keras(values[name])

    def rebuild(self, network: nn.Module) -> nn.Module:
        """Return the architecture's module, filled with the network's weights."""
        return rebuild_module(self.module, network)
