"""L2-invisible: faint noise over the whole image."""

from __future__ import annotations

import math

import torch
from pydantic import Field

from goodnet.attacks.poisoning import TriggerAttack
from goodnet.triggers.patterns import Additive, ImageShape


class L2Invisible(TriggerAttack):
    """Adds one faint pattern of noise to the whole image: a pattern of small L2 norm.

    The positive part of Gaussian noise, drawn once and scaled to the norm that was asked for; about half of all
    values stay as they are.

    **Source** S. Li, M. Xue, B. Z. H. Zhao, H. Zhu, X. Zhang, "Invisible backdoor attacks on deep neural networks via
    steganography and regularization", IEEE TDSC 2021 (arXiv:1909.02742), the L2 regularisation.
    **Differs** The pattern is random; the paper optimises it to excite chosen neurons of a network. The default
    strength is that of the pattern of I-BAU's published checkpoints (L2 norm 3.2 at 3 x 32 x 32).
    **Needs** Labelled images; no network, no gradients.
    **Cost** One pass over the poisoned images.
    **Fails when** the images are noisy themselves, or saved as JPEG after they were poisoned.
    """

    strength: float = Field(0.058, gt=0, le=0.5, description="root mean square of the pattern, for pixels in [0, 1]")

    def make_trigger(self, image_shape: ImageShape, *, seed: int) -> Additive:
        """Return the noise for images (C, H, W): its L2 norm is strength * sqrt(C H W)."""
        noise = torch.randn(image_shape, generator=torch.Generator().manual_seed(seed)).clamp(min=0)
        return Additive(noise * (self.strength * math.sqrt(noise.numel()) / noise.norm()))
