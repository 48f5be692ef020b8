"""Operations of `keras.ops` between layers, in torch: numbers, parts of a tensor, tensors laid one on another, activations.

`keras.applications` prepares images with them: `preprocess_input` takes the channels apart, stacks them the other way round
and takes a mean off each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from goodnet.formats.keras_modules import ChannelSoftmax, ClippedReLU, UnsupportedLayer

#: Operations on a tensor and a number: what each does to both, in their order.
_WITH_NUMBERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "Subtract": torch.sub,
    "Multiply": torch.mul,
    "Divide": torch.div,
    "TrueDivide": torch.div,
    "Maximum": torch.maximum,
    "Minimum": torch.minimum,
}
#: Activations that are called; each is made of Keras's object.
_ACTIVATIONS: dict[str, Callable[[Any], nn.Module]] = {
    "ReLU": lambda o: ClippedReLU(o.max_value, o.negative_slope, o.threshold),
    "Relu": lambda _: nn.ReLU(),
    "Relu6": lambda _: nn.ReLU6(),
    "LeakyRelu": lambda o: nn.LeakyReLU(o.negative_slope),
    "Elu": lambda o: nn.ELU(o.alpha),
    "Selu": lambda _: nn.SELU(),
    "Gelu": lambda o: nn.GELU(approximate="tanh" if o.approximate else "none"),
    "Silu": lambda _: nn.SiLU(),
    "Sigmoid": lambda _: nn.Sigmoid(),
    "HardSigmoid": lambda _: nn.Hardsigmoid(),
    "Tanh": lambda _: nn.Tanh(),
}


#: What stands before an operation's class in a copy in HDF5.
_MARK = "keras.ops:"
_ELLIPSIS = {"class_name": "__ellipsis__", "config": {}}
_WHOLE = {"class_name": "__slice__", "config": {"start": None, "stop": None, "step": None}}


def mark_operations(config: Any) -> Any:
    """Return a configuration of an HDF5 file of Keras 3 in which no operation is called as a layer is.

    There Keras notes classes by their names alone, and cannot read what it wrote: it takes the layer `Add` for the operation,
    and knows no `GetItem`. An operation has no option that every layer has.
    """
    if isinstance(config, list):
        return [mark_operations(item) for item in config]
    if not isinstance(config, dict):
        return config
    config = {key: mark_operations(value) for key, value in config.items()}
    nodes, options = config.get("inbound_nodes"), config.get("config")
    called = "module" not in config and isinstance(nodes, list) and nodes != [] and isinstance(nodes[0], dict)
    if called and isinstance(options, dict) and "trainable" not in options and config.get("class_name") in _NAMES:
        config["class_name"] = f"{_MARK}{config['class_name']}"
        config["inbound_nodes"] = [_without_ellipsis(node) for node in nodes]
    return config


def _without_ellipsis(node: Any) -> Any:
    """Return a call in which a key names all axes: Keras cannot read an ellipsis in HDF5 either."""
    tensor, *rest = node["args"]
    if len(rest) != 1 or not isinstance(rest[0], list) or _ELLIPSIS not in rest[0]:
        return node
    place, named = rest[0].index(_ELLIPSIS), sum(part is not None for part in rest[0]) - 1
    whole = [_WHOLE] * (len(tensor["config"]["shape"]) - named)
    return {**node, "args": [tensor, [*rest[0][:place], *whole, *rest[0][place + 1 :]]]}


def marked_operations() -> dict[str, type]:
    """Return the classes of the operations by the names that `mark_operations` gives them."""
    from keras.src.activations import activations
    from keras.src.ops import nn as networks
    from keras.src.ops import numpy as arrays

    rooms = (arrays, networks, activations)
    return {f"{_MARK}{name}": next(vars(room)[name] for room in rooms if name in vars(room)) for name in _NAMES}


_NAMES = frozenset({*_WITH_NUMBERS, *_ACTIVATIONS, "GetItem", "Stack", "Softmax"})
#: All names that `mark_operations` gives.
MARKED = frozenset(f"{_MARK}{name}" for name in _NAMES)


def find_operation(layer: Any, *, channels_last: bool) -> nn.Module | None:
    """Return the counterpart of an operation of `keras.ops`; None for a layer, and for what has a rule as a layer has.

    Args:
        layer: what Keras calls between tensors.
        channels_last: whether images come with their channels last in Keras; in torch they never do.

    Raises:
        UnsupportedLayer: there is none with these arguments.
    """
    if hasattr(layer, "weights"):
        return None
    call, kind = layer._inbound_nodes[0], type(layer).__name__
    ranks = len(call.input_tensors[0].shape), len(call.output_tensors[0].shape)
    if kind in _ACTIVATIONS:
        return _ACTIVATIONS[kind](layer)
    if kind == "Softmax" and layer.axis in (-1, ranks[0] - 1) and (channels_last or ranks[0] == 2):
        return ChannelSoftmax()
    if kind == "Stack":
        return Stack(layer.axis, ranks, channels_last=channels_last)
    return _with_argument(kind, call, ranks, channels_last=channels_last)


def _with_argument(kind: str, call: Any, ranks: tuple[int, int], *, channels_last: bool) -> nn.Module | None:
    """Return the counterpart of an operation on one tensor and something else."""
    given = [*call.arguments.args, *call.arguments.kwargs.values()]
    if len(call.input_tensors) != 1 or len(given) != 2:
        return None
    first = given[0] is not call.input_tensors[0]
    other = given[0] if first else given[1]
    if kind == "GetItem":
        return Part(other, ranks, channels_last=channels_last)
    return WithNumbers(kind, as_numbers(other), first=first, rank=ranks[0]) if kind in _WITH_NUMBERS else None


def as_numbers(variable: Any) -> npt.NDArray[np.float32]:
    """Return a number or an array of Keras, whatever the backend."""
    value = variable.value if hasattr(variable, "value") else variable
    return np.asarray(value.detach().cpu().numpy() if isinstance(value, Tensor) else value, dtype=np.float32)


class WithNumbers(nn.Module):
    """An operation of Keras on a tensor and a number, or a number for each channel."""

    def __init__(self, kind: str, numbers: npt.NDArray[np.float32], *, first: bool, rank: int) -> None:
        super().__init__()
        if numbers.size > 1 and numbers.size != numbers.shape[-1]:
            raise UnsupportedLayer(f"keras.ops '{kind}' with an array of shape {numbers.shape}")
        values = torch.from_numpy(numbers.reshape(-1))
        shaped = values if numbers.size == 1 else values.reshape(1, -1, 1, 1) if rank == 4 else values
        self.register_buffer("numbers", shaped)
        self.kind, self.first = kind, first

    def forward(self, images: Tensor) -> Tensor:
        """Apply it."""
        numbers: Tensor = self.numbers  # type: ignore[assignment]
        both = (numbers, images) if self.first else (images, numbers)
        return _WITH_NUMBERS[self.kind](*both)


class _InKerasAxes(nn.Module):
    """An operation on axes as Keras counts them: images of `ranks` 4, before and after, have their channels last there."""

    def __init__(self, ranks: tuple[int, int], *, channels_last: bool) -> None:
        super().__init__()
        self.before, self.after = (channels_last and rank == 4 for rank in ranks)

    def _to_keras(self, values: Tensor) -> Tensor:
        return values.permute(0, 2, 3, 1) if self.before else values

    def _from_keras(self, values: Tensor) -> Tensor:
        return values.permute(0, 3, 1, 2) if self.after else values


class Part(_InKerasAxes):
    """A part of each image, tensor[key].

    `key` holds numbers, slices with steps of any sign, at most one ellipsis, and None for an axis.
    """

    def __init__(self, key: Any, ranks: tuple[int, int], *, channels_last: bool) -> None:
        super().__init__(ranks, channels_last=channels_last)
        parts = list(key) if isinstance(key, tuple | list) else [key]
        if not all(part is None or part is ... or isinstance(part, int | slice) for part in parts):
            raise UnsupportedLayer("keras.ops 'GetItem' with a key that is not made of numbers and slices")
        named = sum(part is not None and part is not ... for part in parts)
        place = parts.index(...) if ... in parts else len(parts)
        parts[place : place + 1] = [slice(None)] * (ranks[0] - named)
        if parts[0] != slice(None):
            raise UnsupportedLayer("keras.ops 'GetItem' of some of the images")
        self.parts = tuple(parts)

    def forward(self, values: Tensor) -> Tensor:
        """Return the part."""
        values, axis = self._to_keras(values), 0
        for part in self.parts:
            if isinstance(part, int):
                values = values.select(axis, part)
                continue
            if part is None:
                values = values.unsqueeze(axis)
            elif part != slice(None):
                chosen = range(*part.indices(values.shape[axis]))
                values = values.index_select(axis, torch.tensor(chosen, device=values.device))
            axis += 1
        return self._from_keras(values)


class Stack(_InKerasAxes):
    """Tensors laid one on another along a new axis."""

    def __init__(self, axis: int, ranks: tuple[int, int], *, channels_last: bool) -> None:
        super().__init__(ranks, channels_last=channels_last)
        self.axis = axis

    def forward(self, *values: Any) -> Tensor:
        """Return one tensor with an axis more."""
        parts: Sequence[Tensor] = values[0] if len(values) == 1 else values
        return self._from_keras(torch.stack([self._to_keras(part) for part in parts], dim=self.axis))
