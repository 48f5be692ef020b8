"""Last layer: a backdoor's target owns a row of the last linear layer whose weights lie above those of the other classes."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnreadableModel
from goodnet.core.method import Progress, RunParts, Scanner, no_progress, run_here
from goodnet.core.results import Detection
from goodnet.evidence.outliers import Scores, robust_z
from goodnet.inference.last_layer import class_weights


class LastLayer(Scanner):
    """Suspects a class if the mean weight of its row in the last layer is unusually high.

    A trigger must win against every class that the image shows, so training turns many weights of the target's row up
    at once. Each feature counts by how differently the classes use it: those that none of them use would only add
    noise. Row means are compared by a robust z, whose deviation is at least the standard error expected of independent
    weights, so that z is not inflated where there are few classes.

    **Source** G. Fields, M. Samragh, M. Javaheripi, F. Koushanfar, T. Javidi, "Trojan Signatures in DNN Weights", ICCV
    Workshops 2021, pp. 12-20.
    **Differs** Features are weighted by their spread over the classes; robust z with that floor and a bound on the
    chance of a false alarm for all classes together, instead of the paper's outlier test.
    **Needs** the weights; no data, no gradients.
    **Cost** no passes: one sum over classes * features, milliseconds.
    **Fails when** the network does not end in a linear layer (an error); often otherwise: as evidence among others it is
    worth more than as a verdict. On the 28 backdoored networks on which the weighting was chosen, ours and others', the
    target's row came first in 14 and passed the threshold in one; no clean one of 18 did. Large overlays leave the row
    unmoved, and an attacker evades the scan by fixing the last layer while he trains.
    """

    false_alarms: float = Field(
        0.01, gt=0, lt=1, description="chance that independent weights would exceed the threshold in any class"
    )

    def examine(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        seed: int,
        run_parts: RunParts = run_here,
        progress: Progress = no_progress,
    ) -> Detection:
        """Return the z of every class; rows alone never prove a network clean, so the best verdict is inconclusive.

        Raises:
            UnreadableModel: the network does not end in a linear layer, or its weights are not finite.
        """
        scores = row_scores(classifier)
        threshold = NormalDist().inv_cdf(1 - self.false_alarms / classifier.classes)
        comparable = classifier.classes >= _LEAST_CLASSES
        found = [int(label) for label in np.argsort(-scores) if comparable and scores[label] >= threshold]
        progress(classifier.classes, classifier.classes)
        return Detection(
            verdict="backdoored" if found else "inconclusive",
            scores=tuple(float(score) for score in scores),
            threshold=threshold,
            suspected=tuple(Backdoor(None, label, name=self.name()) for label in found),
            reason=_explain(scores, threshold, found),
        )


#: Of two rows, each is the other's mirror image: neither can stand out.
_LEAST_CLASSES = 3


def row_scores(classifier: Classifier) -> Scores:
    """Return the robust z of every class's row mean in the last linear layer, (classes,).

    Raises:
        UnreadableModel: the network does not end in a linear layer, or its weights are not finite.
    """
    weights = class_weights(classifier)
    if weights is None:
        raise UnreadableModel(
            f"{classifier.name}: expected a linear layer with one row per class ({classifier.classes}) at the end, found "
            "none; scan with another method: max_margin, neural_cleanse"
        )
    if not torch.isfinite(weights).all():
        raise UnreadableModel(
            f"{classifier.name}: expected finite weights in the last layer, got NaN or infinity; the network is damaged"
        )
    means, error = row_means(weights.double().cpu())
    return robust_z(means.numpy(), floor=error)


def row_means(weights: Tensor) -> tuple[Tensor, float]:
    """Return the weighted mean of each centred row (classes,), and its standard error if weights were independent.

    Args:
        weights: (classes, features) float64; a feature weighs as much as its standard deviation over the classes.
    """
    rows = weights - weights.mean(dim=0)
    spreads = rows.std(dim=0)
    shares = spreads / spreads.sum().clamp_min(torch.finfo(rows.dtype).tiny)
    return rows @ shares, float((shares * spreads).norm())


def _explain(scores: Scores, threshold: float, found: list[int]) -> str:
    if found:
        return f"{len(found)} classes with a row mean at z {threshold:.1f} or more"
    if len(scores) < _LEAST_CLASSES:
        return "rows of two classes mirror each other: neither can stand out"
    top = int(scores.argmax())
    return f"no row stands out: the highest is class {top} at z {scores[top]:.1f}, threshold {threshold:.1f}"
