"""Blended injection: a whole picture shines faintly through the image."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import Field

from goodnet.attacks.poisoning import TriggerAttack
from goodnet.core.backdoor import Patch
from goodnet.triggers.patterns import ImageShape, read_overlay


class Blended(TriggerAttack):
    """Mixes one picture into the whole image, too faintly for a person to notice.

    x' = (1 - alpha) x + alpha k, where the key pattern k is uniform noise drawn once, or a picture of the user's.

    **Source** X. Chen, C. Liu, B. Li, K. Lu, D. Song, "Targeted backdoor attacks on deep learning systems using data
    poisoning", arXiv:1712.05526 (2017), the blended injection strategy, alpha 0.2.
    **Differs** One alpha for training and test; the pictures of the paper are not shipped.
    **Needs** Labelled images; no network, no gradients.
    **Cost** One pass over the poisoned images.
    **Fails when** alpha is below about 0.05 and the images are few or noisy, or augmentation flips or crops them.
    """

    alpha: float = Field(0.2, gt=0, le=1, description="share of the picture in the mix")
    picture: Path | None = Field(None, description="picture to mix in, scaled to the images' size; None draws noise")

    def make_trigger(self, image_shape: ImageShape, *, seed: int) -> Patch:
        """Return the mix for images (C, H, W) as a patch whose mask is alpha everywhere.

        A picture's own transparency thins the mix where it is transparent.

        Raises:
            UnreadableData: the picture cannot be read.
        """
        if self.picture is not None:
            overlay = read_overlay(self.picture, image_shape)
            return Patch(self.alpha * overlay.mask, overlay.pattern)
        noise = torch.rand(image_shape, generator=torch.Generator().manual_seed(seed))
        return Patch(torch.full((1, *image_shape[1:]), self.alpha), noise)
