"""Which class a numbered folder is: its number, or its place among the others. The network that was trained on them knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset, Labels
from goodnet.core.errors import UnreadableData
from goodnet.core.preprocessing import PLAIN_RANGES
from goodnet.core.results import Rate
from goodnet.core.task_check import is_plausible, run_network

#: More images than this do not change the choice.
_IMAGES = 500


def choose_class_order(classifier: Classifier, by_number: Dataset, by_name: Dataset | None) -> Dataset:
    """Return the pictures, renumbered and with a note if the other class order gives far higher accuracy.

    Args:
        classifier: the network, in any input range.
        by_number: labels are the folders' numbers.
        by_name: labels are the folders' places in order of name (1, 10, 2), or None where that is the same.

    Cost: two passes over at most 500 images, none where there is one order alone.
    """
    if by_name is None or by_name.image_shape != classifier.image_shape:
        return by_number
    orders = {
        "by their numbers": by_number,
        "in order of name (1, 10, 2), as torchvision and Keras number them": by_name,
        "from 0 on, in order of number": _by_rank(by_number),
    }
    sample = by_number.sample(_IMAGES, seed=0)
    predictions = [
        run_network(classifier.with_input_range(name), sample).argmax(dim=1).numpy() for name in PLAIN_RANGES
    ]
    number, *others = (_best_accuracy(predictions, data) for data in orders.values())
    words, data, rate = max(
        zip([*orders][1:], [*orders.values()][1:], others, strict=True), key=lambda item: item[2].value
    )
    known = is_plausible(rate, data.sample(_IMAGES, seed=0).targets, classifier.classes)
    if not known or rate.low <= number.high:
        return by_number
    note = (
        f"the class folders are numbered {words}: so the network is right in {rate.value:.2f} of {rate.n} images, by their "
        f"numbers in {number.value:.2f}"
    )
    return replace(data, notes=(*data.notes, note))


def _by_rank(by_number: Dataset) -> Dataset:
    """Return folders 1 to 12 as the classes 0 to 11; numbers without images leave no gap."""
    numbers, labels = np.unique(by_number.labels if by_number.labels is not None else [], return_inverse=True)
    names = tuple(by_number.class_names[number] for number in numbers) if by_number.class_names else None
    return replace(by_number, labels=labels.astype(np.int64), class_names=names, canonical=False)


def _best_accuracy(predictions: Sequence[Labels], data: Dataset) -> Rate:
    """Return the accuracy in the better input range; what is no class of the network is never right."""
    labels = data.sample(_IMAGES, seed=0).targets
    return Rate.of(max(int((given == labels).sum()) for given in predictions), len(labels))


def relabel(data: Dataset, by_number: Dataset, chosen: Dataset) -> Dataset:
    """Return a further set of numbered class folders with the classes that `chosen` has instead of `by_number`.

    Raises:
        UnreadableData: it has a folder that is none of those.
    """
    if data.labels is None or not data.class_names or not all(name.isdecimal() for name in data.class_names if name):
        return data
    classes = dict(zip(by_number.targets.tolist(), chosen.targets.tolist(), strict=True))
    unknown = sorted(set(data.labels.tolist()) - set(classes))
    if unknown:
        raise UnreadableData(
            f"{data.name}: expected class folders that the clean set has too, whose numbers are not the network's classes, got "
            f"'{unknown[0]}'"
        )
    return replace(data, labels=np.array([classes[label] for label in data.labels.tolist()], np.int64), canonical=False)
