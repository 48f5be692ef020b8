"""The labels that a defender trains with: those of the data, or the network's own predictions where there are none."""

from __future__ import annotations

from goodnet.core.classifier import Classifier
from goodnet.core.dataset import ArraySource, Dataset
from goodnet.inference.predictions import predict_classes, require_fit


def with_labels(classifier: Classifier, clean: Dataset) -> Dataset:
    """Return the clean images with labels, in memory as they are stored (uint8 stays uint8).

    Images without labels get the class that the network gives them as it came: on clean images a backdoored network
    predicts the same as a good one. Cost: one pass where there are no labels.

    Raises:
        InputError: the data does not fit the network.
    """
    require_fit(classifier, clean)
    labels = clean.targets if clean.labels is not None else predict_classes(classifier, clean)
    known = None if clean.known is None else clean.known_targets
    return Dataset(ArraySource(clean.source.read(clean.positions)), labels, clean.name, known=known)
