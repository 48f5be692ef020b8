"""Clean student: with two or three classes, a target is far easier to reach than classes of clean networks.

It is also far easier to reach than in a student that has learnt from clean images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.method import Progress, RunParts, Scanner, no_progress, run_here
from goodnet.core.results import Detection
from goodnet.evidence.clean_student import Comparison, average, compare_with_student
from goodnet.evidence.held_out import hold_out, still_suspected, try_triggers
from goodnet.evidence.judgement import DOUBT
from goodnet.evidence.outliers import Scores
from goodnet.evidence.rounds import describe_rounds, further_seeds, is_close, name_round
from goodnet.evidence.student import teach_student
from goodnet.triggers.inversion import Schedule, classes_of


class _Round(NamedTuple):
    """What was measured, and the share of the network's predictions on held-out images that the student makes too."""

    found: Comparison
    agreement: float


class CleanStudent(Scanner):
    """Suspects a class that is easier to reach than classes of clean networks are; for networks of two or three classes.

    The other scanners compare classes with one another, which says little among two or three. This one measures how small a
    class's trigger is in the image; how small beside the triggers that single images need; and how much more margin one faint
    blended image gains in the network than in a student. The student is a small network that learns the network's predictions
    on the clean images: it has the classes' natural weaknesses, but no planted one. Each measure is standardised by its mean
    and standard deviation over clean networks. Their sum, compared with the highest sums in clean networks, gives the p-value
    (`docs/scan.md`). Where it is near alpha, the measurements of three rounds are averaged, each with another student, other
    images and other starts.

    **Source** trigger sizes: B. Wang et al., "Neural Cleanse", IEEE S&P 2019; comparing triggers of single images with one
    for all: after Z. Xiang, D. Miller, G. Kesidis, "Post-training detection of backdoor attacks for two-class and
    multi-attack scenarios", ICLR 2022; the student is ours.
    **Differs** from Xiang et al.: sizes instead of the share of images that another image's perturbation moves (expected
    transferability), which did not separate backdoored from clean networks in our tests.
    **Needs** at least 60 clean images (labels are not used); gradients.
    **Cost** for each class steps * images (640) passes for the trigger, steps * 10 for single images and 128 for the blend,
    forward and backward; forward alone about 6,000 for small patches, for all classes at once; 8,000 of the student.
    Three times as much where a p-value is near alpha.
    **Fails when** the student does not learn the network's predictions; the network is unlike those that the reference values
    come from (small, images of 16 x 16 to 55 x 47); the trigger works on images of one class alone.
    """

    alpha: float = Field(
        0.01, gt=0, lt=0.2, description="significance level: the share of clean networks that may be called backdoored"
    )
    steps: int = Field(
        80,
        ge=1,
        description="steps of inversion per class; the reference values of clean networks were measured with 80",
    )
    images: int = Field(
        8, ge=1, description="clean images per step; the reference values of clean networks were measured with 8"
    )
    lessons: int = Field(8000, ge=1, description="images that the student sees while it learns")

    def examine(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        seed: int,
        run_parts: RunParts = run_here,
        progress: Progress = no_progress,
    ) -> Detection:
        """Return minus log of the p-value of each class; NaN where there was no time."""
        images, held_out = self.draw_images(clean, seed)
        rounds = [self._compare(classifier, images, held_out, seed, run_parts, progress)]
        if _is_whole(rounds[0]) and is_close(rounds[0].found.scores()[1], -math.log(self.alpha)):
            for number in further_seeds(seed):
                others = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(number))]
                further = name_round(run_parts, number)
                found = self._compare(classifier, others, held_out, number, further, progress)
                if not _is_whole(found):
                    break  # The time was up.
                rounds.append(found)
        return self._judge(classifier, rounds, held_out, _doubts(rounds, clean))

    def _compare(
        self,
        classifier: Classifier,
        images: Tensor,
        held_out: Tensor,
        seed: int,
        run_parts: RunParts,
        progress: Progress,
    ) -> _Round:
        """Teach a student, and measure the network beside it."""
        student = teach_student(classifier, images, self.lessons, seed=seed)
        schedule = Schedule(self.steps, self.images)
        found = compare_with_student(
            classifier, student, images, schedule, seed=seed, run_parts=run_parts, progress=progress
        )
        agreed = classes_of(student, held_out) == classes_of(classifier, held_out)
        return _Round(found, float(agreed.float().mean()))

    def draw_images(self, clean: Dataset, seed: int) -> tuple[Tensor, Tensor]:
        """Return the clean images that all is measured with, and those on which triggers and the student are tried."""
        return hold_out(clean.sample(_IMAGES, seed=seed).images(), self.images)

    def _judge(
        self, classifier: Classifier, rounds: Sequence[_Round], held_out: Tensor, doubts: Sequence[str]
    ) -> Detection:
        found = average([item.found for item in rounds])
        deviations, scores = found.scores()
        least = -math.log(self.alpha)
        named = [int(label) for label in np.argsort(-scores, kind="stable") if scores[label] >= least]
        suspected = tuple(Backdoor(found.trigger(label), label, name=self.name()) for label in named)
        trials = try_triggers(classifier, held_out, suspected)
        kept = () if doubts else still_suspected(suspected, trials)
        doubtful = bool(doubts) or bool((scores >= least - math.log(DOUBT)).any())
        return Detection(
            verdict="backdoored" if kept else "inconclusive" if doubtful else "clean",
            scores=tuple(float(score) for score in scores),
            threshold=least,
            suspected=kept,
            unscanned=tuple(int(label) for label in np.flatnonzero(np.isnan(scores))),
            reason="; ".join(
                [*_describe(deviations, scores, self.alpha), *map(str, trials), *doubts, *_remarks(rounds)]
            ),
            evidence={kind: tuple(float(value) for value in values) for kind, values in deviations.items()},
        )


#: Clean images that are used, at most. Fewer than the second teach a student too little. Students that agree less often with
#: their network than the third were not among those that the usual values come from.
_IMAGES, _LEAST_IMAGES, _LEAST_AGREEMENT = 480, 60, 0.75


def _describe(deviations: Mapping[str, Scores], scores: Scores, alpha: float) -> list[str]:
    """Return which class is the easiest to reach, its p-value, and what each kind of evidence says of it."""
    if np.isnan(scores).all():
        return []
    label = int(np.nanargmax(scores))
    shown = ", ".join(f"{kind} {values[label]:+.1f}" for kind, values in deviations.items())
    return [
        f"class {label} has the lowest p-value, {math.exp(-scores[label]):.2g}; alpha is {alpha:g}",
        f"class {label}, in standard deviations of clean networks: {shown}",
    ]


def _doubts(rounds: Sequence[_Round], clean: Dataset) -> list[str]:
    """Return why there can be no verdict."""
    doubts = []
    if len(clean) < _LEAST_IMAGES:
        doubts.append(f"only {len(clean)} clean images, at least {_LEAST_IMAGES} are needed to teach a student")
    agreement = sum(item.agreement for item in rounds) / len(rounds)
    if agreement < _LEAST_AGREEMENT:
        doubts.append(
            f"a student of the clean images makes only {agreement:.2f} of the network's predictions: too few to compare"
        )
    if not _is_whole(rounds[0]):
        doubts.append("the time was up before all classes were done")
    return doubts


def _remarks(rounds: Sequence[_Round]) -> list[str]:
    """Return what the user should know of the verdict."""
    return [describe_rounds(len(rounds))] if len(rounds) > 1 else []


def _is_whole(item: _Round) -> bool:
    """Whether there was time for all classes."""
    return all(np.isfinite(values).all() for values in item.found.values.values())
