"""Thresholds from clean images: a stated rate of false refusals, and how far the real one may lie above it."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from scipy.special import betaincinv
from torch import Tensor

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import MethodFailed
from goodnet.core.method import FittedGuard, Guard, Progress, no_progress
from goodnet.core.results import Record
from goodnet.inference.predictions import require_fit

Scores = npt.NDArray[np.float64]
#: What a guard reads off N images; every tensor has N rows.
Readings = tuple[Tensor, ...]
#: Maps images (N, C, H, W) in [0, 1] to readings.
Reader = Callable[[Tensor], Readings]
#: Maps the readings of N images to scores (N,), higher is more suspicious.
Judge = Callable[[Readings], Tensor]

#: Parts of the clean images, each of which is judged by what was fitted to the others.
_FOLDS = 10
_CONFIDENCE = 0.95


class Calibration(Record):
    """A threshold, from the scores of `n` clean images that the score was not fitted to.

    `expected` is the false-refusal rate to be expected of further clean images, a fraction; the real one lies below
    `bound` with 95 % confidence.
    """

    threshold: float
    n: int
    expected: float
    bound: float


def calibrate(scores: npt.ArrayLike, false_refusals: float, *, at_least: float = -math.inf) -> Calibration:
    """Return the lowest of the clean scores above which at most the stated share of further clean images is expected.

    Of n scores the r-th smallest is exceeded by a further one with probability (n + 1 - r) / (n + 1). With fewer than
    1 / `false_refusals` scores none is high enough: the largest is taken, and `expected` says what that gives.

    Args:
        scores: (n,) of clean images, none of which the score was fitted to.
        false_refusals: the share of clean images that may be refused, in (0, 1).
        at_least: a threshold below which no score is to be refused, known without these scores.

    Raises:
        MethodFailed: there are no scores, or one is not a number.

    Source: S. Wilks, "Determination of sample sizes for setting tolerance limits", Annals of Mathematical Statistics
    12, 1941: the share above the r-th of n is Beta(n + 1 - r, r). The bound is its quantile, which is Clopper's and
    Pearson's upper limit for n - r refused of n. Equal scores are refused less often than that.
    """
    ordered = np.sort(np.asarray(scores, np.float64))
    n = len(ordered)
    if n == 0 or not np.isfinite(ordered).all():
        raise MethodFailed(f"no threshold: expected finite scores of clean images, got {ordered[:3].tolist()}...")
    rank = min(n, math.ceil((1 - false_refusals) * (n + 1) - 1e-9))
    threshold = max(float(ordered[rank - 1]), at_least)
    rank = int(np.searchsorted(ordered, threshold, "right"))
    return Calibration(
        threshold=threshold,
        n=n,
        expected=(n + 1 - rank) / (n + 1),
        bound=float(betaincinv(n + 1 - rank, rank, _CONFIDENCE)),
    )


@runtime_checkable
class Calibrated(Protocol):
    """A fitted guard that can say how it came to its threshold."""

    @property
    def calibration(self) -> Calibration:
        """The threshold and what it costs."""


@dataclass(frozen=True)
class CalibratedScorer:
    """A fitted guard: what it reads off images, several judges of that, and a threshold.

    Each judge was fitted without a part of the clean images, and a score is the mean of all judges. Were the judge of
    new images fitted to more images than those of the clean ones, the two would not be on one scale.

    `clean_scores` (len(clean),) are those of the clean images, each by the judge that was fitted without it; NaN where
    there were more images than needed.
    """

    read: Reader
    judges: tuple[Judge, ...]
    calibration: Calibration
    clean_scores: Scores

    @property
    def threshold(self) -> float:
        """The score above which an input is refused."""
        return self.calibration.threshold

    def scores(self, images: Tensor) -> Tensor:
        """Return (N,) scores of images (N, C, H, W) in [0, 1], higher is more suspicious."""
        with torch.inference_mode():
            readings = self.read(images)
            return torch.stack([judge(readings) for judge in self.judges]).mean(dim=0)


class CalibratedGuard(Guard):
    """A guard that reads something off an image and judges it; its threshold comes from clean images.

    **Source** of the folds: R. Barber, E. Candès, A. Ramdas, R. Tibshirani, "Predictive inference with the jackknife+",
    Annals of Statistics 49, 2021, section 3 (CV+).
    """

    #: Clean images that are read at most: enough for a rate of 0.01.
    most_images: ClassVar[int] = 1000

    false_refusals: float = Field(0.01, gt=0, lt=1, description="share of clean images that may be refused")

    @abstractmethod
    def make_reader(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        suspected: Sequence[Backdoor] = (),
        repaired: Classifier | None = None,
        seed: int,
    ) -> Reader:
        """Return what is read off images; what it takes from clean images must not depend on single ones."""

    def fit_judge(self, classifier: Classifier, readings: Readings) -> Judge:
        """Return what judges readings, fitted to those of clean images; by default the reading is the score."""
        return lambda given: given[0]

    def fit(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        suspected: Sequence[Backdoor] = (),
        repaired: Classifier | None = None,
        seed: int,
        progress: Progress = no_progress,
    ) -> CalibratedScorer:
        """Fit the guard by cross-validation.

        Each scoring function is fitted without a tenth of the clean images, and scores that tenth. The threshold comes from
        these scores.

        Raises:
            MethodFailed: there are fewer than two clean images.
            InputError: images and network do not fit each other.
        """
        require_fit(classifier, clean)
        if len(clean) < 2:
            raise MethodFailed(
                f"{clean.name}: expected at least 2 clean images, some to fit and some to judge by; got {len(clean)}"
            )
        order = np.random.default_rng(seed).permutation(len(clean))[: self.most_images]
        read = self.make_reader(classifier, clean, suspected=suspected, repaired=repaired, seed=seed)
        readings = read_all(read, clean.subset(order), progress=progress)
        judges, scores = [], np.full(len(clean), np.nan)
        for part in np.array_split(np.arange(len(order)), min(_FOLDS, len(order))):
            others = np.setdiff1d(np.arange(len(order)), part)
            judges.append(self.fit_judge(classifier, tuple(reading[others] for reading in readings)))
            scores[order[part]] = judges[-1](tuple(reading[part] for reading in readings)).numpy()
        return CalibratedScorer(read, tuple(judges), calibrate(scores[order], self.false_refusals), scores)


def read_all(read: Reader, dataset: Dataset, *, progress: Progress = no_progress) -> Readings:
    """Return the readings of all images, in order."""
    parts, done = [], 0
    with torch.inference_mode():
        for batch in dataset.batches():
            parts.append(read(batch.images))
            done += len(batch.labels)
            progress(done, len(dataset))
    return tuple(torch.cat(reading) for reading in zip(*parts, strict=True))


def score_all(guard: FittedGuard, dataset: Dataset) -> Scores:
    """Return a guard's score of every image, (N,).

    Raises:
        MethodFailed: a score is not a number.
    """
    with torch.no_grad():
        scores = torch.cat([guard.scores(batch.images).detach().cpu() for batch in dataset.batches()])
    if torch.isnan(scores).any():
        raise MethodFailed(
            f"the guard gave no score for {int(torch.isnan(scores).sum())} of {len(scores)} images of {dataset.name}"
        )
    return scores.to(torch.float64).numpy()
