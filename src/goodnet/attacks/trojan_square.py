"""The trojan square: a block of vivid colours is added to a corner."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import AfterValidator, Field

from goodnet.attacks.poisoning import TriggerAttack
from goodnet.triggers.patterns import Additive, ImageShape, check_place, place_in_image


class TrojanSquare(TriggerAttack):
    """Adds a square of vivid random colours to the image.

    Each pixel of the square has each channel raised by 0 or by up to the strength, drawn once, as in the inverted
    squares of the paper; the image is added to, not replaced.

    **Source** Y. Liu et al., "Trojaning attack on neural networks", NDSS 2018, the square trigger; the additive form
    as in the checkpoints published with Y. Zeng et al., "Adversarial unlearning of backdoors via implicit
    hypergradient", ICLR 2022 (I-BAU).
    **Differs** The colours are drawn at random; the paper fits them to a neuron of the network that is attacked,
    which an attack on data alone does not have.
    **Needs** Labelled images; no network, no gradients.
    **Cost** One pass over the poisoned images.
    **Fails when** the place is white already: adding changes nothing there.
    """

    strength: float = Field(1.0, gt=0, le=1, description="the most that a pixel is raised by")
    size: int = Field(7, ge=1, description="height and width of the square in pixels")
    place: Annotated[str, AfterValidator(check_place)] = Field(
        "bottom_right", description="corner, center, random, or x,y in pixels"
    )
    margin: int = Field(1, ge=0, description="pixels between the square and the border, for corners")

    def make_trigger(self, image_shape: ImageShape, *, seed: int) -> Additive:
        """Return the square for images (C, H, W).

        Raises:
            InvalidOption: the square is larger than the image, or lies partly outside.
        """
        top, left = place_in_image(self.place, (self.size, self.size), image_shape, self.margin, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        colours = torch.rand(image_shape[0], self.size, self.size, generator=generator)
        vivid = torch.where(colours < 0.4, 0.0, 0.5 + 0.5 * (colours - 0.4) / 0.6)
        pattern = torch.zeros(image_shape)
        pattern[:, top : top + self.size, left : left + self.size] = self.strength * vivid
        return Additive(pattern)
