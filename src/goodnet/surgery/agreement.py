"""Whether a network in training still classifies clean images as the original does: a brake for repairs with few images."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from goodnet.core.classifier import Classifier
from goodnet.core.dataset import BATCH, Dataset
from goodnet.core.method import Progress, no_progress
from goodnet.core.repairs import Change, Repair, Trace
from goodnet.inference.predictions import measured_repair
from goodnet.training import Loss, Training, augment, train

#: How many shifted copies of clean images are classified.
_COPIES = 256


class TrainedInRounds(Change):
    """The `rounds` of training that held, and their `steps` in all."""

    rounds: int
    steps: int


class RoundAgreement(Trace):
    """The share of shifted copies that was classified as before after each round, the one undone included."""

    agreement: tuple[float, ...]


class Agreement:
    """The original's predictions on shifted copies of the clean images, which no training has seen.

    Networks overfit few images: accuracy on them stays perfect while all other predictions go. Copies shifted by up to a
    tenth of their size show it. `images` (N, C, H, W), `predictions` (N,) the original's.
    """

    def __init__(self, original: Classifier, clean: Dataset, *, seed: int) -> None:
        few = clean.sample(_COPIES, seed=seed).images()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.images = augment(few.repeat(math.ceil(_COPIES / len(few)), 1, 1, 1), "shift")
        self.predictions = _predictions(original, self.images)

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

        `train_round` trains a network in place and is told the round's number, from 0. Returns the network after the last
        round that holds, and the share after each round, in [0, 1], the one undone included.
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
        """Return the share of the copies that `classifier` classifies like the original. Cost: one pass."""
        return float((_predictions(classifier, self.images) == self.predictions).float().mean())


class InRounds(Protocol):
    """A method with the options of training in rounds; `least_agreement` is the share of predictions that a round must keep."""

    @property
    def rounds(self) -> int: ...  # noqa: D102
    @property
    def steps(self) -> int: ...  # noqa: D102
    @property
    def learning_rate(self) -> float: ...  # noqa: D102
    @property
    def batch_size(self) -> int: ...  # noqa: D102
    @property
    def least_agreement(self) -> float: ...  # noqa: D102
    def name(self) -> str: ...  # noqa: D102


def repair_in_rounds(
    method: InRounds,
    classifier: Classifier,
    labelled: Dataset,
    find_loss: Callable[[Classifier], Loss],
    *,
    seed: int,
    progress: Progress = no_progress,
) -> Repair:
    """Return the network after the rounds of `method`.

    `find_loss` is called at the start of each round with the present network; the round minimises the loss that it returns.
    """
    training = Training.of_steps(method.steps, len(labelled), method.batch_size, learning_rate=method.learning_rate)

    def train_round(network: Classifier, turn: int) -> None:
        train(network, labelled, training, seed=seed * method.rounds + turn, loss=find_loss(network))

    repaired, agreed = Agreement(classifier, labelled, seed=seed).train_in_rounds(
        classifier, method.rounds, train_round, least=method.least_agreement, progress=progress
    )
    kept = sum(share >= method.least_agreement for share in agreed)
    steps = kept * training.epochs * math.ceil(len(labelled) / method.batch_size)
    changes = TrainedInRounds(images=len(labelled), rounds=kept, steps=steps)
    trace = RoundAgreement(agreement=tuple(agreed))
    return measured_repair(method.name(), classifier, repaired, labelled, changes, trace)


def _predictions(classifier: Classifier, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([classifier(part).argmax(dim=1) for part in torch.split(images, BATCH)])
