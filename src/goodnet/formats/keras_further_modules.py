"""More torch modules that compute what Keras layers compute: sizes and crops, norms, attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goodnet.formats.keras_modules import Config, UnsupportedLayer


class Resize(nn.Module):
    """Scale images (n, C, H, W) to a size, or take their middle (`crop`)."""

    def __init__(self, config: Config, *, crop: bool) -> None:
        super().__init__()
        self.size, self.crop = (int(config["height"]), int(config["width"])), crop
        self.keeps_aspect = bool(config.get("crop_to_aspect_ratio"))
        self.mode = str(config.get("interpolation", "bilinear"))
        if not crop and self.mode not in ("bilinear", "nearest"):
            raise UnsupportedLayer(f"Resizing with interpolation '{self.mode}'")
        if config.get("pad_to_aspect_ratio") or config.get("antialias"):
            raise UnsupportedLayer("Resizing with padding or antialias")

    def forward(self, images: Tensor) -> Tensor:
        """Bring images to the size."""
        height, width = images.shape[2:]
        if self.crop:
            if height < self.size[0] or width < self.size[1]:
                raise ValueError(f"images of {(height, width)} are smaller than the middle {self.size} that is cut out")
            return _middle(images, *self.size)
        if self.keeps_aspect:
            # Of the image's middle with the aspect ratio that is asked for.
            images = _middle(
                images,
                min(height, width * self.size[0] // self.size[1]),
                min(width, height * self.size[1] // self.size[0]),
            )
        if self.mode == "nearest":
            # The pixel under the middle of each new one, as TensorFlow takes it; torch's "nearest" takes that under its corner.
            return F.interpolate(images, self.size, mode="nearest-exact")
        return F.interpolate(images, self.size, mode="bilinear", align_corners=False)


def _middle(images: Tensor, height: int, width: int) -> Tensor:
    top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    return images[:, :, top : top + height, left : left + width]


class Permute(nn.Module):
    """Order the axes of images anew, as Keras counts them (H, W, C from 1)."""

    def __init__(self, dims: Sequence[int], rank: int) -> None:
        super().__init__()
        self.dims, self.rank = tuple(dims), rank

    def forward(self, images: Tensor) -> Tensor:
        """Return images with their axes in the new order."""
        if self.rank != 4:
            return images.permute(0, *self.dims)
        return images.permute(0, 2, 3, 1).permute(0, *self.dims).permute(0, 3, 1, 2)


class UnitNorm(nn.Module):
    """Divide by the length along an axis."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, images: Tensor) -> Tensor:
        """Return the input divided by its length along the axis."""
        # Keras takes the root of at least 1e-12.
        return images * images.square().sum(dim=self.axis, keepdim=True).clamp_min(1e-12).rsqrt()


class ChannelScale(nn.Module):
    """Multiply each channel by a learnt number."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, images: Tensor) -> Tensor:
        """Return scaled channels: axis 1 of feature maps, the last of others."""
        return images * (self.weight.reshape(-1, 1, 1) if images.ndim == 4 else self.weight)


class PixelPReLU(nn.Module):
    """ReLU with a learnt slope below 0 for each pixel of each channel, or for each row or column: Keras's default."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))

    def forward(self, images: Tensor) -> Tensor:
        """Keep the shape."""
        return torch.where(images >= 0, images, self.weight * images)


class Attention(nn.Module):
    """Attention of several heads over tokens (n, tokens, features); weights as Keras shapes them."""

    def __init__(self, arrays: Sequence[npt.NDArray[np.float32]], config: Config) -> None:
        super().__init__()
        if len(arrays) != 8 or config.get("attention_axes") not in (None, [1], (1,), 1):
            raise UnsupportedLayer("MultiHeadAttention without biases, or along chosen axes")
        for number, array in enumerate(arrays):
            self.register_parameter(f"part_{number}", nn.Parameter(torch.zeros(array.shape)))

    def forward(self, query: Tensor, value: Tensor, key: Tensor | None = None) -> Tensor:
        """Return (n, tokens, features)."""
        parts = [getattr(self, f"part_{number}") for number in range(8)]
        project = partial(torch.einsum, "ntd,dhk->nhtk")
        q = project(query, parts[0]) + parts[1][:, None]
        k = project(value if key is None else key, parts[2]) + parts[3][:, None]
        v = project(value, parts[4]) + parts[5][:, None]
        weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])).softmax(dim=-1)
        output: Tensor = torch.einsum("nhtk,hkd->ntd", weights @ v, parts[6]) + parts[7]
        return output
