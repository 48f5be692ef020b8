"""What each Keras layer is in torch: one rule per layer kind, weights in both directions.

Keras arrays are NHWC and kernels (H, W, in, out); torch tensors are NCHW and kernels (out, in, H, W). A rule
makes the torch module and says how its weights are laid out in Keras, so that a repaired module can be written back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from goodnet.formats.keras_further_modules import Attention, ChannelScale, Permute, PixelPReLU, Resize, UnitNorm
from goodnet.formats.keras_modules import (
    AvgPool2d,
    BatchNorm,
    ChannelNorm,
    ChannelSoftmax,
    ClippedReLU,
    Config,
    Conv2d,
    Flatten,
    GlobalAveragePool2d,
    GlobalMaxPool2d,
    Linear,
    MaxPool2d,
    Merge,
    Reshape,
    Scale,
    UnsupportedLayer,
    activation,
    pair,
)

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Slot:
    """Where one Keras weight lives in the torch module, and the permutation from Keras's axes to torch's."""

    parameter: str
    axes: tuple[int, ...] | None = None
    keras_shape: tuple[int, ...] | None = None

    def to_torch(self, array: Array, shape: Sequence[int]) -> Tensor:
        """Return Keras's array in torch's order of axes."""
        moved = array.transpose(self.axes) if self.axes else array
        return torch.from_numpy(np.ascontiguousarray(moved).reshape(tuple(shape)))

    def to_keras(self, tensor: Tensor) -> Array:
        """Return torch's tensor in Keras's order of axes."""
        array: Array = tensor.detach().cpu().numpy()
        if self.axes is None:
            return array
        if self.keras_shape is not None:
            array = array.reshape([self.keras_shape[axis] for axis in self.axes])
        return np.ascontiguousarray(array.transpose(np.argsort(self.axes)))


Lowered = tuple[nn.Module, list[Slot]]
_CONV = (3, 2, 0, 1)
_DEPTHWISE = (2, 3, 0, 1)


def _conv2d(config: Config, weights: list[Array]) -> Lowered:
    _, _, inside, out = weights[0].shape
    groups = config.get("groups", 1)
    module = Conv2d((inside * groups, out), config, groups=groups, bias=config["use_bias"])
    return module, [Slot("weight", _CONV), Slot("bias")][: len(weights)]


def _depthwise(config: Config, weights: list[Array]) -> Lowered:
    _, _, channels, multiplier = weights[0].shape
    module = Conv2d((channels, channels * multiplier), config, groups=channels, bias=config["use_bias"])
    return module, [Slot("weight", _DEPTHWISE, weights[0].shape), Slot("bias")][: len(weights)]


def _separable(config: Config, weights: list[Array]) -> Lowered:
    _, _, channels, multiplier = weights[0].shape
    plain = {**config, "activation": None}
    depth = Conv2d((channels, channels * multiplier), plain, groups=channels, bias=False)
    point_config = {**config, "kernel_size": 1, "strides": 1, "dilation_rate": 1, "padding": "valid"}
    point = Conv2d((channels * multiplier, weights[1].shape[3]), point_config, groups=1, bias=config["use_bias"])
    slots = [Slot("0.weight", _DEPTHWISE, weights[0].shape), Slot("1.weight", _CONV), Slot("1.bias")]
    return nn.Sequential(depth, point), slots[: len(weights)]


def _dense(config: Config, weights: list[Array]) -> Lowered:
    inputs, outputs = weights[0].shape
    module = Linear(inputs, outputs, config)
    return module, [Slot("weight", (1, 0)), Slot("bias")][: len(weights)]


def _batch_norm(config: Config, weights: list[Array]) -> Lowered:
    if not config["on_channels"] or config["rank"] not in (2, 4):
        raise UnsupportedLayer("BatchNormalization along another axis than the channels")
    module = BatchNorm(weights[0].shape[0], config)
    learnt = [name for name, used in (("weight", config["scale"]), ("bias", config["center"])) if used]
    return module, [Slot(name) for name in (*learnt, "running_mean", "running_var")]


def _layer_norm(config: Config, weights: list[Array]) -> Lowered:
    if not weights or config.get("rms_scaling"):
        raise UnsupportedLayer("LayerNormalization without scale, or with rms_scaling")
    if not config["on_channels"]:
        raise UnsupportedLayer("LayerNormalization along another axis than the channels")
    module = ChannelNorm(weights[0].shape[0], eps=config["epsilon"])
    if not (config["scale"] and config["center"]):
        raise UnsupportedLayer("LayerNormalization without scale or center")
    return module, [Slot("weight"), Slot("bias")]


def _relu(config: Config, _: list[Array]) -> Lowered:
    maximum, slope, threshold = (
        config.get("max_value"),
        config.get("negative_slope") or 0.0,
        config.get("threshold") or 0.0,
    )
    if maximum is None and not slope and not threshold:
        return nn.ReLU(), []
    return ClippedReLU(maximum, slope, threshold), []


def _leaky(config: Config, _: list[Array]) -> Lowered:
    slope = config.get("negative_slope")
    return nn.LeakyReLU(0.3 if slope is None else float(slope)), []


def _prelu(config: Config, weights: list[Array]) -> Lowered:
    if weights[0].size != weights[0].shape[-1]:
        if weights[0].ndim != 3:
            raise UnsupportedLayer("PReLU with a slope for each number")
        height, width, channels = weights[0].shape
        return PixelPReLU((channels, height, width)), [Slot("weight", (2, 0, 1), weights[0].shape)]
    return nn.PReLU(weights[0].size), [Slot("weight", tuple(range(weights[0].ndim)), weights[0].shape)]


def _zero_padding(config: Config, _: list[Array]) -> Lowered:
    (top, bottom), (left, right) = config["padding"]
    return nn.ZeroPad2d((left, right, top, bottom)), []


def _cropping(config: Config, _: list[Array]) -> Lowered:
    (top, bottom), (left, right) = config["cropping"]
    return nn.ZeroPad2d((-left, -right, -top, -bottom)), []


def _upsampling(config: Config, _: list[Array]) -> Lowered:
    mode = config.get("interpolation", "nearest")
    if mode not in ("nearest", "bilinear"):
        raise UnsupportedLayer(f"UpSampling2D with interpolation '{mode}'")
    return nn.Upsample(scale_factor=tuple(float(f) for f in pair(config["size"])), mode=mode), []


def _rescaling(config: Config, _: list[Array]) -> Lowered:
    return Scale(config["scale"], config["offset"]), []


def _normalization(config: Config, weights: list[Array]) -> Lowered:
    if config.get("invert") or not config.get("on_channels", True):
        raise UnsupportedLayer("Normalization inverted, or along another axis than the channels")
    mean, variance = (weights[0], weights[1]) if weights else (config["mean"], config["variance"])
    deviation = np.maximum(np.sqrt(np.asarray(variance, dtype=np.float32)), 1e-7)
    return Scale(1.0 / deviation, -np.asarray(mean, dtype=np.float32) / deviation), []


def _concatenate(config: Config, _: list[Array]) -> Lowered:
    axis = config["axis"]
    return Merge("Concatenate", partial(_join, axis)), []


def _softmax(config: Config, _: list[Array]) -> Lowered:
    if not config["on_channels"]:
        raise UnsupportedLayer("Softmax along another axis than the channels")
    return ChannelSoftmax(), []


def _group_norm(config: Config, weights: list[Array]) -> Lowered:
    if len(weights) != 2 or not config["on_channels"]:
        raise UnsupportedLayer("GroupNormalization without scale or center, or along another axis than the channels")
    channels = len(weights[0])
    groups = channels if config["groups"] == -1 else config["groups"]
    module = nn.GroupNorm(groups, channels, eps=config["epsilon"])
    return module, [Slot("weight"), Slot("bias")]


def _layer_scale(_: Config, weights: list[Array]) -> Lowered:
    return ChannelScale(len(weights[0])), [Slot("weight")]


def _unit_norm(config: Config, _: list[Array]) -> Lowered:
    if not config["on_channels"]:
        raise UnsupportedLayer("UnitNormalization along another axis than the channels")
    return UnitNorm(1 if config["rank"] == 4 else -1), []


def _attention(config: Config, weights: list[Array]) -> Lowered:
    return Attention(weights, config), [Slot(f"part_{number}") for number in range(len(weights))]


def _time_distributed(config: Config, weights: list[Array]) -> Lowered:
    """Return the layer inside: one that looks at each place by itself does the same to all places at once."""
    kind, inner = config["layer"]["class_name"], config["layer"]["config"]
    if kind not in _AT_EACH_PLACE:
        raise UnsupportedLayer(f"TimeDistributed around '{kind}'")
    return RULES[kind](inner, weights)


#: Layers that look at each place of an image by itself.
_AT_EACH_PLACE = frozenset({"Dense", "Activation", "ReLU", "LeakyReLU", "ELU", "Dropout", "GaussianNoise"})


def _plain(make: Callable[[Config], nn.Module]) -> Callable[[Config, list[Array]], Lowered]:
    return lambda config, _: (make(config), [])


def _reduce(kind: str, combine: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Config, list[Array]], Lowered]:
    return _plain(lambda _: Merge(kind, partial(_fold, combine)))


# Functions at the top of the module, not closures: a network must be able to cross to another process.
def _fold(combine: Callable[[Tensor, Tensor], Tensor], values: Sequence[Tensor]) -> Tensor:
    return reduce(combine, values)


def _average(values: Sequence[Tensor]) -> Tensor:
    return sum(values[1:], values[0]) / len(values)


def _add_scaled(scale: float, values: Sequence[Tensor]) -> Tensor:
    return values[0] + scale * values[1]


def _join(axis: int, values: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(values), dim=axis)


RULES: dict[str, Callable[[Config, list[Array]], Lowered]] = {
    "Conv2D": _conv2d,
    "DepthwiseConv2D": _depthwise,
    "SeparableConv2D": _separable,
    "Dense": _dense,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "MaxPooling2D": _plain(lambda c: MaxPool2d(c, maximum=True)),
    "AveragePooling2D": _plain(lambda c: AvgPool2d(c, maximum=False)),
    "GlobalAveragePooling2D": _plain(GlobalAveragePool2d),
    "GlobalMaxPooling2D": _plain(GlobalMaxPool2d),
    "Flatten": _plain(lambda c: nn.Flatten() if c["channels_first_kept"] else Flatten()),
    "Reshape": _plain(lambda c: Reshape(c["target_shape"])),
    "Activation": _plain(lambda c: activation(c["activation"]) or nn.Identity()),
    "ReLU": _relu,
    "LeakyReLU": _leaky,
    "ELU": _plain(lambda c: nn.ELU(c.get("alpha", 1.0))),
    "PReLU": _prelu,
    "Softmax": _softmax,
    "Dropout": _plain(lambda c: nn.Dropout(c["rate"])),
    "AlphaDropout": _plain(lambda _: nn.Identity()),
    "SpatialDropout2D": _plain(lambda c: nn.Dropout2d(c["rate"])),
    "GaussianDropout": _plain(lambda _: nn.Identity()),
    "GaussianNoise": _plain(lambda _: nn.Identity()),
    "ActivityRegularization": _plain(lambda _: nn.Identity()),
    "Identity": _plain(lambda _: nn.Identity()),
    "RandomFlip": _plain(lambda _: nn.Identity()),
    "RandomRotation": _plain(lambda _: nn.Identity()),
    "RandomTranslation": _plain(lambda _: nn.Identity()),
    "RandomZoom": _plain(lambda _: nn.Identity()),
    "RandomContrast": _plain(lambda _: nn.Identity()),
    "RandomBrightness": _plain(lambda _: nn.Identity()),
    "ZeroPadding2D": _zero_padding,
    "Cropping2D": _cropping,
    "UpSampling2D": _upsampling,
    "Resizing": _plain(lambda c: Resize(c, crop=False)),
    "CenterCrop": _plain(lambda c: Resize(c, crop=True)),
    "RandomCrop": _plain(lambda _: nn.Identity()),
    "Permute": _plain(lambda c: Permute(c["dims"], c["rank"])),
    "GroupNormalization": _group_norm,
    "UnitNormalization": _unit_norm,
    "LayerScale": _layer_scale,
    "MultiHeadAttention": _attention,
    "TimeDistributed": _time_distributed,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
    "Concatenate": _concatenate,
    "Add": _reduce("Add", torch.add),
    "Subtract": _reduce("Subtract", torch.sub),
    "Multiply": _reduce("Multiply", torch.mul),
    "Maximum": _reduce("Maximum", torch.maximum),
    "Minimum": _reduce("Minimum", torch.minimum),
    # The residual branch of InceptionResNetV2.
    "CustomScaleLayer": _plain(lambda c: Merge("CustomScaleLayer", partial(_add_scaled, float(c["scale"])))),
    "Average": _plain(lambda _: Merge("Average", _average)),
}


def lower(kind: str, config: Config, weights: list[Array]) -> Lowered:
    """Return the torch module of a Keras layer and the slots of its weights, in Keras's order.

    Args:
        kind: the layer's class name.
        config: its `get_config()`.
        weights: its arrays, as Keras holds them.

    Raises:
        UnsupportedLayer: there is no rule for the layer, or for one of its options.
    """
    if kind not in RULES:
        raise UnsupportedLayer(f"layer kind '{kind}'")
    module, slots = RULES[kind](config, weights)
    values = dict(module.named_parameters()) | dict(module.named_buffers())
    for slot, array in zip(slots, weights, strict=False):
        with torch.no_grad():
            values[slot.parameter].copy_(slot.to_torch(array, values[slot.parameter].shape))
    return module, slots
