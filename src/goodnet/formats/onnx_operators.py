"""What each ONNX operator of a classifier is in torch: functions of tensors, differentiable, by the operator's name.

Source: the operator's definitions of ONNX, opset 9 to 22. A function takes the node's inputs (None where an optional one is
missing), then its attributes by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Optional = Tensor | None
#: More numbers than any layer of a classifier makes of one batch: a graph that asks for them is an attack on memory.
_MOST_NUMBERS = 1 << 31


class UnsupportedOperator(Exception):
    """There is no counterpart for an operator, or for one of its options."""


def numbers(tensor: Tensor) -> list[int]:
    """Return a tensor of whole numbers (a shape, axes) as a list."""
    return [int(value) for value in tensor.reshape(-1).tolist()]


def _axes(given: Sequence[int] | None, tensor: Optional) -> list[int] | None:
    """Axes were attributes up to opset 12 and are an input since."""
    return list(given) if given is not None else None if tensor is None else numbers(tensor)


def _bounded(shape: Sequence[int]) -> list[int]:
    if int(np.prod([max(1, item) for item in shape], dtype=object)) > _MOST_NUMBERS:
        raise UnsupportedOperator(f"a tensor of shape {tuple(shape)}")
    return list(shape)


def reshape(images: Tensor, shape: Tensor, allowzero: int = 0) -> Tensor:
    """Reshape; 0 keeps a size."""
    sizes = numbers(shape)
    kept = [images.shape[i] if size == 0 and not allowzero else size for i, size in enumerate(sizes)]
    return images.reshape(kept)


def flatten(images: Tensor, axis: int = 1) -> Tensor:
    """Flatten to two axes."""
    axis = axis % images.ndim if axis < 0 else axis
    return images.reshape(int(np.prod(images.shape[:axis])), -1) if axis != 1 else images.flatten(1)


def transpose(images: Tensor, perm: Sequence[int] | None = None) -> Tensor:
    """Order the axes anew."""
    return images.permute(*(perm or range(images.ndim)[::-1]))


def squeeze(images: Tensor, axes_input: Optional = None, axes: Sequence[int] | None = None) -> Tensor:
    """Drop axes of size 1."""
    chosen = _axes(axes, axes_input)
    return images.squeeze() if chosen is None else images.squeeze(tuple(chosen))


def unsqueeze(images: Tensor, axes_input: Optional = None, axes: Sequence[int] | None = None) -> Tensor:
    """Add axes of size 1."""
    chosen = _axes(axes, axes_input) or []
    rank = images.ndim + len(chosen)
    for axis in sorted(axis % rank for axis in chosen):
        images = images.unsqueeze(axis)
    return images


def concat(*tensors: Tensor, axis: int = 0) -> Tensor:
    """Join tensors; what a graph for one image has once is repeated for each of a batch."""
    most = max(tensor.shape[0] for tensor in tensors)
    if axis % tensors[0].ndim != 0 and tensors[0].ndim > 1:
        tensors = tuple(t.expand(most, *t.shape[1:]) if t.shape[0] == 1 else t for t in tensors)
    return torch.cat(tensors, dim=axis)


def split(images: Tensor, sizes: Optional = None, *, axis: int = 0, outputs: int, **options: Any) -> Sequence[Tensor]:
    """Cut into parts."""
    parts = options.get("split") or (None if sizes is None else numbers(sizes))
    return torch.split(images, parts, dim=axis) if parts else images.chunk(outputs, dim=axis)


def slice_(images: Tensor, *inputs: Optional, **options: Any) -> Tensor:
    """Take ranges along axes."""
    starts, ends, axes, steps = (
        options.get(name) or (numbers(item) if item is not None else None)
        for name, item in zip(("starts", "ends", "axes", "steps"), (*inputs, *[None] * 4)[:4], strict=True)
    )
    if starts is None or ends is None:
        raise UnsupportedOperator("Slice without a start or an end")
    axes = axes or list(range(len(starts)))
    for start, end, axis, step in zip(starts, ends, axes, steps or [1] * len(axes), strict=True):
        size = images.shape[axis]
        indices = range(size)[slice(start, end if end >= -size else None, step)]
        if step == 1:
            images = images.narrow(axis, indices.start, len(indices))
        else:
            images = images.index_select(axis, torch.tensor(list(indices), device=images.device))
    return images


def gather(images: Tensor, indices: Tensor, axis: int = 0) -> Tensor:
    """Pick entries along an axis."""
    flat = indices.reshape(-1).long()
    flat = torch.where(flat < 0, flat + images.shape[axis], flat).to(images.device)
    picked = images.index_select(axis, flat)
    axis = axis % images.ndim
    return picked.reshape((*images.shape[:axis], *indices.shape, *images.shape[axis + 1 :]))


def shape_of(images: Tensor, start: int = 0, end: int | None = None) -> Tensor:
    """Return the shape as a tensor."""
    return torch.tensor(list(images.shape)[start:end], dtype=torch.int64)


def expand(images: Tensor, shape: Tensor) -> Tensor:
    """Repeat along axes of size 1."""
    return images.expand(_bounded(np.broadcast_shapes(tuple(images.shape), tuple(numbers(shape)))))


def tile(images: Tensor, repeats: Tensor) -> Tensor:
    """Repeat along axes."""
    counts = numbers(repeats)
    _bounded([size * count for size, count in zip(images.shape, counts, strict=True)])
    return images.repeat(*counts)


def filled(shape: Tensor, value: float = 0.0) -> Tensor:
    """Return a tensor of one number, float or whole as that number is (`ConstantOfShape`)."""
    return torch.full(_bounded(numbers(shape)), value)


def counted(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """Return numbers from a start to a limit (`Range`)."""
    first, last, step = (item.item() for item in (start, limit, delta))
    _bounded([int(abs(last - first) / abs(step)) + 1])
    return torch.arange(first, last, step, dtype=start.dtype)


def pad(images: Tensor, pads_input: Optional = None, value: Optional = None, *axes: Tensor, **options: Any) -> Tensor:
    """Add a border."""
    pads = options.get("pads") or ([] if pads_input is None else numbers(pads_input))
    if axes and axes[0] is not None:
        raise UnsupportedOperator("Pad along chosen axes")
    before, after = pads[: images.ndim], pads[images.ndim :]
    both = [number for pair in zip(reversed(before), reversed(after), strict=True) for number in pair]
    while len(both) > 2 and both[-2:] == [0, 0]:
        both = both[:-2]
    mode = options.get("mode", "constant")
    if mode != "constant":
        return F.pad(images, both, mode={"reflect": "reflect", "edge": "replicate"}[mode])
    number = options.get("value", 0.0) if value is None or not value.numel() else value.item()
    return F.pad(images, both, value=number)


def clip(images: Tensor, low: Optional = None, high: Optional = None, **options: Any) -> Tensor:
    """Hold values between bounds."""
    least = options.get("min") if low is None or not low.numel() else low.item()
    most = options.get("max") if high is None or not high.numel() else high.item()
    return images.clamp(least, most) if least is not None or most is not None else images


def reduced(kind: str) -> Callable[..., Tensor]:
    """Return what reduces along axes: `mean`, `sum`, `amax`, `amin`, `l2`."""

    def reduce(images: Tensor, axes_input: Optional = None, *, keepdims: int = 1, **options: Any) -> Tensor:
        axes = _axes(options.get("axes"), axes_input)
        if not axes:
            if options.get("noop_with_empty_axes"):
                return images
            axes = list(range(images.ndim))
        if kind == "l2":
            return images.square().sum(dim=axes, keepdim=bool(keepdims)).sqrt()
        return getattr(images, kind)(dim=axes, keepdim=bool(keepdims))  # type: ignore[no-any-return]

    reduce.__name__ = kind
    return reduce


class Reduce:
    """A picklable `reduced`: it makes the function anew where it arrives."""

    def __init__(self, kind: str) -> None:
        self.kind = self.__name__ = kind

    def __call__(self, *inputs: Any, **options: Any) -> Tensor:
        """Reduce along axes."""
        return reduced(self.kind)(*inputs, **options)


def resize(images: Tensor, *inputs: Optional, **options: Any) -> Tensor:
    """Scale images (n, C, H, W)."""
    scales, sizes = (inputs[0], None) if len(inputs) == 1 else ((*inputs, None, None)[1], (*inputs, None, None)[2])
    mode = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}[options.get("mode", "nearest")]
    placed = options.get("coordinate_transformation_mode", "half_pixel" if len(inputs) > 1 else "asymmetric")
    if sizes is not None and sizes.numel():
        target = numbers(sizes)[-2:]
    else:
        factors = options.get("scales") or (scales.tolist() if scales is not None else [])
        target = [int(size * factor) for size, factor in zip(images.shape[-2:], factors[-2:], strict=True)]
    _bounded([*images.shape[:2], *target])
    if mode == "nearest":
        return F.interpolate(images, target)
    if placed not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise UnsupportedOperator(f"Resize with {placed}")
    return F.interpolate(images, target, mode=mode, align_corners=placed == "align_corners")


def average_pool(images: Tensor, **options: Any) -> Tensor:
    """Average over windows."""
    kernel = options["kernel_shape"]
    strides, pads = _windows(images, options)
    if not any(pads):
        return F.avg_pool2d(images, kernel, strides, ceil_mode=bool(options.get("ceil_mode")))
    border = [pads[1], pads[3], pads[0], pads[2]]
    means = F.avg_pool2d(F.pad(images, border), kernel, strides, ceil_mode=bool(options.get("ceil_mode")))
    if options.get("count_include_pad"):
        return means
    # What lies outside does not count.
    return means / F.avg_pool2d(
        F.pad(torch.ones_like(images), border), kernel, strides, ceil_mode=bool(options.get("ceil_mode"))
    )


def max_pool(images: Tensor, **options: Any) -> Tensor:
    """Take the largest of windows."""
    strides, pads = _windows(images, options)
    images = F.pad(images, [pads[1], pads[3], pads[0], pads[2]], value=-torch.inf) if any(pads) else images
    dilation = options.get("dilations") or 1
    return F.max_pool2d(
        images, options["kernel_shape"], strides, dilation=dilation, ceil_mode=bool(options.get("ceil_mode"))
    )


def _windows(images: Tensor, options: dict[str, Any]) -> tuple[list[int], list[int]]:
    kernel = options["kernel_shape"]
    if len(kernel) != 2:
        raise UnsupportedOperator(f"windows of {len(kernel)} axes")
    strides = list(options.get("strides") or [1, 1])
    return strides, find_pads(images.shape[-2:], kernel, strides, options)


def find_pads(
    sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], options: dict[str, Any]
) -> list[int]:
    """Return (top, left, bottom, right) of a window's border, also where the file says SAME."""
    automatic, dilations = options.get("auto_pad", "NOTSET"), options.get("dilations") or [1, 1]
    if automatic in ("NOTSET", ""):
        return list(options.get("pads") or [0, 0, 0, 0])
    if automatic == "VALID":
        return [0, 0, 0, 0]
    whole = [
        max(0, (-(-size // stride) - 1) * stride + dilation * (width - 1) + 1 - size)
        for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True)
    ]
    less, more = [item // 2 for item in whole], [item - item // 2 for item in whole]
    return [*less, *more] if automatic == "SAME_UPPER" else [*more, *less]


def softmax(images: Tensor, dim: int = -1) -> Tensor:
    """Return probabilities."""
    return images.softmax(dim=dim)


def log_softmax(images: Tensor, dim: int = -1) -> Tensor:
    """Return the logarithm of probabilities."""
    return images.log_softmax(dim=dim)


def layer_norm(
    images: Tensor, scale: Tensor, bias: Optional = None, *, axis: int = -1, epsilon: float = 1e-5, **_: Any
) -> Tensor:
    """Normalise over the last axes."""
    shape = list(images.shape[axis % images.ndim :])
    return F.layer_norm(images, shape, scale.expand(shape), None if bias is None else bias.expand(shape), epsilon)


def instance_norm(images: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    """Normalise each channel of each image."""
    return F.instance_norm(images, weight=scale, bias=bias, eps=epsilon)


def group_norm(
    images: Tensor, scale: Tensor, bias: Tensor, *, num_groups: int, epsilon: float = 1e-5, **_: Any
) -> Tensor:
    """Normalise groups of channels."""
    if len(scale) != images.shape[1]:
        raise UnsupportedOperator("GroupNormalization with a scale per group")
    return F.group_norm(images, num_groups, scale, bias, epsilon)


def gemm(a: Tensor, b: Tensor, c: Optional = None, **options: Any) -> Tensor:
    """Multiply matrices and add."""
    a, b = (a.T if options.get("transA") else a), (b.T if options.get("transB") else b)
    product: Tensor = options.get("alpha", 1.0) * (a @ b)
    if c is not None:
        product = product + options.get("beta", 1.0) * c
    return product


def pixels_to_depth(images: Tensor, blocksize: int) -> Tensor:
    """Move blocks of pixels into channels (`SpaceToDepth`)."""
    n, c, h, w = images.shape
    cut = images.reshape(n, c, h // blocksize, blocksize, w // blocksize, blocksize)
    return cut.permute(0, 3, 5, 1, 2, 4).reshape(n, -1, h // blocksize, w // blocksize)


def mean_of(*tensors: Tensor) -> Tensor:
    """Average tensors."""
    return sum_of(*tensors) / len(tensors)


def sum_of(*tensors: Tensor) -> Tensor:
    """Add tensors."""
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total


def divide(a: Tensor, b: Tensor) -> Tensor:
    """Divide; whole numbers give whole numbers."""
    return a / b if a.is_floating_point() or b.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def hard_sigmoid(images: Tensor, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """Return a sigmoid of straight lines."""
    return (alpha * images + beta).clamp(0, 1)


def gelu(images: Tensor, approximate: str = "none") -> Tensor:
    """Return GELU."""
    return F.gelu(images, approximate=approximate)


def cast(images: Tensor, kind: torch.dtype) -> Tensor:
    """Convert numbers to `kind`. Floats keep their width, whatever float `kind` is; other numbers become float32."""
    if kind.is_floating_point and images.is_floating_point():
        return images
    return images.to(torch.float32 if kind.is_floating_point else kind)
