"""What triggers are drawn with: patterns that are added, colours, places, overlays from pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageColor, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from goodnet.core.backdoor import Patch
from goodnet.core.errors import InvalidOption, UnreadableData, WrongShape
from goodnet.formats.files import require_file
from goodnet.formats.first_bytes import PICTURES

ImageShape = tuple[int, int, int]

#: Weights of red, green and blue in a grey image (ITU-R BT.601).
_LUMINANCE = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Additive:
    """The trigger that is added to the image: clip(image + pattern, 0, 1).

    `pattern` (C, H, W) float32 in [-1, 1].
    """

    pattern: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Add the pattern to images (N, C, H, W) in [0, 1].

        Raises:
            WrongShape: the images are of another shape than the pattern.
        """
        if images.shape[1:] != self.pattern.shape:
            raise WrongShape(
                f"the trigger is made for images {tuple(self.pattern.shape)} (C, H, W), got {tuple(images.shape[1:])}"
            )
        return (images + self.pattern.to(images.device)).clamp(0, 1)

    @property
    def norm(self) -> float:
        """L2 norm of the pattern, for pixels in [0, 1]."""
        return float(self.pattern.norm())


def check_colour(name: str) -> str:
    """Return `name` if it is a colour ('red', '#ff8800', 'rgb(255, 128, 0)').

    Raises:
        ValueError: it is none; pydantic turns this into an `InvalidOption`.
    """
    try:
        ImageColor.getrgb(name)
    except ValueError as error:
        raise ValueError(f"expected a colour such as red or #ff8800, got '{name}'") from error
    return name


def colour_values(name: str, channels: int) -> Tensor:
    """Return a colour as (channels,) float32 in [0, 1]: grey for one channel, RGB (opaque) for three (four)."""
    rgb = torch.tensor(ImageColor.getrgb(name)[:3], dtype=torch.float32) / 255
    return _to_channels(rgb[:, None, None], channels)[:, 0, 0]


def place_in_image(
    place: str, size: tuple[int, int], image_shape: ImageShape, margin: int, *, seed: int
) -> tuple[int, int]:
    """Return (top row, left column) of a trigger of `size` (height, width) in pixels.

    `place` is a corner ('top_left', 'top_right', 'bottom_left', 'bottom_right'), 'center', 'random' (drawn once from
    `seed`) or 'x,y': column and row of the trigger's top left pixel. `margin` pixels are kept free at the border.

    Raises:
        InvalidOption: the trigger is larger than the image, or part of it would lie outside.
    """
    _, height, width = image_shape
    rows, columns = height - size[0], width - size[1]
    corners = {
        "top_left": (margin, margin),
        "top_right": (margin, columns - margin),
        "bottom_left": (rows - margin, margin),
        "bottom_right": (rows - margin, columns - margin),
        "center": (rows // 2, columns // 2),
    }
    if rows < 0 or columns < 0 or (place in corners and min(corners[place]) < 0):
        raise InvalidOption(
            f"a trigger of {size[1]} x {size[0]} pixels with a margin of {margin} does not fit images of "
            f"{width} x {height} (width x height); choose a smaller size"
        )
    if place == "random":
        rng = np.random.default_rng(seed)
        return int(rng.integers(0, rows + 1)), int(rng.integers(0, columns + 1))
    top, left = corners[place] if place in corners else parse_place(place)
    if not (0 <= top <= rows and 0 <= left <= columns):
        raise InvalidOption(
            f"place '{place}': a trigger of {size[1]} x {size[0]} pixels would leave the image; "
            f"expected x in 0..{columns}, y in 0..{rows}"
        )
    return top, left


PLACES = ("top_left", "top_right", "bottom_left", "bottom_right", "center", "random")


def check_place(place: str) -> str:
    """Return `place` if `place_in_image` can read it.

    Raises:
        ValueError: it cannot; pydantic turns this into an `InvalidOption`.
    """
    if place not in PLACES:
        parse_place(place)
    return place


def parse_place(place: str) -> tuple[int, int]:
    """Return (row, column) of a place 'x,y'.

    Raises:
        ValueError: it is of another form.
    """
    parts = place.replace(" ", "").split(",")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise ValueError(f"expected {', '.join(PLACES)} or x,y in pixels, got '{place}'")
    return int(parts[1]), int(parts[0])


def read_overlay(path: str | Path, image_shape: ImageShape) -> Patch:
    """Read a picture with transparency as a patch: its alpha channel is the mask; it is scaled to the images' size.

    A picture without an alpha channel covers the image wholly.

    Raises:
        UnreadableData: the file is not a picture.
    """
    pixels = torch.from_numpy(_read_rgba(Path(path))).permute(2, 0, 1).to(torch.float32) / 255
    return resize_overlay(pixels[3:], pixels[:3], image_shape)


def resize_overlay(mask: Tensor, colours: Tensor, image_shape: ImageShape) -> Patch:
    """Scale an overlay, mask (1, h, w) and RGB colours (3, h, w) in [0, 1], to a patch for images (C, H, W).

    Colours are weighted by the mask while scaled, so that what lies under a transparent pixel does not bleed in.
    """
    channels, height, width = image_shape
    if mask.shape[1:] != (height, width):
        small = _resize(torch.cat([mask * colours, mask]), height, width)
        mask, colours = small[3:], small[:3] / small[3:].clamp(min=1e-6)
    return Patch(mask.clamp(0, 1), _to_channels(colours.clamp(0, 1), channels))


def draw_enlarged(draw: Callable[[int, int], Tensor], height: int, width: int, factor: int = 4) -> Tensor:
    """Return a drawing (C, height, width) with smooth edges: drawn `factor` times as large, then averaged."""
    return functional.avg_pool2d(draw(height * factor, width * factor)[None], factor)[0]


def _resize(values: Tensor, height: int, width: int) -> Tensor:
    return functional.interpolate(values[None], (height, width), mode="bilinear", align_corners=False, antialias=True)[
        0
    ]


def _to_channels(rgb: Tensor, channels: int) -> Tensor:
    """Return RGB (3, H, W) with 1 (grey), 3 or 4 (opaque) channels."""
    if channels == 1:
        return (rgb * torch.tensor(_LUMINANCE)[:, None, None]).sum(0, keepdim=True)
    if channels == 3:
        return rgb
    if channels == 4:
        return torch.cat([rgb, torch.ones_like(rgb[:1])])
    raise WrongShape(f"expected images with 1, 3 or 4 channels for a coloured trigger, got {channels}")


def _read_rgba(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    try:
        with Image.open(require_file(path), formats=tuple(PICTURES)) as picture:
            return np.array(picture.convert("RGBA"), dtype=np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableData(
            f"{path}: expected a picture (PNG with transparency), but the file is damaged or of another kind"
        ) from error
