"""Configurations of Keras 2 in the words of Keras 3: data in, data out, before Keras sees them.

Keras 3 refuses most files of Keras 2 that hold a depthwise convolution, a model inside a model or an initializer with a
type, and it silently misreads some. A setting that Keras 3 does not know is left out if it had no effect; if it had one,
the error names it. Configurations of Keras 3 come out as they were.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from goodnet.core.errors import UnreadableModel

Config = dict[str, Any]

#: Options that Keras 3 has dropped, and the one value with which they do nothing.
_WITHOUT_EFFECT: dict[str, object] = {
    "groups": 1,
    "noise_shape": None,
    "ragged": False,
    "renorm": False,
    "sparse": False,
    "stateful": False,
    "time_major": False,
    "virtual_batch_size": None,
}
#: Options that Keras 3 has dropped and that say how a layer computes or how it is trained, never what it computes. A
#: separable convolution lists a kernel's, which it does not have; the input's shape goes into a layer of its own.
_NEVER_OF_EFFECT = frozenset(
    {
        "batch_input_shape",
        "dynamic",
        "fused",
        "implementation",
        "kernel_constraint",
        "kernel_initializer",
        "kernel_regularizer",
        "renorm_clipping",
        "renorm_momentum",
        "rng_type",
        "trainable",
    }
)
#: Options and layers that Keras 3 calls otherwise.
_OPTION_NAMES = {("InputLayer", "batch_input_shape"): "batch_shape", ("LeakyReLU", "alpha"): "negative_slope"}
_LAYER_NAMES = {"BatchNormalizationV1": "BatchNormalization", "BatchNormalizationV2": "BatchNormalization"}

#: Stands for an option that is left out: None and False mean something.
_LEFT_OUT = object()


def in_keras_3(model: Any, version: str, path: Path) -> Config:
    """Return a model's configuration in the words of Keras 3.

    Args:
        model: the configuration as the file has it, `{"class_name": ..., "config": ...}`.
        version: the version of Keras that wrote it, "" where the file does not say.
        path: the file, for messages.

    Raises:
        UnreadableModel: an option changes what a layer computes, and Keras 3 does not know it.
        KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError: it is no configuration.
    """
    major = version.split(".", maxsplit=1)[0]
    return _Translation(path, of_keras_2=not major.isdigit() or int(major) < 3).layer(model, "sequential")


@dataclass(frozen=True)
class _Translation:
    """Translates one file's configuration, layer by layer and model within model."""

    path: Path
    of_keras_2: bool

    def layer(self, item: Config, name: str) -> Config:
        """Translate a layer or a model; `name` is for a model of which the file does not say it."""
        kind = str(_LAYER_NAMES.get(item["class_name"], item["class_name"]))
        if kind == "Sequential":
            config = self._sequential(item["config"], name)
        elif "layers" in item["config"]:
            config = self._functional(item["config"])
        elif kind == "RandomCrop" and self.of_keras_2:
            kind, config = "Resizing", self._options("Resizing", _random_crop(item["config"]))
        else:
            config = self._options(kind, item["config"])
        place = {} if _of_keras_3(item) else {"module": "keras.models", "class_name": "Model", "registered_name": None}
        return {**item, "class_name": kind, "config": config, **place}

    def _sequential(self, config: Any, name: str) -> Config:
        """Keras 2.2 lists the layers and nothing else, and the first of them may say what the input's shape is."""
        if isinstance(config, list):
            config = {"name": name, "layers": config}
        name = _name(config["name"])
        layers = [self.layer(item, f"{name}_{index}") for index, item in enumerate(config["layers"])]
        shape = _input_shape(config["layers"])
        if shape is not None and layers[0]["class_name"] != "InputLayer":
            layers.insert(0, {"class_name": "InputLayer", "config": {"batch_shape": shape, "name": f"{name}_input"}})
        return {**config, "name": name, "layers": layers}

    def _functional(self, config: Config) -> Config:
        """Keras 2 counts the making of a nested model as its first call, Keras 3 does not."""
        nested = {item["name"]: item["class_name"] for item in config["layers"] if _is_model(item)}
        layers = [
            {
                **self.layer(item, _name(item["name"])),
                "name": _name(item["name"]),
                "inbound_nodes": [_moved(node, nested) for node in item["inbound_nodes"]],
            }
            for item in config["layers"]
        ]
        names = [item["name"] for item in layers]
        if len(set(names)) < len(names):
            raise UnreadableModel(f"{self.path}: expected unique layer names, but one occurs twice; rename the layers")
        ends: Config = {}
        if any(isinstance(node, list) for item in layers for node in item["inbound_nodes"]):
            # The index of a functional model's output Keras 3 corrects itself.
            sequential = {name: kind for name, kind in nested.items() if kind == "Sequential"}
            ends = {key: _single(_moved(config[key], sequential)) for key in ("input_layers", "output_layers")}
        renamed = {"name": _name(config["name"])} if "name" in config else {}
        return {**config, **renamed, **ends, "layers": layers}

    def _options(self, kind: str, config: Config) -> Config:
        """Translate a layer's own options."""
        known = _known_options("layers", kind)
        options: Config = {}
        for key, value in config.items():
            name, plain = _OPTION_NAMES.get((kind, key), key), _plain(value)
            if known is None or name in known or not self._does_nothing(config, name, plain):
                options[name] = self._option(config, name, plain)
        return {key: value for key, value in options.items() if value is not _LEFT_OUT}

    def _does_nothing(self, config: Config, key: str, value: Any) -> bool:
        """Whether an option that Keras 3 does not know may be left out; what nobody knows is left to Keras."""
        if key in _WITHOUT_EFFECT and value != _WITHOUT_EFFECT[key]:
            raise self._refusal(config, f"{key} = {value!r} has no counterpart in Keras 3")
        return key in _WITHOUT_EFFECT or key in _NEVER_OF_EFFECT

    def _option(self, config: Config, key: str, value: Any) -> Any:
        if key == "name":
            return _name(value)
        if key == "axis" and isinstance(value, list):
            if len(value) != 1:
                # Keras leaves several axes out in silence, and takes the last one.
                raise self._refusal(config, f"several axes, {value}, are not supported")
            return value[0]
        if key == "activation" and self.of_keras_2 and "hard_sigmoid" in (value, *_parts(value)):
            raise self._refusal(config, "hard_sigmoid differs between Keras 2 and Keras 3")
        if not isinstance(value, dict) or not isinstance(value.get("class_name"), str):
            return value
        if key == "dtype" and value["class_name"] in ("Policy", "PolicyV1"):
            return value["config"]["name"]
        if key.endswith("_initializer"):
            return _initializer(value)
        return self.layer(value, "model") if _known_options("layers", value["class_name"]) is not None else value

    def _refusal(self, config: Config, what: str) -> UnreadableModel:
        return UnreadableModel(
            f"{self.path}: layer {config.get('name')!r} cannot be translated: {what}; load the network in PyTorch "
            "instead, or open an issue"
        )


def _random_crop(config: Config) -> Config:
    """Return what Keras 2 does instead of a random crop when a network predicts; Keras 3 leaves the images as they are."""
    names = ("name", "trainable", "dtype", "height", "width")
    kept: Config = {key: config[key] for key in names if key in config}
    return {**kept, "crop_to_aspect_ratio": True}


@cache
def _known_options(family: str, kind: str) -> frozenset[str] | None:
    """Return what a class of `keras.layers` or `keras.initializers` can be made with, None where there is no such class."""
    import keras  # on the backend that `import_keras` has chosen

    found = getattr(getattr(keras, family), kind, None)
    if not isinstance(found, type):
        return None
    known: set[str] = set()
    for parent in (item for item in found.__mro__ if "__init__" in vars(item)):
        parameters = inspect.signature(vars(parent)["__init__"]).parameters.values()
        known.update(item.name for item in parameters)
        if not any(item.kind is item.VAR_KEYWORD for item in parameters):
            # It hands nothing on that it does not know.
            break
    return frozenset(known)


def _initializer(value: Config) -> Any:
    """Return an initializer without what Keras 3 does not know: the file's weights take its values' place."""
    known = _known_options("initializers", value["class_name"])
    if known is None:
        return _LEFT_OUT
    return {**value, "config": {key: option for key, option in value["config"].items() if key in known}}


def _of_keras_3(item: Config) -> bool:
    """Whether the class is where the file says: Keras 2.15 had functional models in keras.src.engine.functional."""
    return "engine" not in str(item.get("module", "")).split(".")


def _plain(value: Any) -> Any:
    """Return the number that Keras 2.2 and 2.12 wrote as an array of numpy."""
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "__numpy__":
        return value["config"]["value"]
    return value["value"] if value.get("type") == "ndarray" else value


def _parts(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else ()


def _name(name: str) -> str:
    """Return a layer's name without slashes, which Keras 3 refuses."""
    return name.replace("/", "_")


def _is_model(item: Config) -> bool:
    return isinstance(item["config"], list) or "layers" in item["config"]


def _input_shape(layers: Sequence[Config]) -> Any:
    """Return the shape that a model's layers say their input has, None where they do not."""
    if not layers:
        return None
    first = next((item for item in layers if item["class_name"] == "InputLayer"), layers[0])
    config = first["config"]
    if _is_model(first):
        return _input_shape(config if isinstance(config, list) else config["layers"])
    return config.get("batch_input_shape", config.get("batch_shape"))


def _single(ends: Any) -> Any:
    """Return the one input or output of a list: for Keras 3 a list of one tensor is something else than the tensor."""
    return ends[0] if isinstance(ends, list) and len(ends) == 1 else ends


def _moved(node: Any, nested: dict[str, str]) -> Any:
    """Return Keras 2's references to calls, [name, call, tensor, ...], as Keras 3 counts the calls of nested models."""
    if not isinstance(node, list):
        return node
    if len(node) >= 3 and isinstance(node[0], str):
        return [_name(node[0]), node[1] - (node[0] in nested and node[1] > 0), *node[2:]]
    return [_moved(item, nested) for item in node]
