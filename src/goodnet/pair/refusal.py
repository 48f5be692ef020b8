"""The GoodNet's rule: the class of B, or class N where B's class can be refused and B' gives another one by some margin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from goodnet.core.dataset import Labels
from goodnet.pair.shared_layers import PairRunner


@dataclass(frozen=True)
class PairPredictions:
    """What B, B' and the GoodNet say of N images, each (N,) int64; class `classes` of the GoodNet means refused.

    B' gives B's class where it prefers no other one by more than the GoodNet's tolerance.

    `targets` are the classes of B that can be refused, None for all of them. `repaired` is -1 where B' was not asked:
    where B's class cannot be refused.
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
    def asked_always(self) -> bool:
        """Whether B' was asked about every image."""
        return bool((self.repaired >= 0).all())

    @property
    def goodnet(self) -> Labels:
        """The GoodNet's class of each image."""
        return np.where(self.refused, self.classes, self.original)


class RefusingPair(nn.Module):
    """B, B' and the rule as one module, from images as the networks take them.

    With targets, B' runs only where B calls an image of the batch one of them: an ordinary image costs B alone.

    Args:
        pair: maps images (n, C, H, W) to the logits of both.
        classes: N.
        targets: the classes of B that can be refused, None for all of them.
        tolerance: the margin, in logits, by which B' may prefer another class without refusing.
    """

    suspected: Tensor

    def __init__(self, pair: PairRunner, classes: int, targets: Sequence[int] | None, tolerance: float = 0.0) -> None:
        super().__init__()
        self.pair, self.tolerance = pair, tolerance
        self.ask_always = targets is None
        suspected = torch.full((classes,), self.ask_always)
        suspected[list(targets or ())] = True
        self.register_buffer("suspected", suspected, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores (n, N + 1), and the classes (n, 2) int64 that B and B' give, -1 where B' was not asked."""
        original, values = self.pair.begin(images)
        chosen = original.argmax(dim=1)
        asked = self.suspected.to(chosen.device).index_select(0, chosen)
        other = self._second_opinions(values, asked, chosen)
        refused = ((chosen != other) & asked)[:, None].to(original.dtype)
        scores = torch.cat([original.softmax(dim=1) * (1 - refused), refused], dim=1)
        return scores, torch.stack([chosen, other], dim=1)

    def _second_opinions(self, values: tuple[Tensor, ...], asked: Tensor, chosen: Tensor) -> Tensor:
        """Return the classes (n,) that B' gives, -1 where it is not asked."""
        if self.ask_always:
            return self._run_second(values, asked, chosen)
        if torch.compiler.is_exporting():  # A graph holds both ways; a Python `if` would leave it only one.
            other = torch.cond(asked.any(), self._run_second, _say_nothing, (values, asked, chosen))
        else:
            other = self._run_second(values, asked, chosen) if asked.any() else _say_nothing(values, asked, chosen)
        # What is said of an image must not hang on its neighbours in the batch.
        return torch.where(asked, other, -1)

    def _run_second(self, values: tuple[Tensor, ...], asked: Tensor, chosen: Tensor) -> Tensor:
        return favour(self.pair.finish(values), chosen, self.tolerance).argmax(dim=1)


def favour(repaired: Tensor, chosen: Tensor, tolerance: float) -> Tensor:
    """Return the logits of B' (n, N) with `tolerance` more for the class that B has chosen, (n,)."""
    if tolerance == 0:
        return repaired
    own = chosen[:, None] == torch.arange(repaired.shape[1], device=repaired.device)
    return repaired + tolerance * own


def _say_nothing(values: tuple[Tensor, ...], asked: Tensor, chosen: Tensor) -> Tensor:
    return torch.full_like(asked, -1, dtype=torch.int64)
