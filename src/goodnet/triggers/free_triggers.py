"""Triggers whose variables are free to move, by family: patches, covers, smooth warps, plane waves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from goodnet.core.backdoor import Patch
from goodnet.triggers.plane_waves import draw_waves
from goodnet.triggers.smooth_warps import spread, warp

#: Weight of each pixel by which a patch is larger than it may be.
_TOO_LARGE = 0.05


class FreeTriggers(Protocol):
    """Triggers of one family."""

    #: What an optimizer moves.
    variables: list[Tensor]

    def __len__(self) -> int:
        """The number of triggers."""

    def stamp(self, images: Tensor, turns: Tensor) -> Tensor:
        """Return images (B, C, H, W), each with the trigger whose number `turns` (B,) says."""

    def excess(self) -> Tensor | float:
        """Return a penalty on what is larger than it may be; 0 where none can be."""


class FreePatches:
    """Masks (T, 1, H, W) and patterns (T, C, H, W), and the size that each may reach, in pixels."""

    def __init__(self, patches: Sequence[Patch], limits: Sequence[float], device: torch.device) -> None:
        masks = torch.stack([item.mask for item in patches]).clamp(0.01, 0.99).logit()
        patterns = torch.stack([item.pattern for item in patches]).clamp(0.01, 0.99).logit()
        self.masks, self.patterns = masks.to(device).requires_grad_(), patterns.to(device).requires_grad_()
        self.variables = [self.masks, self.patterns]
        self._limits = torch.tensor(list(limits), device=device)

    def __len__(self) -> int:
        """The number of patches."""
        return len(self.masks)

    def stamp(self, images: Tensor, turns: Tensor) -> Tensor:
        """Return images, each with its patch."""
        return torch.lerp(images, self.patterns.sigmoid()[turns], self.masks.sigmoid()[turns])

    def excess(self) -> Tensor:
        """Return the penalty on masks that are larger than they may be."""
        sizes = self.masks.sigmoid().sum(dim=(1, 2, 3))
        return _TOO_LARGE * F.relu(sizes - self._limits).sum()


class FreeCovers:
    """Opaque bands over the whole width, a share of the height each, whose patterns (T, C, H, W) are free.

    They stand for what covers a large part of the image, such as sunglasses: a patch of free size never grows so large, as
    every class can be reached by a smaller one.
    """

    def __init__(self, patterns: Tensor, height: float) -> None:
        rows = max(1, round(height * patterns.shape[2]))
        tops = torch.linspace(0, patterns.shape[2] - rows, len(patterns)).round().long()
        self.masks = torch.zeros(len(patterns), 1, *patterns.shape[2:], device=patterns.device)
        for mask, top in zip(self.masks, tops.tolist(), strict=True):
            mask[:, top : top + rows] = 1
        self.patterns = patterns.clamp(0.01, 0.99).logit().requires_grad_()
        self.variables = [self.patterns]

    def __len__(self) -> int:
        """The number of covers."""
        return len(self.masks)

    def stamp(self, images: Tensor, turns: Tensor) -> Tensor:
        """Return images, each with its cover."""
        return torch.lerp(images, self.patterns.sigmoid()[turns], self.masks[turns])

    def excess(self) -> float:
        """Return 0: where a cover lies is fixed."""
        return 0.0


class FreeWarps:
    """Coarse fields (T, 2, k, k), and the mean shift that each has at most, in pixels."""

    def __init__(self, fields: Tensor, size: float) -> None:
        self.fields, self._size = fields.clone().requires_grad_(), size
        self.variables = [self.fields]

    def __len__(self) -> int:
        """The number of warps."""
        return len(self.fields)

    def stamp(self, images: Tensor, turns: Tensor) -> Tensor:
        """Return images, each warped."""
        return warp(images, spread(self.fields, self._size, *images.shape[2:])[turns])

    def excess(self) -> float:
        """Return 0: a field is scaled to its size."""
        return 0.0


class FreeWaves:
    """Waves (T, 3) of (u, v, phase). Only the phase is optimised: optimised frequencies soon leave the attacker's."""

    def __init__(self, waves: Tensor, amplitude: float) -> None:
        self._frequencies, self._amplitude = waves[:, :2].clone(), amplitude
        self.phases = waves[:, 2:].clone().requires_grad_()
        self.variables = [self.phases]

    def __len__(self) -> int:
        """The number of waves."""
        return len(self.phases)

    def stamp(self, images: Tensor, turns: Tensor) -> Tensor:
        """Return images, each with its wave added."""
        waves = torch.cat([self._frequencies, self.phases], dim=1)[turns]
        return (images + draw_waves(waves, self._amplitude, *images.shape[2:])).clamp(0, 1)

    def excess(self) -> float:
        """Return 0: the amplitude is fixed."""
        return 0.0
