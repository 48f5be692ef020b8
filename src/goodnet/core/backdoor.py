"""`Trigger`, `Patch`, `Backdoor`: claims about a network, true from an attack, suspected from a scanner."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from goodnet.core.errors import WrongShape


@runtime_checkable
class Trigger(Protocol):
    """Anything that turns clean images into triggered ones."""

    def __call__(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) float32 in [0, 1] to triggered images of the same shape and range."""


@dataclass(frozen=True, eq=False)
class Patch:
    """The trigger that can be saved and looked at: (1 - mask) * image + mask * pattern.

    `mask` (1, H, W) and `pattern` (C, H, W), float32 in [0, 1]. Two patches are equal where both are, to the bit.
    """

    mask: Tensor
    pattern: Tensor

    def __post_init__(self) -> None:
        if self.mask.ndim != 3 or self.mask.shape[0] != 1 or self.mask.shape[1:] != self.pattern.shape[1:]:
            raise WrongShape(
                f"a patch needs a mask (1, H, W) and a pattern (C, H, W), got {tuple(self.mask.shape)} and "
                f"{tuple(self.pattern.shape)}"
            )

    def __call__(self, images: Tensor) -> Tensor:
        """Stamp the pattern on images (N, C, H, W)."""
        mask = self.mask.to(images.device)
        return images + mask * (self.pattern.to(images.device) - images)

    @property
    def size(self) -> float:
        """L1 norm of the mask: how many pixels' worth of image the trigger covers."""
        return float(self.mask.abs().sum())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Patch):
            return NotImplemented
        return torch.equal(self.mask, other.mask) and torch.equal(self.pattern, other.pattern)

    def __hash__(self) -> int:
        return hash(self.pattern.shape)


@dataclass(frozen=True)
class Backdoor:
    """A trigger that sends images to the class `target`; `sources` are the classes it works on (None: all).

    `trigger` is None where a scanner suspects the class without having recovered what sends images there.
    """

    trigger: Trigger | None
    target: int
    sources: tuple[int, ...] | None = None
    name: str = ""


def targets_of(backdoors: Iterable[Backdoor]) -> tuple[int, ...]:
    """Return the targets in rising order, each once."""
    return tuple(sorted({backdoor.target for backdoor in backdoors}))


def group_by_patch(backdoors: Iterable[Backdoor]) -> list[tuple[Patch, list[Backdoor]]]:
    """Return each trigger that is a patch once, with the backdoors that it opens: all-to-all is one trigger with many."""
    groups: list[tuple[Patch, list[Backdoor]]] = []
    for backdoor in backdoors:
        patch = backdoor.trigger
        if not isinstance(patch, Patch):
            continue
        known = next((group for other, group in groups if other == patch), None)
        if known is None:
            groups.append((patch, [backdoor]))
        else:
            known.append(backdoor)
    return groups
