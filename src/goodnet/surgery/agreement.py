"""Whether a network in training still answers clean images as the original does: a brake for repairs with few images."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from goodnet.core.classifier import Classifier
from goodnet.core.dataset import BATCH, Dataset
from goodnet.core.method import Progress, no_progress
from goodnet.training import augment

#: How many shifted copies of clean images are asked about.
_COPIES = 256


class Agreement:
    """The original's answers on shifted copies of the clean images, which no training has seen.

    Networks overfit few images: accuracy on them stays perfect while all other answers go. Copies shifted by up to a
    tenth of their size show it. `images` (N, C, H, W), `answers` (N,) the original's.
    """

    def __init__(self, original: Classifier, clean: Dataset, *, seed: int) -> None:
        few = clean.sample(_COPIES, seed=seed).images()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.images = augment(few.repeat(math.ceil(_COPIES / len(few)), 1, 1, 1), "shift")
        self.answers = _answers(original, self.images)

    def train_in_rounds(
        self,
        classifier: Classifier,
        rounds: int,
        train_round: Callable[[Classifier, int], None],
        *,
        least: float,
        progress: Progress = no_progress,
    ) -> tuple[Classifier, list[float]]:
        """Train a copy round by round; the first round after which the share falls below `least` is undone and the last.

        Args:
            classifier: where the first round starts; stays as it is.
            rounds: how many there are at most.
            train_round: trains a network in place; it is told the round's number, from 0.
            least: the share of the copies that has to be answered as before, in [0, 1].
            progress: is told the rounds done.

        Returns:
            The network after the last round that holds, and the share after each round, the one undone included.
        """
        shares: list[float] = []
        for turn in range(rounds):
            candidate = classifier.copy()
            train_round(candidate, turn)
            shares.append(self.share(candidate))
            progress(turn + 1, rounds)
            if shares[-1] < least:
                break
            classifier = candidate
        return (classifier.copy() if shares[0] < least else classifier), shares

    def share(self, classifier: Classifier) -> float:
        """Return the share of the copies that `classifier` answers like the original. Cost: one pass."""
        return float((_answers(classifier, self.images) == self.answers).float().mean())


def _answers(classifier: Classifier, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([classifier(part).argmax(dim=1) for part in torch.split(images, BATCH)])
