"""The GoodNet's rule: the class of B, or class N where B's class can be refused and B' gives another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from goodnet.algorithms.shared_layers import PairRunner
from goodnet.core.dataset import Labels


@dataclass(frozen=True)
class Answers:
    """What B, B' and the GoodNet say of N images, each (N,) int64; class `classes` of the GoodNet means refused.

    `targets` are the classes of B that can be refused, None for all of them.
    """

    original: Labels
    repaired: Labels
    classes: int
    targets: tuple[int, ...] | None = None

    @property
    def refused(self) -> npt.NDArray[np.bool_]:
        """Whether the two differ on a class that can be refused, (N,)."""
        differ: npt.NDArray[np.bool_] = self.original != self.repaired
        return differ if self.targets is None else differ & np.isin(self.original, self.targets)

    @property
    def goodnet(self) -> Labels:
        """The GoodNet's class of each image."""
        return np.where(self.refused, self.classes, self.original)


class RefusingPair(nn.Module):
    """B, B' and the rule as one module, from images as the networks take them.

    Args:
        pair: maps images (n, C, H, W) to the logits of both.
        classes: N.
        targets: the classes of B that can be refused, None for all of them.
    """

    suspected: Tensor

    def __init__(self, pair: PairRunner, classes: int, targets: Sequence[int] | None) -> None:
        super().__init__()
        self.pair = pair
        suspected = torch.full((classes,), targets is None)
        suspected[list(targets or ())] = True
        self.register_buffer("suspected", suspected, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores (n, N + 1), and the classes (n, 2) int64 that B and B' give."""
        original, repaired = self.pair(images)
        chosen, other = original.argmax(dim=1), repaired.argmax(dim=1)
        can_be_refused = self.suspected.to(chosen.device).index_select(0, chosen)
        refused = ((chosen != other) & can_be_refused)[:, None].to(original.dtype)
        scores = torch.cat([original.softmax(dim=1) * (1 - refused), refused], dim=1)
        return scores, torch.stack([chosen, other], dim=1)
