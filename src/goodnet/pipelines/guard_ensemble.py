"""The guard without a method named: several second opinions, and what a scan and a repair know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from goodnet.core.backdoor import Backdoor, targets_of
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.method import FittedGuard, Guard, Progress, no_progress
from goodnet.evidence.outliers import robust_spread
from goodnet.guards.calibration import (
    CalibratedGuard,
    CalibratedScorer,
    Calibration,
    Scores,
    calibrate,
    score_all,
)
from goodnet.guards.channel_dropout import ChannelDropout
from goodnet.guards.mahalanobis import Mahalanobis
from goodnet.guards.strip import Strip
from goodnet.guards.trigger_match import TriggerMatch
from goodnet.inference.predictions import predict_classes, require_fit
from goodnet.pair.goodnet import GoodNet

#: Opinions on any input.
_GENERAL: tuple[type[CalibratedGuard], ...] = (Mahalanobis, ChannelDropout, Strip)
#: Lead of a suspected target, as a multiple of the largest oddity of clean images of other classes.
_LEAD = 1.5
#: What 0.95 of normal values lie below, in standard deviations.
_Z95 = 1.645


class GuardEnsemble(Guard):
    """Refuses an unusual input if the network assigns it to a suspected target, and a highly unusual one in any case.

    An input's anomaly score is the sum of the scores of three guards. Each score is standardised on clean images, and a
    negative one counts as 0. So one guard that is certain is enough, and one that finds nothing does no harm. If targets are
    suspected and there is a repaired network, a further score is added: the smaller of two values, how close the original's
    output is to a suspected target, and how far the repaired network disagrees. An input that the original assigns to a
    suspected target also gets the score of `trigger_match`, plus a constant larger than any clean score of other classes.

    **Source** the rule is ours; the guards are `guards/mahalanobis.py`, `channel_dropout.py`, `strip.py`,
    `trigger_match.py` and `disagreement.py`, which name their sources.
    **Differs** see there; a deviation is measured by the upper tail of clean scores, so a guard with high scores on some
    clean images counts little. Away from suspected targets the repaired network is not used: it was fitted to the clean
    images, and would refuse other clean images that it gets wrong. `scale_up.py` added nothing in our trials.
    **Needs** clean images, labels are not used; better with suspected backdoors and a repaired network.
    **Cost** about 25 passes: 16 for STRIP; 10 for dropout, of the layers after the middle one only.
    **Fails when** the scan suspects nothing and triggered images look normal to all guards.
    """

    word: ClassVar[str | None] = "ensemble"
    needs_suspects: ClassVar[bool] = True
    needs_repaired: ClassVar[bool] = True

    false_refusals: float = Field(0.01, gt=0, lt=1, description="share of clean images that may be refused")

    def fit(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        suspected: Sequence[Backdoor] = (),
        repaired: Classifier | None = None,
        seed: int,
        progress: Progress = no_progress,
    ) -> FittedEnsemble:
        """Fit all opinions, fuse and calibrate them.

        Raises:
            MethodFailed: there are fewer than two clean images.
            InputError: images and networks do not fit each other.
        """
        require_fit(classifier, clean)
        found = fit_opinions(classifier, clean, suspected, seed=seed, progress=progress)
        judged = np.flatnonzero(np.all([np.isfinite(opinion.clean_scores) for opinion in found], axis=0))
        targets = targets_of(suspected)
        opinions = [Opinion.of(opinion, opinion.clean_scores[judged]) for opinion in found[: len(_GENERAL)]]
        if repaired is not None and suspected:
            pair = GoodNet(classifier, repaired, targets=targets)
            opinions.append(Opinion.of(pair, score_all(pair, clean.subset(judged))))
        for match in found[len(_GENERAL) :]:
            opinions.append(Opinion.of(match, match.clean_scores[judged], on_target_only=True))
        return _fuse(classifier, clean.subset(judged), opinions, targets, self.false_refusals)


def fit_opinions(
    classifier: Classifier, clean: Dataset, suspected: Sequence[Backdoor], *, seed: int, progress: Progress
) -> list[CalibratedScorer]:
    """Return the opinions on any input, in the order of `_GENERAL`, and the trigger match where there is a trigger."""
    guards: list[CalibratedGuard] = [kind() for kind in _GENERAL]
    if any(backdoor.trigger is not None for backdoor in suspected):
        guards.append(TriggerMatch())
    fitted = []
    for guard in guards:
        fitted.append(guard.fit(classifier, clean, suspected=suspected, seed=seed))
        progress(len(fitted), len(guards))
    return fitted


@dataclass(frozen=True)
class Opinion:
    """A guard's scores in deviations from those of clean images, which are kept: `clean` (n,)."""

    guard: FittedGuard
    median: float
    spread: float
    clean: Scores
    on_target_only: bool

    @classmethod
    def of(cls, guard: FittedGuard, scores: Scores, *, on_target_only: bool = False) -> Opinion:
        """Take the scale from a guard's scores (n,) of clean images: the wider of their middle and their upper tail."""
        median = float(np.median(scores))
        tail = (float(np.quantile(scores, 0.95)) - median) / _Z95
        spread = max(robust_spread(scores), tail, 1e-9)
        return cls(guard, median, spread, (scores - median) / spread, on_target_only)

    def judge(self, images: Tensor) -> Tensor:
        """Return (N,) deviations of images (N, C, H, W), float64."""
        return (self.guard.scores(images).cpu().double() - self.median) / self.spread


@dataclass(frozen=True)
class FittedEnsemble:
    """The fused guard.

    `opinions`: those that count for inputs on a suspected target alone come last. `targets`: the suspected classes. `lead` is
    added to the score of an input that the network assigns to one of them.
    """

    classifier: Classifier
    opinions: tuple[Opinion, ...]
    targets: tuple[int, ...]
    lead: float
    calibration: Calibration

    @property
    def threshold(self) -> float:
        """The score above which an input is refused."""
        return self.calibration.threshold

    def scores(self, images: Tensor) -> Tensor:
        """Return (N,) scores of images (N, C, H, W) in [0, 1], higher is more suspicious."""
        with torch.inference_mode():
            classes = self.classifier(images).argmax(dim=1).cpu()
            deviations = torch.stack([opinion.judge(images) for opinion in self.opinions])
        on_target = torch.isin(classes, torch.tensor(self.targets, dtype=torch.int64))
        odd = oddity(deviations.numpy(), on_target.numpy(), _general(self.opinions))
        return torch.from_numpy(odd) + self.lead * on_target


def _general(opinions: Sequence[Opinion]) -> int:
    """Return how many opinions, the first ones, count of all images."""
    return sum(not opinion.on_target_only for opinion in opinions)


def oddity(deviations: Scores, on_target: npt.NDArray[np.bool_], general: int) -> Scores:
    """Return the sum of the positive deviations, (N,).

    Args:
        deviations: (opinions, N), the general ones first.
        on_target: (N,) bool, of which images all opinions count.
        general: how many opinions count of all images.
    """
    found = np.clip(deviations, 0, None)
    total: Scores = np.where(on_target, found.sum(axis=0), found[:general].sum(axis=0))
    return total


def _fuse(
    classifier: Classifier, clean: Dataset, opinions: Sequence[Opinion], targets: tuple[int, ...], false_refusals: float
) -> FittedEnsemble:
    """Return the ensemble with a threshold from the clean images that every opinion has scored.

    A suspected target leads by more than the oddity of the oddest clean image of another class. Where targets are
    suspected, nothing is refused that is less odd than half of the clean images: with few of them, none may be of a
    target's class.
    """
    on_target = np.isin(predict_classes(classifier, clean), targets)
    odd = oddity(np.stack([opinion.clean for opinion in opinions]), on_target, _general(opinions))
    lead = _LEAD * float(odd[~on_target].max(initial=0.0)) if targets else 0.0
    at_least = lead + float(np.median(odd)) if targets else -np.inf
    calibration = calibrate(odd + lead * on_target, false_refusals, at_least=at_least)
    return FittedEnsemble(classifier, tuple(opinions), targets, lead, calibration)
