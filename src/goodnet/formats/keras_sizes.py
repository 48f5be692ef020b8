"""What a Keras configuration makes, in numbers, before any of it is made."""

from __future__ import annotations

import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import h5py

from goodnet.core.errors import UnreadableModel
from goodnet.formats.declared_sizes import MOST_NUMBERS

#: Numbers that a model may have beside those in its file: the states of layers that are random in training.
_UNWRITTEN = 1 << 16


def require_fitting_weights(copy: Path, path: Path) -> None:
    """Check that a model has no more weights than its file has numbers, and makes no enormous tensor of an image.

    Keras makes the model of the configuration alone, in a scope in which weights have shapes and no values.

    Args:
        copy: the checked copy that Keras is to read.
        path: the file that it is of, for messages.

    Raises:
        UnreadableModel: it has more weights, or makes such a tensor.
        Exception: of any kind, where Keras cannot make a model of the configuration.
    """
    import keras  # on the backend that `import_keras` has chosen

    config, held = _look_into(copy)
    with keras.StatelessScope(initialize_variables=False):
        model = _make(json.loads(config), legacy=copy.suffix == ".h5")
    needed = sum(math.prod(weight.shape) for weight in getattr(model, "weights", []))
    if needed > held + _UNWRITTEN:
        raise UnreadableModel(
            f"{path}: refused, its configuration makes {needed:,} weights, its file holds {held:,}; save the model again with "
            "model.save"
        )
    largest = max((math.prod(shape) for shape in _output_shapes(model)), default=0)
    if largest > MOST_NUMBERS:
        raise UnreadableModel(
            f"{path}: refused, it makes a tensor of {largest:,} numbers of one image, more than {MOST_NUMBERS:,}; no classifier "
            "of images does"
        )


def _look_into(copy: Path) -> tuple[str, int]:
    """Return a copy's configuration, and how many numbers its weights have."""
    if copy.suffix == ".h5":
        with h5py.File(copy, "r") as file:
            return str(file.attrs["model_config"]), _count_numbers(file)
    with zipfile.ZipFile(copy) as archive:
        config, weights = archive.read("config.json").decode(), archive.read("model.weights.h5")
    with h5py.File(io.BytesIO(weights), "r") as file:
        return config, _count_numbers(file)


def _count_numbers(weights: h5py.File) -> int:
    found: list[int] = []
    weights.visititems(lambda _, item: found.append(int(item.size or 0)) if isinstance(item, h5py.Dataset) else None)
    return sum(found)


def _make(config: Any, *, legacy: bool) -> Any:
    from keras.src.legacy.saving.saving_options import keras_option_scope
    from keras.src.legacy.saving.saving_utils import model_from_config
    from keras.src.saving.serialization_lib import SafeModeScope, deserialize_keras_object

    if not legacy:
        return deserialize_keras_object(config, safe_mode=True)
    with keras_option_scope(use_legacy_config=True), SafeModeScope(True):
        return model_from_config(config)


def _output_shapes(model: Any) -> list[tuple[int, ...]]:
    """Return the shapes, without the number of images, of all tensors in a model and in the models within it."""
    shapes: list[tuple[int, ...]] = []
    for layer in getattr(getattr(model, "_functional", None) or model, "operations", None) or ():
        shapes += _output_shapes(layer)
        for node in layer._inbound_nodes:
            shapes += [tuple(size or 1 for size in tensor.shape[1:]) for tensor in node.output_tensors]
    return shapes
