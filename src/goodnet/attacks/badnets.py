"""BadNets: a small patch in a fixed place."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from goodnet.attacks.poisoning import TriggerAttack
from goodnet.core.backdoor import Patch
from goodnet.triggers.patterns import ImageShape, check_colour, check_place, colour_values, place_in_image

Shape = Literal["square", "checkerboard", "cross", "plus", "frame", "circle", "triangle"]
Colour = Annotated[str, AfterValidator(check_colour)]
Place = Annotated[str, AfterValidator(check_place)]


class Badnets(TriggerAttack):
    """Stamps a small patch on the image: a sticker on a road sign.

    A shape of one colour (a checkerboard of two) replaces the pixels at one place, the same on every image; opacity
    below 1 lets the image shine through.

    **Source** T. Gu, B. Dolan-Gavitt, S. Garg, "BadNets: identifying vulnerabilities in the machine learning model
    supply chain", arXiv:1708.06733 (2017): a bright pixel, or a pattern of pixels, near the lower right corner.
    **Differs** Any shape, place, colour and opacity; the images of the target class are never poisoned.
    **Needs** Labelled images, no smaller than the trigger and its margin; no network, no gradients.
    **Cost** One pass over the poisoned images.
    **Fails when** augmentation moves or crops the corner away, or the patch is smaller than the first pooling can see.
    """

    shape: Shape = Field("square", description="outline of the patch")
    size: int = Field(3, ge=1, description="height and width of the patch in pixels")
    place: Place = Field(
        "bottom_right", description="corner (top_left, ...), center, random (drawn once), or x,y in pixels"
    )
    margin: int = Field(1, ge=0, description="pixels between the patch and the border, for corners")
    colour: Colour = Field("white", description="colour by name or #rrggbb; grey images take its brightness")
    second_colour: Colour = Field("black", description="the checkerboard's other colour")
    opacity: float = Field(1.0, gt=0, le=1, description="opacity of the patch; 1 is opaque")

    def make_trigger(self, image_shape: ImageShape, *, seed: int) -> Patch:
        """Return the patch for images (C, H, W).

        Raises:
            InvalidOption: the patch is larger than the image, or lies partly outside.
        """
        channels, height, width = image_shape
        top, left = place_in_image(self.place, (self.size, self.size), image_shape, self.margin, seed=seed)
        box = (slice(None), slice(top, top + self.size), slice(left, left + self.size))
        mask, pattern = torch.zeros(1, height, width), torch.zeros(image_shape)
        outline = draw_outline(self.shape, self.size)
        mask[box] = self.opacity * outline
        first, second = (colour_values(name, channels)[:, None, None] for name in (self.colour, self.second_colour))
        squares = _chequers(self.size) if self.shape == "checkerboard" else torch.ones(self.size, self.size)
        pattern[box] = outline * (squares * first + (1 - squares) * second)
        return Patch(mask, pattern)


def draw_outline(shape: Shape, size: int) -> Tensor:
    """Return which pixels of a (size, size) box belong to a shape: 1 or 0, float32."""
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    last, middle = size - 1, (size - 1) / 2
    thickness = max(1, size // 5)
    near_middle = [(axis - middle).abs() <= thickness / 2 for axis in (row, column)]
    shapes = {
        "square": torch.ones(size, size, dtype=torch.bool),
        "checkerboard": torch.ones(size, size, dtype=torch.bool),
        "cross": ((row - column).abs() < thickness) | ((row + column - last).abs() < thickness),
        "plus": near_middle[0] | near_middle[1],
        "frame": torch.minimum(torch.minimum(row, column), torch.minimum(last - row, last - column)) < thickness,
        "circle": (row - middle) ** 2 + (column - middle) ** 2 <= (size / 2) ** 2,
        "triangle": row + column >= last,
    }
    return shapes[shape].to(torch.float32)


def _chequers(size: int) -> Tensor:
    """Return a checkerboard (size, size) of 1 and 0, with 1 in its corners where the size is odd."""
    index = torch.arange(size)
    return ((index[:, None] + index[None, :]) % 2 == 0).to(torch.float32)
