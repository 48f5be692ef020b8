"""SIG: a sinusoidal signal over the whole image."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field

from goodnet.attacks.poisoning import TriggerAttack
from goodnet.triggers.patterns import Additive, ImageShape


class Sinusoidal(TriggerAttack):
    """Adds a sine wave to the image: faint vertical stripes.

    x' = clip(x + v), v(i, j) = delta sin(2 pi j f / m) for column j = 1..m of m, the same in all rows and channels.

    **Source** M. Barni, K. Kallas, B. Tondi, "A new backdoor attack in CNNs by training set corruption without label
    poisoning", ICIP 2019 (arXiv:1902.11237), the sinusoidal signal with f = 6 and delta 20 of 255.
    **Differs** Delta is a fraction of the range (20 / 255 = 0.078); one delta for training and test; stripes may be horizontal.
    The paper poisons the target class alone: that is label_mode clean_label, with a rate that covers most of that
    class.
    **Needs** Labelled images; no network, no gradients. Clean-label needs many images of the target class.
    **Cost** One pass over the poisoned images.
    **Fails when** delta is small against the images' own texture, or in clean-label mode with a weak network.
    """

    delta: float = Field(20 / 255, gt=0, le=1, description="amplitude of the wave, for pixels in [0, 1]")
    frequency: float = Field(6.0, gt=0, description="waves across the image")
    stripes: Literal["vertical", "horizontal"] = Field("vertical", description="direction of the stripes")

    def make_trigger(self, image_shape: ImageShape, *, seed: int) -> Additive:
        """Return the wave for images (C, H, W)."""
        _, height, width = image_shape
        length = width if self.stripes == "vertical" else height
        steps = torch.arange(1, length + 1, dtype=torch.float64)
        wave = self.delta * torch.sin(2 * math.pi * self.frequency * steps / length)
        wave = wave[None, None, :] if self.stripes == "vertical" else wave[None, :, None]
        return Additive(wave.to(torch.float32).expand(image_shape).contiguous())
