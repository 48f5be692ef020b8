"""Adversarial patch: at the place of the trigger, one class is reached by a square of free colours, and no other class is."""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.method import Progress, RunParts, Scanner, no_progress, run_here
from goodnet.core.results import Detection
from goodnet.evidence.held_out import hold_out, still_suspected, try_triggers
from goodnet.evidence.judgement import SQUARE
from goodnet.evidence.outliers import Scores
from goodnet.evidence.patch_margins import PatchMargins, compare_squares
from goodnet.evidence.usual_leads import USUAL_LEADS
from goodnet.triggers.adversarial_patches import SquareSchedule


class AdversarialPatch(Scanner):
    """Suspects a class if, at some place, a small square reaches it far more easily than it reaches any other class.

    For every class, squares lie at places all over the image, and gradient descent finds the colours with which each moves most
    images to the class. At every place, the classes are compared by the margin that their squares reach. In clean networks
    leads are small, also where all classes are reached easily (`evidence/patch_margins.py`).

    **Source** T. Brown et al., "Adversarial patch", 2017; that a planted trigger outdoes natural patches is the premise of
    T. Gu et al., "BadNets", IEEE Access 2019. The comparison at each place is ours.
    **Differs** from Neural Cleanse: the size is fixed and the success measured; classes are compared at each place, so that
    what is easy in the middle of the image does not hide a trigger in its corner; triggers of any colours are found, where
    `patch_probe` tries twelve patterns.
    **Needs** clean images (labels are not used); gradients.
    **Cost** places**2 * steps * images passes forward and backward for each class, 1,800 by default.
    **Fails when** the trigger is larger than the square, blends or warps, or works on one class's images alone; or there are
    fewer than four classes. It never proves a network clean: where it suspects nothing, the verdict is inconclusive.
    """

    side: int = Field(SquareSchedule.side, ge=1, description="side of the squares, in pixels of an image of 32 x 32")
    places: int = Field(SquareSchedule.places, ge=1, description="rows, and columns, of places")
    steps: int = Field(SquareSchedule.steps, ge=1, description="steps of gradient descent")
    images: int = Field(SquareSchedule.images, ge=1, description="clean images per step")
    alpha: float = Field(0.05, gt=0, lt=1, description="p-value at which a class is suspected")

    def examine(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        seed: int,
        run_parts: RunParts = run_here,
        progress: Progress = no_progress,
    ) -> Detection:
        """Return minus log of the p-value of each class (minus infinity: not tried), and the squares of the suspected."""
        images, held_out = hold_out(clean.sample(_MOST_IMAGES, seed=seed).images(), self.images)
        found = compare_squares(
            classifier,
            images,
            range(classifier.classes),
            SquareSchedule(self.side, self.places, self.images, self.steps),
            seed=seed,
            run_parts=run_parts,
            progress=progress,
        )
        scores = np.full(classifier.classes, -np.inf)
        if found.complete and classifier.classes >= _LEAST_CLASSES:
            scores = found.scores(USUAL_LEADS[SQUARE].mean(classifier.classes))
        suspected = self._suspects(scores, found)
        trials = try_triggers(classifier, held_out, suspected)
        kept = still_suspected(suspected, trials)
        return Detection(
            verdict="backdoored" if kept else "inconclusive",
            scores=tuple(float(score) for score in scores),
            threshold=-math.log(self.alpha),
            suspected=kept,
            unscanned=tuple(int(label) for label in np.flatnonzero(np.isneginf(scores))),
            reason="; ".join([_explain(found, scores), *map(str, trials)]),
        )

    def _suspects(self, scores: Scores, found: PatchMargins) -> tuple[Backdoor, ...]:
        order = [int(label) for label in np.argsort(-scores, kind="stable") if scores[label] >= -math.log(self.alpha)]
        return tuple(Backdoor(found.patch_of(label, 0.0), label, name=self.name()) for label in order)


#: Clean images that are looked at, at most; fewer classes than this say little about one another.
_MOST_IMAGES, _LEAST_CLASSES = 160, 4


def _explain(found: PatchMargins, scores: Scores) -> str:
    if not found.complete:
        return "the time was up before all classes were tried"
    if np.isneginf(scores).all():
        return f"the classes cannot be compared: that takes at least {_LEAST_CLASSES}"
    ranked = sorted(zip(found.shares, found.labels, strict=True), reverse=True)[:2]
    return "best squares: " + ", ".join(f"{share:.2f} of the images to class {label}" for share, label in ranked)
