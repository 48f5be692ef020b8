"""What a repair has changed, on the clean images: agreement with the original, and the accuracy of each class."""

from __future__ import annotations

import numpy as np

from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.repairs import AttackSuccess, ClassAccuracy, Difference
from goodnet.core.results import Rate
from goodnet.inference.predictions import predict_classes


def accuracy_of(classifier: Classifier, labelled: Dataset) -> Rate:
    """Return the share of the images that get their label."""
    return Rate.of(int((predict_classes(classifier, labelled) == labelled.targets).sum()), len(labelled))


def difference(
    original: Classifier, repaired: Classifier, clean: Dataset, success: AttackSuccess | None = None
) -> Difference:
    """Return the repair diff on all clean images: agreement with the original, and accuracy by class with labels."""
    clean = clean.with_known_labels()
    before, after = predict_classes(original, clean), predict_classes(repaired, clean)
    agreement = Rate.of(int((before == after).sum()), len(clean))
    rows: list[ClassAccuracy] = []
    if clean.labels is not None:
        for label in np.unique(clean.targets):
            of_class = clean.targets == label
            rows.append(
                ClassAccuracy(
                    label=int(label),
                    before=float((before[of_class] == label).mean()),
                    after=float((after[of_class] == label).mean()),
                    n=int(of_class.sum()),
                )
            )
    return Difference(agreement=agreement, per_class=tuple(rows), surrogate_attack_success=success)
