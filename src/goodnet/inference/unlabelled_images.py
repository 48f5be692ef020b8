"""Further images without labels: joined to the clean ones, with the network's own predictions as their labels."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from goodnet.core.classifier import Classifier
from goodnet.core.dataset import ArraySource, Dataset, Pixels, as_unit_range
from goodnet.core.errors import UnreadableData
from goodnet.inference.defender_labels import with_labels
from goodnet.inference.predictions import predict_classes, require_fit


@dataclass(frozen=True)
class Widened:
    """Clean images and further ones: `dataset` holds both, `used` and `left_out` count the further ones."""

    dataset: Dataset
    used: int
    left_out: int


def without_labels(classifier: Classifier, unlabelled: Dataset) -> Dataset:
    """Return `unlabelled` without the labels that it may have: nobody vouches for them, so nothing looks at them.

    Raises:
        WrongShape: the images do not fit the network.
    """
    images = replace(unlabelled, labels=None, true_labels=None, known=None)
    require_fit(classifier, images)
    return images


def widen(classifier: Classifier, clean: Dataset, unlabelled: Dataset, targets: Collection[int]) -> Widened:
    """Return the clean images, as they are, followed by those of `unlabelled` with the network's predictions as labels.

    Images that the network classifies as a suspected target are left out: nobody has looked at unlabelled images, so they may
    carry the trigger, and to train with that prediction would teach the backdoor anew. Triggers of a target that nobody
    suspects stay in. The labels of the clean images count as known, those of the others do not: accuracies are measured
    on the clean ones alone. Cost: one pass over the unlabelled images.

    Args:
        classifier: the network as it came.
        clean: clean images (n, C, H, W), with labels or without.
        unlabelled: further images (m, C, H, W); their labels are not looked at.
        targets: the suspected target classes.

    Raises:
        WrongShape: the images do not fit the network.
        UnreadableData: no unlabelled image is left.
    """
    first, images = with_labels(classifier, clean), without_labels(classifier, unlabelled)
    predictions = predict_classes(classifier, images)
    kept = np.flatnonzero(~np.isin(predictions, list(targets)))
    if not len(kept):
        raise UnreadableData(
            f"{unlabelled.name}: expected images that {classifier.name} does not send to a suspected target, but it sends all "
            f"{len(images)} there; give other images or none"
        )
    rest = images.subset(kept)
    pixels = _join(first.source.read(first.positions), rest.source.read(rest.positions))
    labels = np.concatenate([first.targets, predictions[kept]])
    joined = Dataset(ArraySource(pixels), labels, first.name, known=np.arange(len(labels)) < len(first))
    return Widened(joined, len(kept), len(images) - len(kept))


def _join(first: Pixels, second: Pixels) -> Pixels:
    """Return both, (n + m, C, H, W): as they are stored, or as floats where they are stored in two ways."""
    if first.dtype == second.dtype:
        return np.concatenate([first, second])
    return np.concatenate([as_unit_range(first).numpy(), as_unit_range(second).numpy()])
