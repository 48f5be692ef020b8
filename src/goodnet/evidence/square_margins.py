"""Adversarial patches as evidence: at which place does a class stand out from the others, and how far?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from goodnet.core.backdoor import Patch
from goodnet.core.classifier import Classifier
from goodnet.core.method import Progress, RunParts, no_progress, run_here
from goodnet.evidence.outliers import Scores, lead_score, least_unit, prior_of, robust_spread
from goodnet.triggers.adversarial_patches import SquareSchedule, optimise_squares
from goodnet.triggers.inversion import classes_of
from goodnet.triggers.patch_probe import moved_share

_USUALLY = SquareSchedule()
#: The share of images that a square must move to be a trigger to one target.
_WORKS = 0.5


@dataclass(frozen=True)
class SquareMargins:
    """What squares of free colours reach in a network of `classes` classes.

    `labels` (L,) the classes that were looked into, `margins` (L, P) what each reaches at each place; `patches` (L,) the square
    of each class at the place where it stands out most. `shares` (L,): where a class stands out, the share of images of other
    classes that its square moves, some of which it was optimised on; else NaN. `complete`: whether there was time for all.
    """

    classes: int
    labels: tuple[int, ...]
    margins: Tensor
    patches: tuple[Patch, ...] = ()
    shares: tuple[float, ...] = ()
    complete: bool = True

    @property
    def leads(self) -> Scores:
        """By how much the first class leads the second at each place, (P,), in units of the place's spread."""
        first, second = np.sort(self._values, axis=0)[[-1, -2]]
        leads: Scores = (first - second) / self._units
        return leads

    def scores(self, usual: float) -> Scores:
        """Return minus the natural log of each class's p-value, (classes,); NaN for those that were not looked into.

        The classes are compared at each place; `usual` is the mean lead in clean networks. The smallest p-value of the places
        counts, times their number. A class whose square moves fewer than half of the images has no score.
        """
        scores = np.full(self.classes, np.nan)
        scores[list(self.labels)] = self._at_places(usual).max(axis=1) - np.log(self.margins.shape[1])
        for label, share in zip(self.labels, self.shares, strict=False):
            if share < _WORKS:
                # It moves the images of few classes: the trigger of a source-specific backdoor, which is other evidence.
                scores[label] = min(scores[label], 0.0)
        return scores

    def patch_of(self, label: int, least: float) -> Patch | None:
        """Return the square of a class, None if it moves less than the share `least` of the images, or is not there."""
        if label not in self.labels or not self.complete:
            return None
        row = self.labels.index(label)
        return self.patches[row] if self.shares[row] >= least else None

    @property
    def _values(self) -> Scores:
        values: Scores = self.margins.double().numpy()
        return values

    @property
    def _units(self) -> Scores:
        return np.array([max(robust_spread(column), least_unit(column)) for column in self._values.T])

    def _at_places(self, usual: float) -> Scores:
        """Return the score of each class at each place, (L, P): none for squares whose mean margin is not positive."""
        columns, prior = zip(self._values.T, self._units, strict=True), prior_of(len(self.labels))
        scores = np.stack([lead_score(column, usual=usual * unit, prior=prior) for column, unit in columns], axis=1)
        found: Scores = np.where(self._values > 0, scores, np.minimum(scores, 0.0))
        return found


#: Evidence speaks for a class from this score on (p = 0.05): only then its square is tried on images.
_SPEAKS = -math.log(0.05)


def compare_squares(
    classifier: Classifier,
    images: Tensor,
    labels: Sequence[int],
    usual: float,
    schedule: SquareSchedule = _USUALLY,
    *,
    seed: int,
    run_parts: RunParts = run_here,
    progress: Progress = no_progress,
) -> SquareMargins:
    """Return what squares reach for the classes `labels`, at least two.

    `images` (n, C, H, W), clean, of any class; `usual` is the mean lead in clean networks; `schedule` says where the squares
    lie and how long they are optimised, `seed` is that of start values and draws.

    Cost: that of `optimise_squares`, one pass over the images, and one more for each class that stands out.
    """
    found = optimise_squares(classifier, images, labels, schedule, seed=seed, run_parts=run_parts, progress=progress)
    margins = SquareMargins(classifier.classes, found.labels, found.margins)
    if len(found.labels) < len(labels) or not bool(found.margins.isfinite().all()):
        return replace(margins, complete=False)
    best, (height, width) = margins._at_places(usual).argmax(axis=1), classifier.image_shape[1:]
    patches = tuple(found.patch(row, int(place), height, width) for row, place in enumerate(best))
    scores, predictions = margins.scores(usual)[list(found.labels)], classes_of(classifier, images)
    shares = tuple(
        moved_share(predictions, classes_of(classifier, patch(images)), label) if score >= _SPEAKS else math.nan
        for patch, label, score in zip(patches, found.labels, scores, strict=True)
    )
    return replace(margins, patches=patches, shares=shares)


def average_margins(found: Sequence[SquareMargins]) -> SquareMargins:
    """Return the mean margins of several rounds, and for each class the square that moves most images.

    All have the same labels.
    """
    best = np.nan_to_num([item.shares for item in found], nan=-1.0).argmax(axis=0)
    return replace(
        found[0],
        margins=torch.stack([item.margins for item in found]).mean(dim=0),
        patches=tuple(found[turn].patches[row] for row, turn in enumerate(best)),
        shares=tuple(found[turn].shares[row] for row, turn in enumerate(best)),
    )
