"""Operations of TensorFlow in files of Keras 2 (`x / 127.5`, `x[..., ::-1]`), as layers of Keras 3 that compute the same.

Keras 2 keeps what is computed between layers as TFOpLambda and SlicingOpLambda. `preprocess_input`, which most tutorials put
into the network, is made of them. Other operations stay as they are, and are refused with their names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Config = dict[str, Any]
#: A kind of layers and its options; None where the arguments are not understood.
Layer = tuple[str, Config] | None

_PACKAGE, _KINDS = "tf_keras", ("TFOpLambda", "SlicingOpLambda")
#: How Keras 2 writes a number in the place of a tensor.
_CONSTANT = "_CONSTANT_VALUE"
_WHOLE = {"start": None, "stop": None, "step": None}
_BACKWARDS = {**_WHOLE, "step": -1}
#: The channels of images, where a file does not say.
_CHANNELS = 3


@dataclass(frozen=True)
class _Call:
    """An operation on tensors, `inputs` [name, call, tensor] each, with `options`; `number` if one is a number or a list.

    `first`: whether the number comes first.
    """

    inputs: tuple[list[Any], ...]
    options: Config
    number: Any = None
    first: bool = False


def without_tensorflow(config: Any) -> Any:
    """Return a model's configuration with layers in the place of the operations that have a counterpart.

    What Keras 2 is called since it has a package of its own (tf_keras) is called Keras.

    Raises:
        KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError: it is no configuration.
    """
    if isinstance(config, list):
        return [without_tensorflow(item) for item in config]
    if not isinstance(config, dict):
        return config
    config = {key: without_tensorflow(value) for key, value in config.items()}
    module, layers = str(config.get("module")), config.get("layers")
    if module.split(".", maxsplit=1)[0] == _PACKAGE:
        config["module"] = "keras" + module.removeprefix(_PACKAGE)
    if isinstance(layers, list):
        config["layers"] = [layer for item in layers for layer in _as_layers(item)]
    return config


def _as_layers(item: Any) -> list[Any]:
    """Return the layers that do what an operation does, the last one under its name; any other layer as it is."""
    if not isinstance(item, dict) or item.get("class_name") not in _KINDS:
        return [item]
    call, function = _read_call(item.get("inbound_nodes", ())), item["config"]["function"]
    if call is None:
        return [item]
    if function == "__operators__.getitem" and _is_backwards(call.options.get("slice_spec")):
        return _turn_channels(item, call)
    make = _MAKERS.get(function)
    made = None if make is None else make(call)
    return [item] if made is None else [_layer(made[0], item["name"], made[1], call.inputs)]


def _layer(kind: str, name: str, options: Config, inputs: Sequence[list[Any]]) -> Config:
    config = {"name": name, "trainable": True, "dtype": "float32", **options}
    nodes = [[[*place, {}] for place in inputs]]
    return {"class_name": kind, "config": config, "name": name, "inbound_nodes": nodes}


def _read_call(nodes: Any) -> _Call | None:
    """Return what an operation takes; None where it is called several times, or otherwise than is known."""
    if len(nodes) != 1 or not nodes[0]:
        return None
    node = nodes[0]
    if isinstance(node[0], list):
        return _Call(tuple(place[:3] for place in node), node[0][3]) if all(map(_is_place, node)) else None
    options = {key: value for key, value in node[3].items() if key != "name"}
    other = options.pop("y", None)
    if node[0] == _CONSTANT:
        return _Call((other,), options, node[2], first=True) if _is_place(other) else None
    if _is_place(other):
        return _Call((node[:3], other), options)
    return _Call((node[:3],), options, other)


def _is_place(value: Any) -> bool:
    return isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str) and value[0] != _CONSTANT


def _numbers(value: Any) -> list[float] | None:
    """Return a number, or a number for each channel, as a list; None for anything else."""
    values = value if isinstance(value, list) else [value]
    plain = all(isinstance(item, int | float) and not isinstance(item, bool) for item in values)
    return [float(item) for item in values] if values and plain else None


def _rescaling(scale: list[float] | float, offset: list[float] | float) -> Layer:
    one = [item[0] if isinstance(item, list) and len(item) == 1 else item for item in (scale, offset)]
    return "Rescaling", {"scale": one[0], "offset": one[1]}


def _combine(kind: str, with_numbers: Callable[[list[float], bool], Layer]) -> Callable[[_Call], Layer]:
    """Return how an operation on two tensors, or on one and a number, is made."""

    def make(call: _Call) -> Layer:
        if len(call.inputs) == 2 and not call.options:
            return kind, {}
        numbers = _numbers(call.number)
        return None if numbers is None or call.options else with_numbers(numbers, call.first)

    return make


def _divide(call: _Call) -> Layer:
    numbers = _numbers(call.number)
    if len(call.inputs) != 1 or numbers is None or call.first or call.options or 0.0 in numbers:
        return None
    return _rescaling([1 / number for number in numbers], 0.0)


def _subtract(numbers: list[float], first: bool) -> Layer:
    return _rescaling(-1.0, numbers) if first else _rescaling(1.0, [-number for number in numbers])


def _add_bias(call: _Call) -> Layer:
    numbers = _numbers(call.options.get("bias"))
    if numbers is None or call.options.get("data_format", "NHWC") not in ("NHWC", "channels_last", None):
        return None
    return _rescaling(1.0, numbers)


def _plain(kind: str, **config: Any) -> Callable[[_Call], Layer]:
    return lambda call: None if call.options or call.number is not None else (kind, config)


def _cast(call: _Call) -> Layer:
    return ("Activation", {"activation": "linear"}) if call.options == {"dtype": "float32"} else None


def _resize(call: _Call) -> Layer:
    options = {key: value for key, value in call.options.items() if value is not False}
    size, method = options.pop("size", None), options.pop("method", "bilinear")
    if options or not isinstance(size, list) or len(size) != 2 or method not in ("bilinear", "nearest"):
        return None
    return "Resizing", {"height": size[0], "width": size[1], "interpolation": method}


def _concatenate(call: _Call) -> Layer:
    return ("Concatenate", {"axis": call.options["axis"]}) if set(call.options) == {"axis"} else None


def _reshape(call: _Call) -> Layer:
    shape = call.options.get("shape")
    if not isinstance(shape, list) or len(shape) < 2 or shape[0] not in (-1, None):
        return None
    return "Reshape", {"target_shape": shape[1:]}


_MAKERS: dict[str, Callable[[_Call], Layer]] = {
    "math.truediv": _divide,
    "math.divide": _divide,
    "math.multiply": _combine("Multiply", lambda numbers, _: _rescaling(numbers, 0.0)),
    "math.subtract": _combine("Subtract", _subtract),
    "math.add": _combine("Add", lambda numbers, _: _rescaling(1.0, numbers)),
    "__operators__.add": _combine("Add", lambda numbers, _: _rescaling(1.0, numbers)),
    "nn.bias_add": _add_bias,
    "cast": _cast,
    "nn.relu": _plain("ReLU"),
    "nn.relu6": _plain("ReLU", max_value=6.0),
    "nn.sigmoid": _plain("Activation", activation="sigmoid"),
    "math.sigmoid": _plain("Activation", activation="sigmoid"),
    "nn.tanh": _plain("Activation", activation="tanh"),
    "math.tanh": _plain("Activation", activation="tanh"),
    "nn.softmax": _plain("Softmax"),
    "image.resize": _resize,
    "concat": _concatenate,
    "reshape": _reshape,
}


def _is_backwards(key: Any) -> bool:
    """Whether a key, as Keras 2 writes it, takes the last of four axes backwards and leaves the others."""
    if not isinstance(key, list) or not key or key[-1] != _BACKWARDS:
        return False
    return key[:-1] in ([{"class_name": "__ellipsis__"}], [_WHOLE] * 3)


def _turn_channels(item: Mapping[str, Any], call: _Call) -> list[Config]:
    """Return layers that put the channels in the opposite order: Keras has none that does.

    The channels become rows, which are cut out one by one and joined the other way round.
    """
    name, shape = item["name"], (item.get("build_config") or {}).get("input_shape") or [_CHANNELS]
    channels = int(shape[-1])
    rows = _layer("Permute", f"{name}_rows", {"dims": [3, 1, 2]}, call.inputs)
    cut = [
        _layer(
            "Cropping2D",
            f"{name}_{row}",
            {"cropping": [[row, channels - 1 - row], [0, 0]], "data_format": "channels_last"},
            [[f"{name}_rows", 0, 0]],
        )
        for row in reversed(range(channels))
    ]
    joined = _layer("Concatenate", f"{name}_joined", {"axis": 1}, [[layer["name"], 0, 0] for layer in cut])
    return [rows, *cut, joined, _layer("Permute", name, {"dims": [2, 3, 1]}, [[f"{name}_joined", 0, 0]])]
