"""What stored numbers are as pixels: 0..255, 0..1, or normalised already, which shows in their bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from goodnet.core.dataset import Pixels
from goodnet.core.errors import UnreadableData
from goodnet.core.preprocessing import Preprocessing, usual_preprocessings

#: Bytes of one read where a file is looked through.
_BLOCK = 16 << 20
#: How far numbers may lie beyond the bounds of a normalisation, and how near they must come to both, as shares of its range.
_ROUNDING, _REACH = 1e-3, 0.06


@dataclass(frozen=True)
class Scale:
    """How stored numbers become pixels in [0, 1]: divided by `divisor`, or a normalisation of this name undone."""

    divisor: float = 255.0
    normalisation: str | None = None

    @property
    def note(self) -> tuple[str, ...]:
        """The note for the user."""
        if self.normalisation is None:
            return ()
        return (f"the images were normalised already ({self.normalisation}, by their bounds); that is undone",)

    def to_pixels(self, block: npt.NDArray[Any], layout: str) -> Pixels:
        """Return a block of stored images as uint8 or float32 in [0, 1], NCHW."""
        if layout == "NHW":
            block = block[:, None]
        if layout == "NHWC":
            block = block.transpose(0, 3, 1, 2)
        if block.dtype == np.uint8:
            return block
        # In float16 the division would cost digits.
        wide = block.astype(np.promote_types(block.dtype, np.float32))
        if self.normalisation is None:
            return (wide / self.divisor).astype(np.float32)
        pixels = Preprocessing.read(self.normalisation).undo(torch.from_numpy(np.ascontiguousarray(wide, np.float32)))
        return pixels.clamp(0, 1).numpy()


def find_scale(name: str, images: Any, layout: str) -> Scale:
    """Return how the numbers of `images` become pixels; floats are looked through, a block at a time.

    Raises:
        UnreadableData: they are NaN, neither in 0..1 nor in 0..255 nor normalised in a usual way, or no numbers.
    """
    if images.dtype == np.uint8:
        return Scale()
    if images.dtype.kind not in "fiu":
        raise UnreadableData(f"{name}: expected images of type uint8 or float, got {images.dtype}; convert them")
    low, high = _bounds(name, images, {"NCHW": 1, "NHWC": 3}.get(layout))
    if low.min() >= 0 and high.max() <= 255:
        return Scale(1.0 if high.max() <= 1.0 and images.dtype.kind == "f" else 255.0)
    normalisation = _find_normalisation(low, high) if images.dtype.kind == "f" else None
    if normalisation is None:
        raise UnreadableData(
            f"{name}: expected pixels in 0..1 or 0..255, got {low.min():g} to {high.max():g}; if they are normalised, give the "
            "images as they were before and make the normalisation the network's first layer"
        )
    return Scale(normalisation=normalisation)


def _bounds(name: str, images: Any, axis: int | None) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the least and the largest number of each channel."""
    rows = max(1, _BLOCK // max(1, int(np.prod(images.shape[1:])) * images.dtype.itemsize))
    channels = 1 if axis is None else images.shape[axis]
    low, high = np.full(channels, np.inf), np.full(channels, -np.inf)
    others = tuple(item for item in range(len(images.shape)) if item != axis)
    for start in range(0, images.shape[0], rows):
        block = images[start : start + rows]
        low, high = np.minimum(low, block.min(axis=others)), np.maximum(high, block.max(axis=others))
        if not np.isfinite([low, high]).all() or np.isnan(block).any():
            raise UnreadableData(
                f"{name}: expected finite pixels, found NaN or infinity among images {start} to {start + len(block) - 1}; repair "
                "these images or leave them out"
            )
    return low, high


def _find_normalisation(low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]) -> str | None:
    """Return the usual normalisation whose bounds the numbers keep and reach, in each channel; None: there is no such."""
    slack: dict[str, float] = {}
    for name in usual_preprocessings(len(low)):
        way = Preprocessing.read(name)
        if way.bgr or min(way.mean) <= 0:
            continue
        mean, std = np.resize(way.mean, len(low)), np.resize(way.std, len(low))
        darkest, brightest = -mean / std, (1 - mean) / std
        room = _ROUNDING * (brightest - darkest)
        if (low >= darkest - room).all() and (high <= brightest + room).all():
            slack[name] = float((((low - darkest) + (brightest - high)) / (brightest - darkest)).max())
    best = min(slack, key=lambda name: slack[name], default=None)
    return best if best is not None and slack[best] <= _REACH else None
