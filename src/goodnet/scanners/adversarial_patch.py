"""Adversarial patch: where the trigger lies, a square of free colours reaches the target, and no other class."""

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
from goodnet.evidence.outliers import LEAST_CLASSES, Scores
from goodnet.evidence.square_margins import SquareMargins, compare_squares
from goodnet.evidence.usual_leads import USUAL_LEADS
from goodnet.triggers.adversarial_patches import SquareSchedule


class AdversarialPatch(Scanner):
    """Suspects a class if, at some place, a small square of free colours can reach this class far more easily than any other.

    For every class, squares lie at places all over the image, and gradient descent finds their colours. At every place, the
    classes are compared by the margin that their squares reach. What counts is the lead of the first class there; in clean
    networks leads are small, however easily the classes are reached (`evidence/usual_leads.toml`).

    **Source** T. Brown et al., "Adversarial patch", 2017; that a planted trigger outdoes natural patches is the premise of
    T. Gu et al., "BadNets", IEEE Access 2019. The comparison at each place is ours.
    **Differs** from Neural Cleanse: the size is fixed and the success measured; classes are compared at each place, so that
    what is easy in the middle of the image does not hide a trigger in its corner; triggers of any colours are found, where
    `patch_probe` tries twelve patterns.
    **Needs** clean images (labels are not used); gradients.
    **Cost** grid**2 * steps * images passes forward and backward for each class, 1,800 by default.
    **Fails when** the trigger is larger than the square, blends or warps, or works on one class's images alone; or there are
    fewer than four classes. It never proves a network clean: where it suspects nothing, the verdict is inconclusive.
    """

    side: int = Field(
        SquareSchedule.side, ge=1, le=32, description="side of the squares, in pixels of an image of 32 x 32"
    )
    grid: int = Field(SquareSchedule.grid, ge=1, description="rows, and columns, of places")
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
        """Return minus log of the p-value of each class, and the squares of the suspected."""
        if classifier.classes < LEAST_CLASSES:
            return Detection.unexamined(
                classifier.classes, f"with fewer than {LEAST_CLASSES} classes nothing can be compared"
            )
        images, held_out = hold_out(clean.sample(_MOST_IMAGES, seed=seed).images(), self.images)
        usual = USUAL_LEADS[SQUARE].mean(classifier.classes)
        schedule = SquareSchedule(self.side, self.grid, self.images, self.steps)
        found = compare_squares(
            classifier,
            images,
            range(classifier.classes),
            usual,
            schedule,
            seed=seed,
            run_parts=run_parts,
            progress=progress,
        )
        if not found.complete:
            return Detection.unexamined(classifier.classes, "the time was up before all classes were tried")
        scores = found.scores(usual)
        suspected = self._suspects(scores, found)
        trials = try_triggers(classifier, held_out, suspected)
        kept = still_suspected(suspected, trials)
        return Detection(
            verdict="backdoored" if kept else "inconclusive",
            scores=tuple(float(score) for score in scores),
            threshold=-math.log(self.alpha),
            suspected=kept,
            reason="; ".join([_explain(scores), *map(str, trials)]),
        )

    def _suspects(self, scores: Scores, found: SquareMargins) -> tuple[Backdoor, ...]:
        order = [int(label) for label in np.argsort(-scores, kind="stable") if scores[label] >= -math.log(self.alpha)]
        return tuple(Backdoor(found.patch_of(label, 0.0), label, name=self.name()) for label in order)


#: Clean images that are looked at, at most.
_MOST_IMAGES = 160


def _explain(scores: Scores) -> str:
    label = int(scores.argmax())
    return f"class {label} stands out most, with p = {min(1.0, math.exp(-float(scores[label]))):.2g}"
