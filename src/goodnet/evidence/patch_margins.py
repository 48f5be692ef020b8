"""Adversarial patches as evidence: at which place does a class stand out from the others, and how far?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from goodnet.core.backdoor import Patch
from goodnet.core.classifier import Classifier
from goodnet.core.method import Progress, RunParts, no_progress, run_here
from goodnet.evidence.outliers import Scores, lead_score, least_unit, robust_spread
from goodnet.triggers.adversarial_patches import SquareSchedule, optimise_squares
from goodnet.triggers.inversion import classes_of


@dataclass(frozen=True)
class PatchMargins:
    """What squares of free colours reach in a network of `classes` classes.

    `labels` (L,) the classes that were looked into, `margins` (L, P) what each reaches at each place; `patches` (L,) the square
    of each class at the place where it stands out most, `shares` (L,) the share of images of other classes that it moves.
    `complete`: whether there was time for all.
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
        counts, times their number.
        """
        scores = np.full(self.classes, np.nan)
        scores[list(self.labels)] = self._at_places(usual).max(axis=1) - np.log(self.margins.shape[1])
        return scores

    def patch_of(self, label: int, least: float) -> Patch | None:
        """Return the square of a class, None if it moves less than the share `least` of the images, or is not there."""
        if label not in self.labels or not self.complete:
            return None
        row = self.labels.index(label)
        return self.patches[row] if self.shares[row] >= least else None

    @property
    def heights(self) -> Scores:
        """How far each class lies above the median of all at each place, (L, P), in units of the place's spread."""
        heights: Scores = (self._values - np.median(self._values, axis=0)) / self._units
        return heights

    @property
    def _values(self) -> Scores:
        values: Scores = self.margins.double().numpy()
        return values

    @property
    def _units(self) -> Scores:
        return np.array([max(robust_spread(column), least_unit(column)) for column in self._values.T])

    def _at_places(self, usual: float) -> Scores:
        """Return the score of each class at each place, (L, P): none for squares that do not move images."""
        columns = zip(self._values.T, self._units, strict=True)
        scores = np.stack([lead_score(column, usual=usual * unit) for column, unit in columns], axis=1)
        found: Scores = np.where(self._values > 0, scores, np.minimum(scores, 0.0))
        return found


def compare_squares(
    classifier: Classifier,
    images: Tensor,
    labels: Sequence[int],
    schedule: SquareSchedule,
    *,
    seed: int,
    run_parts: RunParts = run_here,
    progress: Progress = no_progress,
) -> PatchMargins:
    """Return what squares reach for the classes `labels`, at least two, and what the best ones do to all images.

    `images` (n, C, H, W), clean, of any class; `schedule` says where the squares lie and how long they are optimised, `seed` is
    that of start values and draws.

    Cost: that of `optimise_squares`, and one pass over the images for each class.
    """
    found = optimise_squares(classifier, images, labels, schedule, seed=seed, run_parts=run_parts, progress=progress)
    if len(found.labels) < len(labels):
        return PatchMargins(classifier.classes, found.labels, found.margins, complete=False)
    margins = PatchMargins(classifier.classes, found.labels, found.margins)
    places = margins.heights.argmax(axis=1)
    height, width = classifier.image_shape[1:]
    patches = tuple(found.patch(row, int(place), height, width) for row, place in enumerate(places))
    answers = classes_of(classifier, images)
    shares = tuple(
        _moved(answers, classes_of(classifier, patch(images)), label)
        for patch, label in zip(patches, found.labels, strict=True)
    )
    return replace(margins, patches=patches, shares=shares)


def _moved(before: Tensor, after: Tensor, label: int) -> float:
    """Return the share of images that has `label` after, of those that had another class before; (n,) each."""
    others = before != label
    return float((after[others] == label).float().mean()) if bool(others.any()) else 0.0


def average_margins(found: Sequence[PatchMargins]) -> PatchMargins:
    """Return the mean margins of several rounds with the same labels, and for each class the square that moves most images."""
    best = np.array([item.shares for item in found]).argmax(axis=0)
    return replace(
        found[0],
        margins=torch.stack([item.margins for item in found]).mean(dim=0),
        patches=tuple(found[turn].patches[row] for row, turn in enumerate(best)),
        shares=tuple(found[turn].shares[row] for row, turn in enumerate(best)),
    )
