"""SCALE-UP: a prediction that survives when all pixels are multiplied comes from a trigger."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import BATCH, Dataset
from goodnet.guards.calibration import CalibratedGuard, Judge, Reader, Readings

#: Fewest clean images of a class that give it a mean and a deviation of its own.
_LEAST = 10


class ScaleUp(CalibratedGuard):
    """Refuses an input that keeps its class when its pixels are multiplied by 3, 5, 7, 9 and 11 and cut off at white.

    A clean image loses its class as it saturates; a dominating trigger keeps its class. The score is the
    mean probability, over the scales, of the class of the unscaled input, compared with that of clean images of
    the same class: (score - mean) / deviation. Classes with fewer than ten clean images share one mean and deviation.

    **Source** J. Guo, Y. Li, X. Chen, H. Guo, L. Sun, C. Liu, "SCALE-UP: An Efficient Black-box Input-level Backdoor
    Detection via Analyzing Scaled Prediction Consistency", ICLR 2023, section 4 (data-limited).
    **Differs** probabilities instead of counting the scales that keep the class: with five scales a count has only six values.
    The network's own predictions say which class a clean image is of, so that no labels are needed.
    **Needs** clean images; logits.
    **Cost** one pass for the input and one for each scale.
    **Fails when** images are bright already, so that all scales look alike; the trigger is lost in saturation (dark
    patches, faint overlays); the network is just as certain on saturated clean images as on others.
    """

    scales: tuple[float, ...] = Field((3.0, 5.0, 7.0, 9.0, 11.0), min_length=1, description="factors of the pixels")

    def make_reader(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        suspected: Sequence[Backdoor] = (),
        repaired: Classifier | None = None,
        seed: int,
    ) -> Reader:
        """Return what gives the mean probability that scaled images keep their class, (N,), and the class, (N,)."""

        def read(images: Tensor) -> Readings:
            parts = [self._consistency(classifier, part) for part in torch.split(images, BATCH)]
            kept, classes = (torch.cat(values).cpu() for values in zip(*parts, strict=True))
            return kept, classes

        return read

    def _consistency(self, classifier: Classifier, images: Tensor) -> Readings:
        predicted = classifier(images).argmax(dim=1, keepdim=True)
        scaled = [classifier((images * scale).clamp(0, 1)).softmax(dim=1) for scale in self.scales]
        return torch.stack(scaled).mean(dim=0).gather(1, predicted)[:, 0], predicted[:, 0]

    def fit_judge(self, classifier: Classifier, readings: Readings) -> Judge:
        """Take mean and deviation of each class."""
        kept, classes = readings
        means, deviations = class_statistics(kept, classes, classifier.classes)
        return lambda given: (given[0] - means[given[1]]) / deviations[given[1]]


def class_statistics(values: Tensor, classes: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the values of each class, both (count,).

    Args:
        values: (n,).
        classes: (n,) int64.
        count: number of classes; those with fewer than ten values get mean and deviation of all.
    """
    floor = 0.1 * values.std(correction=0).clamp_min(1e-3)
    means = values.mean().repeat(count)
    deviations = values.std(correction=0).clamp_min(1e-3).repeat(count)
    for label in np.flatnonzero(np.bincount(classes.numpy(), minlength=count) >= _LEAST):
        own = values[classes == label]
        means[label], deviations[label] = own.mean(), own.std(correction=0).clamp_min(floor)
    return means, deviations
