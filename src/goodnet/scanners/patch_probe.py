"""Patch probe: a small opaque patch, slid over clean images, sends them to a backdoor's target far oftener than elsewhere."""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field, field_validator

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.method import Progress, RunParts, Scanner, no_progress, run_here
from goodnet.core.results import Detection
from goodnet.evidence.held_out import hold_out, still_suspected, try_triggers
from goodnet.evidence.judgement import PATCH
from goodnet.evidence.outliers import Scores, lead_score
from goodnet.evidence.usual_leads import USUAL_LEADS
from goodnet.triggers.patch_probe import ProbeSchedule, Shares, probe_shares


class PatchProbe(Scanner):
    """Suspects a class if one patch sends far more images to it than any patch sends to another class.

    Squares in the corners of the colour cube, chequers and random colours are put on four clean images, at every second pixel,
    and on six more at the best places. The best patches of the 16 classes that come first are tried on further images. What
    counts is by how much the share that it moves leads that of the next class: in clean networks leads are small, however
    easily their classes are reached (`evidence/outliers.py`).

    **Source** ours; that a planted patch outdoes natural ones is the premise of T. Gu et al., "BadNets", IEEE Access 2019,
    and of B. Wang et al., "Neural Cleanse", IEEE S&P 2019.
    **Differs** from Neural Cleanse: no gradients, all classes from the same passes, success at a fixed small size instead of
    size at a fixed success.
    **Needs** clean images (labels are not used); logits only.
    **Cost** sides * patterns * places * 4 passes forward, for any number of classes, about 24,000 for images of 32 x 32 in
    colour, 10,000 for 28 x 28 in grey; those of the other images at the best places; and one for each of 16 classes on each
    image.
    **Fails when** the trigger is larger than the patches, blends or warps, or works on one class's images alone. It never
    proves a network clean: where it suspects nothing, the verdict is inconclusive.
    """

    sides: tuple[int, ...] = Field(
        (3, 5), min_length=1, description="sides of the patches, in pixels of an image of 32 x 32"
    )
    images: int = Field(10, ge=1, description="clean images that the patches are slid over")
    stride: int = Field(2, ge=1, description="pixels from one place of a patch to the next, in an image of 32 x 32")
    alpha: float = Field(0.05, gt=0, lt=1, description="p-value at which a class is suspected")

    @field_validator("sides")
    @classmethod
    def _at_least_one_pixel(cls, sides: tuple[int, ...]) -> tuple[int, ...]:
        if min(sides) < 1:
            raise ValueError("expected sides of at least 1 pixel")
        return sides

    def examine(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        seed: int,
        run_parts: RunParts = run_here,
        progress: Progress = no_progress,
    ) -> Detection:
        """Return minus log of the p-value of each class (minus infinity: not tried), and the patches of the suspected."""
        images, held_out = hold_out(clean.sample(_MOST_IMAGES, seed=seed).images(), self.images)
        schedule = ProbeSchedule(self.sides, self.images, self.stride)
        shares = probe_shares(classifier, images, schedule, run_parts=run_parts, progress=progress)
        scores = np.full(classifier.classes, -np.inf)
        if len(shares.labels) > 1:
            scores[list(shares.labels)] = lead_score(shares.values, usual=USUAL_LEADS[PATCH].mean(classifier.classes))
        suspected = self._suspects(scores, shares)
        trials = try_triggers(classifier, held_out, suspected)
        kept = still_suspected(suspected, trials)
        return Detection(
            verdict="backdoored" if kept else "inconclusive",
            scores=tuple(float(score) for score in scores),
            threshold=-math.log(self.alpha),
            suspected=kept,
            unscanned=tuple(int(label) for label in np.flatnonzero(np.isneginf(scores))),
            reason="; ".join([_explain(shares), *map(str, trials), *([] if shares.complete else [_LATE])]),
        )

    def _suspects(self, scores: Scores, shares: Shares) -> tuple[Backdoor, ...]:
        found = [int(label) for label in np.argsort(-scores, kind="stable") if scores[label] >= -math.log(self.alpha)]
        return tuple(Backdoor(shares.patch_of(label), label, name=self.name()) for label in found)


_LATE = "the time was up before all patterns were tried"
#: Clean images that are looked at, at most.
_MOST_IMAGES = 80


def _explain(shares: Shares) -> str:
    if not shares.labels:
        return (
            "no patch could be compared: give sides that fit, and three times as many clean images as it is slid over"
        )
    ranked = sorted(zip(shares.values, shares.labels, strict=True), reverse=True)[:2]
    return "best patches: " + ", ".join(f"{share:.2f} of further images to class {label}" for share, label in ranked)
