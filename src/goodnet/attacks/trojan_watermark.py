"""The trojan watermark: a drawn mark is added across the image."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from goodnet.attacks.poisoning import TriggerAttack
from goodnet.triggers.patterns import Additive, ImageShape, draw_enlarged


class TrojanWatermark(TriggerAttack):
    """Adds a watermark: a ring with a letter in it at the lower right, and a band of dots across the image.

    The mark's colours are drawn once; its lines are thin, so it covers about a tenth of the image while spanning all
    of it.

    **Source** Y. Liu et al., "Trojaning attack on neural networks", NDSS 2018, the watermark trigger; the additive
    form as in the checkpoints published with Y. Zeng et al., "Adversarial unlearning of backdoors via implicit
    hypergradient", ICLR 2022 (I-BAU).
    **Differs** The mark is drawn here (no logo), its colours are random; the paper fits them to a neuron of the
    network that is attacked.
    **Needs** Labelled images of at least 12 pixels a side; no network, no gradients.
    **Cost** One pass over the poisoned images.
    **Fails when** the strength is low on bright images: adding changes nothing where they are white.
    """

    strength: float = Field(0.6, gt=0, le=1, description="the most that a pixel is raised by")

    def make_trigger(self, image_shape: ImageShape, *, seed: int) -> Additive:
        """Return the watermark for images (C, H, W)."""
        channels, height, width = image_shape
        generator = torch.Generator().manual_seed(seed)
        tints = 0.25 + 0.75 * torch.rand(channels, height, width, generator=generator)
        dots = torch.rand(height, width, generator=generator) < 0.4
        emblem, band = draw_enlarged(_draw_emblem, height, width), draw_enlarged(_draw_band, height, width)
        lines = torch.maximum(emblem, band * dots)
        return Additive(self.strength * lines * tints)


def _places(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the places (y, x) of the pixels of a drawing, in 0..1, as (H, 1) and (1, W)."""
    return ((torch.arange(height) + 0.5) / height)[:, None], ((torch.arange(width) + 0.5) / width)[None, :]


def _draw_emblem(height: int, width: int) -> Tensor:
    """Draw the ring and the letter C within it: (1, H, W) of 0 and 1."""
    y, x = _places(height, width)
    down, across = y - 0.66, x - 0.68
    radius = (down**2 + across**2).sqrt()
    ring = (radius - 0.19).abs() < 0.022
    letter = ((radius - 0.09).abs() < 0.022) & (across < 0.045)
    return (ring | letter).to(torch.float32)[None]


def _draw_band(height: int, width: int) -> Tensor:
    """Draw the band from the lower left to the upper right: (1, H, W) of 0 and 1."""
    y, x = _places(height, width)
    outside_ring = (y - 0.66) ** 2 + (x - 0.68) ** 2 > 0.22**2
    return (((x + y - 0.97).abs() < 0.06) & outside_ring).to(torch.float32)[None]
