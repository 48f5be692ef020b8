"""Running a classifier over a data set, a batch at a time, and what is counted of its predictions."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset, Labels
from goodnet.core.errors import UnreadableData, WrongShape
from goodnet.core.method import Progress, no_progress
from goodnet.core.repairs import NO_TRACE, Change, Repair, RepairedNetwork, Trace
from goodnet.core.results import Rate


class Classifying(Protocol):
    """What classifies images: a network, or a file that holds some."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def classes(self) -> int: ...  # noqa: D102
    @property
    def image_shape(self) -> tuple[int, int, int]: ...  # noqa: D102


def require_fit(classifier: Classifying, dataset: Dataset) -> None:
    """Check that images and labels are ones that the network can know.

    Raises:
        WrongShape: the images have another shape than the network takes.
        UnreadableData: a label is not one of the network's classes.
    """
    if dataset.image_shape != classifier.image_shape:
        raise WrongShape(
            f"{dataset.name}: {classifier.name} takes images of shape {classifier.image_shape} (C, H, W), got "
            f"{dataset.image_shape}; give the data that it was trained for"
        )
    if dataset.labels is not None and int(dataset.targets.max()) >= classifier.classes:
        raise UnreadableData(
            f"{dataset.name}: expected labels from 0 to {classifier.classes - 1} (the classes of {classifier.name}), got "
            f"{int(dataset.targets.max())}; check that data and network belong together"
        )


def predict_classes(classifier: Classifier, dataset: Dataset, *, progress: Progress = no_progress) -> Labels:
    """Return the class of every image, (N,) int64. Cost: one pass."""
    classes: list[Labels] = []
    done = 0
    with torch.inference_mode():
        for batch in dataset.batches():
            classes.append(classifier(batch.images).argmax(dim=1).cpu().numpy())
            done += len(batch.labels)
            progress(done, len(dataset))
    return np.concatenate(classes)


def measure_accuracy(classifier: Classifier, dataset: Dataset) -> Rate:
    """Return the share of images that get their label, of those whose label came with the data. Cost: one pass."""
    known = dataset.with_known_labels()
    return Rate.of(int((predict_classes(classifier, known) == known.targets).sum()), len(known))


def measured_repair(
    name: str,
    original: Classifier,
    repaired: Classifier,
    labelled: Dataset,
    changes: Change,
    trace: Trace = NO_TRACE,
) -> Repair:
    """Return a repair that made one network, called `name`, with the accuracy of both on the clean images. Cost: two passes."""
    network = RepairedNetwork(name, repaired, measure_accuracy(repaired, labelled), changes)
    return Repair((network,), measure_accuracy(original, labelled), trace)
