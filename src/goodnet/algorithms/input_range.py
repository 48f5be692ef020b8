"""Which input range a network was trained on: both are tried against the clean labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from goodnet.algorithms.predictions import measure_accuracy, predict_classes, require_fit
from goodnet.core.classifier import Classifier, InputRange
from goodnet.core.dataset import Dataset
from goodnet.core.errors import ImplausibleLabels

RangeOption = Literal["auto", "0..1", "0..255"]

#: More images than this do not change the choice.
_IMAGES = 500
#: How far above guessing the better range must be, as a share of what lies between guessing and perfect.
_PLAUSIBLE = 0.1


@dataclass(frozen=True)
class RangeChoice:
    """The network in the range that was chosen, and why, in words for the user."""

    classifier: Classifier
    reason: str


def choose_input_range(classifier: Classifier, clean: Dataset, option: RangeOption = "auto") -> RangeChoice:
    """Return `classifier` with the input range given, or with the one that answers the clean labels better.

    Args:
        classifier: the network, in any range.
        clean: images with true labels.
        option: "auto" tries both ranges (two passes over at most 500 images).

    Raises:
        ImplausibleLabels: with neither range is the network's accuracy plausibly better than guessing.
        WrongShape: the images do not fit the network.
    """
    require_fit(classifier, clean)
    if option != "auto":
        return RangeChoice(classifier.with_input_range(option), "as given")
    sample = clean.sample(_IMAGES, seed=0)
    candidates = {name: classifier.with_input_range(name) for name in get_args(InputRange)}
    rates = {name: measure_accuracy(candidate, sample) for name, candidate in candidates.items()}
    best = max(rates, key=lambda name: rates[name].value)
    found = ", ".join(f"{rate.value:.4f} with {name}" for name, rate in rates.items())
    guessing = 1 / classifier.classes
    if rates[best].low < guessing + _PLAUSIBLE * (1 - guessing):
        raise ImplausibleLabels(
            f"{clean.name}: neither input range gives {classifier.name} a plausible accuracy on its labels "
            f"({found}; n = {len(sample)}); check that data and network belong together (a normalisation of the images must be "
            "part of the network), or give --input-range"
        )
    return RangeChoice(candidates[best], f"auto: accuracy {found} on {len(sample)} clean images")


def choose_unlabelled_range(classifier: Classifier, images: Dataset, option: RangeOption = "auto") -> RangeChoice:
    """Return `classifier` with the input range given, or with the one that images without usable labels speak for.

    A network trained on 0..255 sees images in 0..1 as nearly black and gives them all a few classes. So 0..1 is taken
    where it tells the images apart, else 0..255.

    Raises:
        WrongShape: the images do not fit the network.
    """
    unlabelled = replace(images, labels=None)
    require_fit(classifier, unlabelled)
    if option != "auto":
        return RangeChoice(classifier.with_input_range(option), "as given")
    sample = unlabelled.sample(_IMAGES, seed=0)
    answers = len(np.unique(predict_classes(classifier.with_input_range("0..1"), sample)))
    chosen: InputRange = "0..1" if answers >= min(len(sample), classifier.classes) * _DIVERSE else "0..255"
    reason = f"auto: without usable labels, {answers} different answers with 0..1 on {len(sample)} images"
    return RangeChoice(classifier.with_input_range(chosen), reason)


#: The share of the images (or classes, where they are fewer) that must get answers of their own.
_DIVERSE = 0.2
