"""Torch modules that compute what Keras layers compute, on NCHW tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Config = dict[str, Any]


class UnsupportedLayer(Exception):
    """A layer, or an option of one, has no counterpart here."""


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """Return a size that Keras gives as one number or two as two."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _same_padding(
    size: Sequence[int], kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> list[int]:
    """Return F.pad's (left, right, top, bottom) for TensorFlow's "same": the odd pixel goes right and below."""
    padding: list[int] = []
    for extent, k, s, d in zip(reversed(size), reversed(kernel), reversed(stride), reversed(dilation), strict=True):
        total = max((-(-extent // s) - 1) * s + (k - 1) * d + 1 - extent, 0)
        padding += [total // 2, total - total // 2]
    return padding


class Conv2d(nn.Conv2d):
    """Convolution with Keras's padding rule and the activation that Keras keeps inside the layer."""

    def __init__(self, channels: tuple[int, int], config: Config, *, groups: int, bias: bool) -> None:
        kernel, stride = pair(config["kernel_size"]), pair(config["strides"])
        super().__init__(*channels, kernel, stride, dilation=pair(config["dilation_rate"]), groups=groups, bias=bias)
        self.same = config["padding"] == "same"
        self.activation = activation(config.get("activation"))

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, out, H', W')."""
        if self.same:
            kernel, stride, dilation = pair(self.kernel_size), pair(self.stride), pair(self.dilation)
            input = F.pad(input, _same_padding(input.shape[2:], kernel, stride, dilation))
        output = super().forward(input)
        return output if self.activation is None else self.activation(output)


class Linear(nn.Linear):
    """Dense layer; on feature maps it acts on the channels, which Keras keeps last."""

    def __init__(self, inputs: int, outputs: int, config: Config) -> None:
        super().__init__(inputs, outputs, bias=config["use_bias"])
        self.activation = activation(config.get("activation"))

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, in) to (N, out), or (N, in, H, W) to (N, out, H, W)."""
        if input.ndim == 4:
            return self._activate(super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        return self._activate(super().forward(input))

    def _activate(self, output: Tensor) -> Tensor:
        return output if self.activation is None else self.activation(output)


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation over channels, for feature maps and vectors; scale and shift may each be missing."""

    def __init__(self, channels: int, config: Config) -> None:
        super().__init__(channels, eps=config["epsilon"], momentum=1.0 - config["momentum"])
        if not config["scale"]:
            self.weight = None  # type: ignore[assignment]
        if not config["center"]:
            self.bias = None  # type: ignore[assignment]

    def _check_input_dim(self, input: Tensor) -> None:
        return


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the last Keras axis: the channels of a feature map, the features of a vector."""

    def forward(self, input: Tensor) -> Tensor:
        """Keep the shape."""
        if input.ndim == 4:
            return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return super().forward(input)


class Pool2d(nn.Module):
    """Maximum or average pooling with Keras's padding rule; padded pixels never count."""

    def __init__(self, config: Config, *, maximum: bool) -> None:
        super().__init__()
        self.kernel, self.stride = pair(config["pool_size"]), pair(config["strides"] or config["pool_size"])
        self.same, self.maximum = config["padding"] == "same", maximum

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H', W')."""
        if not self.same:
            pool = F.max_pool2d if self.maximum else F.avg_pool2d
            return pool(input, self.kernel, self.stride)
        padding = _same_padding(input.shape[2:], self.kernel, self.stride, (1, 1))
        if self.maximum:
            return F.max_pool2d(F.pad(input, padding, value=-torch.inf), self.kernel, self.stride)
        inside = F.pad(torch.ones_like(input[:1, :1]), padding)
        total = F.avg_pool2d(F.pad(input, padding), self.kernel, self.stride)
        return total / F.avg_pool2d(inside, self.kernel, self.stride)


class MaxPool2d(Pool2d):
    """Maximum pooling."""


class AvgPool2d(Pool2d):
    """Average pooling."""


class GlobalAveragePool2d(nn.Module):
    """Mean over height and width."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.keepdims = bool(config.get("keepdims"))

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C)."""
        return input.mean(dim=(2, 3), keepdim=self.keepdims)


class GlobalMaxPool2d(GlobalAveragePool2d):
    """Maximum over height and width."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C)."""
        return input.amax(dim=(2, 3), keepdim=self.keepdims)


class Flatten(nn.Module):
    """Flatten in Keras's order: height, width, channel."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, H * W * C)."""
        return input.permute(0, 2, 3, 1).flatten(1) if input.ndim == 4 else input.flatten(1)


class Reshape(nn.Module):
    """Reshape in Keras's order of elements."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, ...) to (N, *shape), feature maps kept NCHW."""
        values = input.permute(0, 2, 3, 1) if input.ndim == 4 else input
        values = values.reshape(input.shape[0], *self.shape)
        return values.permute(0, 3, 1, 2) if values.ndim == 4 else values


class Scale(nn.Module):
    """x * factor + offset, per channel or for all: Keras's Rescaling and Normalization."""

    factor: Tensor
    offset: Tensor

    def __init__(self, factor: Any, offset: Any) -> None:
        super().__init__()
        for name, value in (("factor", factor), ("offset", offset)):
            flat = torch.as_tensor(np.asarray(value, dtype=np.float32)).flatten()
            self.register_buffer(name, flat.reshape(-1, 1, 1) if flat.numel() > 1 else flat.reshape(()))

    def forward(self, input: Tensor) -> Tensor:
        """Keep the shape."""
        if input.ndim == 4:
            return input * self.factor + self.offset
        return input * self.factor.flatten() + self.offset.flatten()


class Merge(nn.Module):
    """One output of several inputs: add, multiply, concatenate, ..."""

    def __init__(self, kind: str, combine: Callable[[Sequence[Tensor]], Tensor]) -> None:
        super().__init__()
        self.kind, self.combine = kind, combine

    def forward(self, *inputs: Any) -> Tensor:
        """Combine the inputs, given one by one or as one list."""
        return self.combine(inputs[0] if len(inputs) == 1 else inputs)


class ClippedReLU(nn.Module):
    """Keras's ReLU with its three options: slope below, threshold, cap."""

    def __init__(self, maximum: float | None, slope: float, threshold: float) -> None:
        super().__init__()
        self.maximum, self.slope, self.threshold = maximum, slope, threshold

    def forward(self, input: Tensor) -> Tensor:
        """Keep the shape."""
        output = torch.where(input >= self.threshold, input, self.slope * (input - self.threshold))
        return output if self.maximum is None else output.clamp(max=self.maximum)


class Exponential(nn.Module):
    """The exponential function."""

    def forward(self, input: Tensor) -> Tensor:
        """Keep the shape."""
        return input.exp()


class ChannelSoftmax(nn.Module):
    """Softmax over the channels (dimension 1 in NCHW, as in a vector)."""

    def forward(self, input: Tensor) -> Tensor:
        """Keep the shape."""
        return input.softmax(dim=1 if input.ndim == 4 else -1)


_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
    "mish": nn.Mish,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "hard_sigmoid": nn.Hardsigmoid,
    "hard_swish": nn.Hardswish,
    "hard_silu": nn.Hardswish,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "exponential": Exponential,
    "softmax": ChannelSoftmax,
    "log_softmax": lambda: nn.LogSoftmax(dim=1),
}


#: Layers that stand as the activation of another layer.
_ACTIVATION_LAYERS: dict[str, Callable[[Config], nn.Module]] = {
    "ReLU": lambda c: ClippedReLU(c.get("max_value"), c.get("negative_slope") or 0.0, c.get("threshold") or 0.0),
    "LeakyReLU": lambda c: nn.LeakyReLU(float(c["negative_slope"] if "negative_slope" in c else c.get("alpha", 0.3))),
    "ELU": lambda c: nn.ELU(float(c.get("alpha", 1.0))),
    "Softmax": lambda _: ChannelSoftmax(),
}


def activation(config: Any) -> nn.Module | None:
    """Return the torch module of a Keras activation (name or config), None for the identity."""
    if isinstance(config, dict) and config.get("class_name") in _ACTIVATION_LAYERS:
        return _ACTIVATION_LAYERS[config["class_name"]](config["config"])
    if isinstance(config, dict) and config.get("class_name") != "function":
        raise UnsupportedLayer(f"a layer '{config.get('class_name')}' as the activation of another layer")
    name = config["config"] if isinstance(config, dict) else config
    if name in (None, "linear"):
        return None
    if name not in _ACTIVATIONS:
        raise UnsupportedLayer(f"activation '{name}'")
    return _ACTIVATIONS[name]()
