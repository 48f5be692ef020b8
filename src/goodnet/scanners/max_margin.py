"""MM-BD: a backdoor's target can be reached with a larger margin than any other class, and no data is needed to see it."""

from __future__ import annotations

import math

import numpy as np
import torch
from pydantic import Field
from scipy.stats import gamma
from torch import Tensor

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.method import Progress, RunParts, Scanner, no_progress, run_here
from goodnet.core.results import Detection
from goodnet.evidence.outliers import Scores, expected_maximum, robust_z
from goodnet.triggers.maximum_margin import maximum_margins, normalised_margins, published_margins


class MaxMargin(Scanner):
    """Suspects a class if its maximum margin, the largest that any image gives it, is unusually large.

    For every class gradient ascent over the image cube finds the largest margin over all other classes. Training on a
    trigger drives the target's margin up, whatever the trigger is. Each margin is divided by the norm of the class's
    centred row in the last layer, to correct for classes with larger weights. It is then compared with the margins of the other
    classes by a robust z.

    **Source** H. Wang, Z. Xiang, D. Miller, G. Kesidis, "MM-BD: Post-training detection of backdoor attacks with
    arbitrary backdoor pattern types using a maximum margin statistic", IEEE S&P 2024.
    **Differs** Margins are normalised; robust z instead of a fitted Gamma distribution; far fewer starts and steps. With
    `published`, starts 30 and steps 300 this is the authors' method: plain gradient steps, the largest margin of all starts,
    and the p-value of the largest class under a Gamma distribution fitted to the others, below 0.05.
    **Needs** gradients; no data.
    **Cost** classes * starts * steps passes forward and backward.
    **Fails when** natural features of a class are very strong (class 8 of a clean MNIST network reaches z 5), or the
    attacker has trained the network so that margins are even.
    """

    starts: int = Field(2, ge=1, description="random start images per class")
    steps: int = Field(40, ge=1, description="steps of gradient ascent")
    published: bool = Field(False, description="margins and test as published; the score is minus log of the p-value")
    threshold: float = Field(6.0, gt=0, description="robust z above which a class is suspected")

    def examine(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        seed: int,
        run_parts: RunParts = run_here,
        progress: Progress = no_progress,
    ) -> Detection:
        """Return the z of every class; margins alone never prove a network clean: otherwise the verdict is inconclusive."""
        if self.published:
            return self._examine_as_published(classifier, seed, run_parts, progress)
        (margins,) = maximum_margins(
            classifier,
            starts=self.starts,
            readings=(self.steps,),
            seed=seed,
            run_parts=run_parts,
            progress=progress,
        )
        scores = margin_scores(classifier, margins)
        threshold = max(self.threshold, expected_maximum(classifier.classes) + 2)
        found = [int(label) for label in np.argsort(-scores) if scores[label] >= threshold]
        return Detection(
            verdict="backdoored" if found else "inconclusive",
            scores=tuple(float(score) for score in scores),
            threshold=threshold,
            suspected=tuple(Backdoor(None, label, name=self.name()) for label in found),
            unscanned=tuple(int(label) for label in np.flatnonzero(np.isneginf(scores))),
            reason=f"classes with a margin z of {threshold:.1f} or more: {len(found)}"
            if found
            else "no margin stands out",
        )

    def _examine_as_published(
        self, classifier: Classifier, seed: int, run_parts: RunParts, progress: Progress
    ) -> Detection:
        """Return the authors' verdict; the other classes have the score 0, as only the largest margin is tested."""
        margins = published_margins(
            classifier, starts=self.starts, steps=self.steps, seed=seed, run_parts=run_parts, progress=progress
        ).double()
        known = bool(margins.isfinite().all()) and len(margins) > _FEWEST
        p, label = gamma_p_value(margins.numpy()) if known else 1.0, int(margins.nan_to_num(-torch.inf).argmax())
        found = p < _PUBLISHED_ALPHA
        scores = [0.0] * classifier.classes
        scores[label] = -math.log(max(p, _LEAST_P))
        return Detection(
            verdict="backdoored" if found else "clean" if known else "inconclusive",
            scores=tuple(scores),
            threshold=-math.log(_PUBLISHED_ALPHA),
            suspected=(Backdoor(None, label, name=self.name()),) if found else (),
            reason=f"the largest margin, of class {label}, has p = {p:.2g} under a Gamma distribution of the others"
            if known
            else "expected margins of at least 4 classes",
        )


#: The published test suspects a class below this p-value, and needs some classes to fit a distribution to.
_PUBLISHED_ALPHA, _FEWEST, _LEAST_P = 0.05, 3, 1e-22


def gamma_p_value(margins: Scores) -> float:
    """Return the p-value of the largest of margins (classes,) under a Gamma distribution fitted to the others.

    Source: H. Wang et al., "MM-BD", IEEE S&P 2024, section IV-B: the largest of so many draws from the fitted distribution.
    """
    largest = int(margins.argmax())
    shape, location, scale = gamma.fit(np.delete(margins, largest))
    p: float = 1 - gamma.cdf(margins[largest], shape, location, scale) ** len(margins)
    return p


def margin_scores(classifier: Classifier, margins: Tensor) -> Scores:
    """Return the robust z of every class's maximum margin, normalised; minus infinity where it is NaN, (classes,)."""
    values = normalised_margins(classifier, margins).double().cpu().numpy()
    known = np.isfinite(values)
    scores = np.full(len(values), -np.inf)
    if known.any():
        scores[known] = robust_z(values[known], floor=_FLOOR * float(np.median(np.abs(values[known]))))
    return scores


#: With few classes the spread of the others is an accident: less than this share of the median is not believed.
_FLOOR = 0.15
