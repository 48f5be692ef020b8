"""Keras files (`.h5` of Keras 2 and 3, `.keras`) <-> `Classifier`.

Keras reads and writes the file; in between the network is a torch graph of the layers' counterparts
(`keras_layers.py`), so methods meet one framework only, and `module.train()` means what it says. A final softmax is
left out of the graph and stays in the file: what comes out are logits, what is saved is what was loaded.

What a file is, its first bytes say (`keras_files.py`). Its ending decides only what is written back: X.keras is written
as a zip archive even if it came as HDF5, X.h5 as HDF5.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from torch import fx, nn

from goodnet.core.classifier import Classifier, Layout
from goodnet.core.errors import UnknownImageSize, UnreadableModel, UnwritableOutput
from goodnet.core.one_line import one_line
from goodnet.formats.files import replacing, require_file
from goodnet.formats.hdf5_files import new_hdf5
from goodnet.formats.keras_files import KERAS_ENDINGS, copy_for_keras, ending_to_write
from goodnet.formats.keras_layers import Slot, lower
from goodnet.formats.keras_modules import ChannelSoftmax, Config, UnsupportedLayer
from goodnet.formats.keras_operations import as_numbers, find_operation, marked_operations
from goodnet.formats.keras_sizes import require_fitting_weights
from goodnet.formats.shown_paths import show_path

#: `keras.ops` that may stand between layers, where all that they take is tensors.
_OPERATIONS = frozenset({"Add", "Subtract", "Multiply", "Maximum", "Minimum"})
#: Layers that act on the last axis, which holds the channels only where the layout is channels_last.
_ON_LAST_AXIS = frozenset({"Dense", "PReLU", "Reshape", "Rescaling", "TimeDistributed"})
#: Where Keras's errors quote a whole configuration.
_QUOTED = re.compile(r" using config=.*?Exception encountered(?=: )|Full object config: .*", re.DOTALL)


def import_keras() -> ModuleType:
    """Import Keras on its torch backend, or on whichever one the program has chosen before us."""
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "torch"
    import keras

    return keras  # type: ignore[no-any-return]


def is_keras_model(model: object) -> bool:
    """Whether an object is a `keras.Model`; Keras is not imported to find out."""
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(model, keras.Model)


def read_keras(path: str | Path, image_shape: tuple[int, int, int] | None = None) -> Classifier:
    """Read a whole Keras model of Keras 2 or 3, under any name.

    Args:
        path: the file.
        image_shape: (C, H, W), for models of images of any size, or of images that were flattened before.

    Raises:
        UnreadableModel: the file is damaged, holds weights alone, carries code, or has a layer without a counterpart.
    """
    path = require_file(path, UnreadableModel)
    keras = import_keras()
    with copy_for_keras(path) as copy:
        try:
            with keras.saving.custom_object_scope({"LayerScale": _layer_scale(), **marked_operations()}):
                require_fitting_weights(copy, path)
                model = keras.models.load_model(copy, compile=False, safe_mode=True)
        except UnreadableModel:
            raise
        except Exception as error:
            raise UnreadableModel(
                f"{path}: Keras {keras.__version__} cannot load this model: {_reason(error)}"
            ) from error
    ending = ending_to_write(path)
    written = ending if ending == ".keras" or _can_be_hdf5(model) else ".keras"
    classifier = from_keras(model, written, name=show_path(path.name), image_shape=image_shape)
    if written != ending:
        classifier.notes += (
            f"a repaired network is written as .keras: Keras cannot write or read this one as {ending}",
        )
    return classifier


def _can_be_hdf5(model: Any) -> bool:
    """Whether Keras reads what it writes of this model into HDF5.

    Keras 3.15 cannot write some layers there (RandomBrightness for one), and writes operations that it cannot read.
    """
    from keras.src.legacy.saving.saving_options import keras_option_scope
    from keras.src.legacy.saving.saving_utils import model_metadata

    if not all(hasattr(layer, "weights") for _, layer in weighted_layers(model)):
        return False
    try:
        with keras_option_scope(use_legacy_config=True):
            model_metadata(model, include_optimizer=False)
    except (TypeError, ValueError):
        return False
    return True


def _layer_scale() -> Any:
    """Return the layer of ConvNeXt, which Keras has and does not find by its name alone, as files of Keras 2 give it."""
    from keras.src.applications.convnext import LayerScale

    return LayerScale


def _reason(error: Exception) -> str:
    """Return why Keras could not, without the configurations that it quotes before and after."""
    return one_line(_QUOTED.sub("", str(error)) or type(error).__name__)


def from_keras(
    model: Any, suffix: str = ".keras", name: str | None = None, image_shape: tuple[int, int, int] | None = None
) -> Classifier:
    """Return a live Keras model, of any backend, as a `Classifier` with weights of its own.

    `image_shape` (C, H, W) is for models of images of any size, or of images that were flattened before.

    Raises:
        UnreadableModel: the model is subclassed, has no input yet, or several inputs or outputs, or has a layer
            without a counterpart.
    """
    name = name or model.name
    functional = graph_of(model)
    if functional is None and hasattr(model, "_functional"):
        raise UnreadableModel(f"{name}: expected a model that knows its images; begin it with keras.Input((H, W, C))")
    if functional is None:
        raise UnreadableModel(
            f"{name}: expected a Sequential or functional model, got the subclassed {type(model).__name__}"
        )
    if len(functional.inputs) != 1 or len(functional.outputs) != 1:
        raise UnreadableModel(
            f"{name}: expected one input and one output, got {len(functional.inputs)} and {len(functional.outputs)}"
        )
    layout, image_shape = _image_shape(name, functional.inputs[0].shape, _first_data_format(model), image_shape)
    lowering = _Lowering(model, name, layout)
    images = lowering.graph.placeholder("images")
    if len(functional.inputs[0].shape) == 3:
        images = lowering.graph.call_method("squeeze", (images, 1))
    if len(functional.inputs[0].shape) == 2:
        images = lowering.graph.call_method("flatten", (lowering.graph.call_method("permute", (images, 0, 2, 3, 1)), 1))
    output = lowering.add_model(model, images)
    lowering.graph.output(lowering.without_softmax(output))
    network = fx.GraphModule(lowering.modules, lowering.graph)
    source = KerasSource(suffix, _config_to_rebuild(model), lowering.weights)
    return Classifier(network, image_shape=image_shape, layout=layout, source=source, name=name)


@dataclass(frozen=True)
class KerasLayerWeights:
    """How one Keras layer's arrays are made: from the torch module's `slots`, then the `fixed` ones as they came."""

    module: str
    slots: tuple[Slot, ...]
    fixed: tuple[Any, ...]


@dataclass(frozen=True)
class KerasSource:
    """Writes a network back as a whole Keras model: `config` is its architecture, `weights` its layers by name."""

    suffix: str
    config: str
    weights: Mapping[str, KerasLayerWeights]

    def write(self, network: nn.Module, path: Path) -> None:
        """Write a whole Keras model.

        Raises:
            UnwritableOutput: the path's ending is not one of Keras's, or Keras cannot write this model in that format.
        """
        if path.suffix.lower() not in KERAS_ENDINGS:
            raise UnwritableOutput(f"{path}: a Keras network is written to .h5 or .keras, got '{path.suffix}'")
        try:
            _write_model(self.rebuild(network), path)
        except (TypeError, ValueError) as error:
            # Keras 3.15 can read layers from .h5 that it cannot write there, RandomContrast for one.
            raise UnwritableOutput(
                f"{path}: Keras cannot write this model to {path.suffix}: {_reason(error)}; take the other of .h5, .keras"
            ) from error

    def rebuild(self, network: nn.Module) -> Any:
        """Return the Keras model of the configuration, not compiled, filled with the network's weights."""
        model = import_keras().models.model_from_json(self.config)
        values = dict(network.named_parameters()) | dict(network.named_buffers())
        for name, layer in weighted_layers(model):
            weights = self.weights[name]
            if not hasattr(layer, "set_weights"):
                continue  # an operation of keras.ops
            arrays = [slot.to_keras(values[f"{weights.module}.{slot.parameter}"]) for slot in weights.slots]
            layer.set_weights([*arrays, *weights.fixed])
            if hasattr(layer, "finalize_state"):
                layer.finalize_state()
        return model


def _write_model(model: Any, path: Path) -> None:
    """Write a whole model, an archive or HDF5 by the ending, in small letters or capitals."""
    if path.suffix.lower() != ".keras":
        from keras.src.legacy.saving.legacy_h5_format import save_model_to_hdf5

        with new_hdf5(path) as file:  # `save` would let the HDF5 library write to the disk.
            save_model_to_hdf5(model, file)
        return
    with replacing(path) as temporary:
        written = temporary.with_suffix(".keras")  # Keras knows it in small letters only.
        model.save(written)
        os.replace(written, temporary)


def _config_to_rebuild(model: Any) -> str:
    """Return a model's configuration without loss and optimizer: they may be the user's own functions."""
    config = json.loads(model.to_json())
    config.pop("compile_config", None)
    return json.dumps(config)


def graph_of(layer: Any) -> Any:
    """Return the functional graph inside a Sequential or functional model, None for a layer."""
    inner = getattr(layer, "_functional", layer)
    return inner if hasattr(inner, "_nodes_by_depth") else None


def weighted_layers(model: Any, prefix: str = "", taken: set[str] | None = None) -> Iterator[tuple[str, Any]]:
    """Go through the layers of a model and of the models nested in it, each with a name of its own.

    Names become part of the code that torch makes of a graph: nothing but letters, digits and _ may come through.
    """
    taken = {"training"} if taken is None else taken
    for layer in graph_of(model).operations:
        name = prefix + re.sub(r"\W", "_", layer.name)
        while name in taken or hasattr(fx.GraphModule, name):
            name += "_"
        taken.add(name)
        if graph_of(layer) is not None:
            yield from weighted_layers(layer, f"{name}__", taken)
        elif type(layer).__name__ != "InputLayer":
            yield name, layer


class _Lowering:
    """Builds the torch graph of a Keras model, layer by layer."""

    def __init__(self, model: Any, model_name: str, layout: Layout) -> None:
        self.model_name, self.layout = model_name, layout
        self.graph, self.modules = fx.Graph(), nn.Module()
        self.weights: dict[str, KerasLayerWeights] = {}
        self.names: dict[int, str] = {}
        self.operations: set[int] = set()
        for name, layer in weighted_layers(model):
            if id(layer) not in self.names:
                self._add_layer(name, layer)
            else:
                # Met again in a nested model; the file holds it twice.
                self.weights[name] = self.weights[self.names[id(layer)]]

    def _add_layer(self, name: str, layer: Any) -> None:
        arrays = [np.array(as_numbers(weight)) for weight in getattr(layer, "weights", [])]
        if not all(np.isfinite(array).all() for array in arrays):
            raise UnreadableModel(
                f"{self.model_name}: expected finite weights, found NaN or infinity in layer {layer.name!r}; the file is "
                "damaged or its training failed"
            )
        try:
            operation = find_operation(layer, channels_last=self.layout == "NHWC")
            if operation is None:
                module, slots = lower(type(layer).__name__, self._in_torch_axes(layer), arrays)
            else:
                module, slots = operation, []
                self.operations.add(id(layer))
        except (UnsupportedLayer, KeyError) as error:
            raise self._untranslatable(layer, str(error)) from error
        self.modules.add_module(name, module)
        self.names[id(layer)] = name
        self.weights[name] = KerasLayerWeights(name, tuple(slots), tuple(arrays[len(slots) :]))

    def _untranslatable(self, layer: Any, what: str) -> UnreadableModel:
        return UnreadableModel(
            f"{self.model_name}: layer {layer.name!r} cannot be translated, {what} is not supported; "
            "load the network in PyTorch instead, or open an issue"
        )

    def _in_torch_axes(self, layer: Any) -> Config:
        """Return a layer's configuration with `axis` counted as in (N, C, H, W), and `on_channels`: is it theirs?"""
        config: Config = layer.get_config() if hasattr(layer, "get_config") else {}
        kind, rank = type(layer).__name__, len(layer._inbound_nodes[0].input_tensors[0].shape)
        data_format = config.get("data_format") or self._data_format
        if kind == "Flatten":
            config["channels_first_kept"] = self.layout == "NCHW" and data_format == "channels_last"
        if data_format != self._data_format and not config.get("channels_first_kept"):
            raise UnsupportedLayer(f"data_format '{data_format}' below a {self.layout} input")
        if self.layout == "NCHW" and (rank == 4 or kind == "Reshape"):
            scalar = kind == "Rescaling" and not np.ndim(config["scale"]) and not np.ndim(config["offset"])
            if kind in _ON_LAST_AXIS and not scalar:
                raise UnsupportedLayer(f"{kind} on channels_first feature maps")
            if "softmax" in str(config.get("activation")):
                raise UnsupportedLayer("softmax over the last axis of channels_first feature maps")
        if config.get("axis") is not None:
            axes = config["axis"] if isinstance(config["axis"], (list, tuple)) else [config["axis"]]
            order = (0, 2, 3, 1) if rank == 4 and self.layout == "NHWC" else tuple(range(rank))
            moved = [order[int(axis) % rank] for axis in axes]
            config["axis"], config["on_channels"] = moved[0], moved == [1 if rank == 4 else rank - 1]
        config["rank"] = rank
        return config

    @property
    def _data_format(self) -> str:
        return "channels_last" if self.layout == "NHWC" else "channels_first"

    def add_model(self, model: Any, images: fx.Node) -> fx.Node:
        """Add all calls of a model (and of the models nested in it) and return the output's node."""
        functional = graph_of(model)
        values = {id(functional.inputs[0]): images}
        for depth in sorted(functional._nodes_by_depth, reverse=True):
            for node in functional._nodes_by_depth[depth]:
                if node.is_input or any(id(x) not in values for x in node.input_tensors):
                    continue
                inputs = [values[id(x)] for x in node.input_tensors]
                values[id(node.output_tensors[0])] = self._add_call(node, inputs)
        return values[id(functional.outputs[0])]

    def _add_call(self, call: Any, inputs: list[fx.Node]) -> fx.Node:
        layer = call.operation
        if graph_of(layer) is not None:
            return self.add_model(layer, inputs[0])
        fits = id(layer) in self.operations or (type(layer).__name__ in _OPERATIONS and len(inputs) == 2)
        if not hasattr(layer, "weights") and not fits:
            raise self._untranslatable(layer, f"keras.ops '{type(layer).__name__}' with these arguments")
        if len({len(x.shape) for x in call.input_tensors}) > 1:
            raise self._untranslatable(layer, "merging tensors of different rank")
        return self.graph.call_module(self.names[id(layer)], tuple(inputs))

    def without_softmax(self, output: fx.Node) -> fx.Node:
        """Take a final softmax off: the core works on logits."""
        module = self.modules.get_submodule(str(output.target))
        if isinstance(module, ChannelSoftmax):
            logits = output.all_input_nodes[0]
            self.graph.erase_node(output)
            return logits
        if isinstance(getattr(module, "activation", None), ChannelSoftmax):
            setattr(module, "activation", None)  # noqa: B010
        return output


def _image_shape(
    name: str, shape: Any, data_format: str | None, given: tuple[int, int, int] | None
) -> tuple[Layout, tuple[int, int, int]]:
    """Return layout and (C, H, W) of a Keras input shape (None, ...); (None, H, W) is a grey image without an axis for it.

    What the shape leaves open is as `given` says; flat images (None, C * H * W) are images of the shape given.
    """
    layout: Layout = "NCHW" if data_format == "channels_first" and len(shape) == 4 else "NHWC"
    if len(shape) == 2 and given is not None and shape[1] == int(np.prod(given)):
        return layout, given
    sizes = (*shape[1:], 1) if len(shape) == 3 else tuple(shape[1:])
    if len(sizes) == 3 and layout == "NHWC":
        sizes = (sizes[2], sizes[0], sizes[1])
    if len(sizes) == 3 and given is not None:
        sizes = tuple(theirs if own is None else own for own, theirs in zip(sizes, given, strict=True))
    if len(sizes) != 3 or any(size is None for size in sizes):
        raise UnknownImageSize(
            f"{name}: expected images of a known size, (None, height, width, channels), got {tuple(shape)}; give it with "
            "--image-shape C,H,W"
        )
    return layout, (sizes[0], sizes[1], sizes[2])


def _first_data_format(model: Any) -> str | None:
    formats = (
        layer.get_config().get("data_format") for _, layer in weighted_layers(model) if hasattr(layer, "get_config")
    )
    return next((item for item in formats if item), None)
