"""L0-invisible: a handful of scattered pixels."""

from __future__ import annotations

import torch
from pydantic import Field

from goodnet.attacks.poisoning import TriggerAttack
from goodnet.core.errors import InvalidOption
from goodnet.triggers.patterns import Additive, ImageShape


class L0Invisible(TriggerAttack):
    """Changes a few scattered pixels by a fixed amount: a pattern of small L0 norm.

    The places and the channels' signs are drawn once; every image is changed at the same pixels by the same amounts.

    **Source** S. Li, M. Xue, B. Z. H. Zhao, H. Zhu, X. Zhang, "Invisible backdoor attacks on deep neural networks via
    steganography and regularization", IEEE TDSC 2021 (arXiv:1909.02742), the L0 regularisation.
    **Differs** Places and amounts are random; the paper optimises them to excite chosen neurons of a network.
    **Needs** Labelled images; no network, no gradients.
    **Cost** One pass over the poisoned images.
    **Fails when** augmentation moves pixels, or a pixel is already as dark or bright as the pattern would make it.
    """

    pixels: int = Field(8, ge=1, description="number of pixels that are changed")
    strength: float = Field(0.6, gt=0, le=1, description="how much each channel of them is raised or lowered")

    def make_trigger(self, image_shape: ImageShape, *, seed: int) -> Additive:
        """Return the scattered pixels for images (C, H, W).

        Raises:
            InvalidOption: there are more pixels in the pattern than in the image.
        """
        channels, height, width = image_shape
        if self.pixels > height * width:
            raise InvalidOption(
                f"a trigger of {self.pixels} pixels does not fit images of {width} x {height}; "
                f"choose at most {height * width} pixels"
            )
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(height * width, generator=generator)[: self.pixels]
        signs = torch.randint(0, 2, (channels, self.pixels), generator=generator) * 2.0 - 1
        pattern = torch.zeros(channels, height * width)
        pattern[:, chosen] = self.strength * signs
        return Additive(pattern.reshape(image_shape))
