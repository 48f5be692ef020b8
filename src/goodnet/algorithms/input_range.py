"""Which input range a network was trained on: both are tried, on the clean labels by likelihood."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from goodnet.algorithms.predictions import require_fit
from goodnet.core.classifier import Classifier, InputRange
from goodnet.core.dataset import Dataset
from goodnet.core.errors import ImplausibleLabels, InvalidOption
from goodnet.core.results import Rate
from goodnet.core.task_check import is_plausible, measure_information, run_network, tells_apart

RangeOption = Literal["auto", "0..1", "0..255"]

_RANGES: tuple[InputRange, ...] = get_args(InputRange)

#: More images than this do not change the choice.
_IMAGES = 500
#: Mean log-likelihoods (nats) that lie nearer to each other than this do not tell two ranges apart.
_TIE = 0.1
#: Standard errors by which one range must give more right answers than the other to be taken for that alone.
_CLEARLY = 4.0


@dataclass(frozen=True)
class RangeChoice:
    """The network in the range that was chosen, and why, in words for the user."""

    classifier: Classifier
    reason: str


def choose_input_range(classifier: Classifier, clean: Dataset, option: RangeOption = "auto") -> RangeChoice:
    """Return `classifier` with the input range given, or with the one in which the clean labels are the likelier.

    Accuracy alone does not tell: a network of few biases answers alike in both ranges, and is far too sure of itself in
    the larger one. Where one range gives plainly more right answers it is taken all the same: a network that knows its
    training images by heart may be wrong with great confidence in its own range too.

    Args:
        classifier: the network, in any range.
        clean: images with true labels.
        option: "auto" tries both ranges (two passes over at most 500 images).

    Raises:
        ImplausibleLabels: with neither range is the network's accuracy plausibly better than guessing.
        InvalidOption: neither accuracy nor likelihood tells the ranges apart.
        WrongShape: the images do not fit the network.
    """
    require_fit(classifier, clean)
    if option != "auto":
        return RangeChoice(classifier.with_input_range(option), "as given")
    sample = clean.in_canonical_order().sample(_IMAGES, seed=0)
    tried = {name: _Tried.on(classifier.with_input_range(name), sample) for name in _RANGES}
    found = ", ".join(
        f"{item.accuracy.value:.4f} (cross-entropy {item.cross_entropy:.2f}) with {name}"
        for name, item in tried.items()
    )
    plausible = [
        name for name, item in tried.items() if is_plausible(item.accuracy, sample.targets, classifier.classes)
    ]
    if not plausible:
        raise ImplausibleLabels(
            f"{clean.name}: neither input range gives {classifier.name} a plausible accuracy on its labels "
            f"({found}; n = {len(sample)}); check that data and network belong together (a normalisation of the images must be "
            "part of the network), or give --input-range"
        )
    best = plausible[0] if len(plausible) == 1 else _choose(classifier, tried, found)
    return RangeChoice(tried[best].classifier, f"auto: accuracy {found} on {len(sample)} clean images")


@dataclass(frozen=True)
class _Tried:
    """The network in one range, its right answers (n,) and the cross-entropy of each image (n,) in nats."""

    classifier: Classifier
    right: Tensor
    losses: Tensor

    @classmethod
    def on(cls, classifier: Classifier, sample: Dataset) -> _Tried:
        logits, labels = run_network(classifier, sample).double(), torch.from_numpy(sample.targets)
        losses = F.cross_entropy(logits, labels, reduction="none")
        return cls(classifier, logits.argmax(dim=1) == labels, losses.nan_to_num(nan=math.inf))

    @property
    def accuracy(self) -> Rate:
        return Rate.of(int(self.right.sum()), len(self.right))

    @property
    def cross_entropy(self) -> float:
        return float(self.losses.mean())


def _choose(classifier: Classifier, tried: Mapping[InputRange, _Tried], found: str) -> InputRange:
    """Return the range that right answers speak for, else the likelihood, else the smaller one where both answer alike.

    Raises:
        InvalidOption: nothing tells them apart.
    """
    unit, byte = tried["0..1"], tried["0..255"]
    gained = int((unit.right & ~byte.right).sum()) - int((byte.right & ~unit.right).sum())
    changed = int((unit.right != byte.right).sum())
    if abs(gained) > _CLEARLY * math.sqrt(changed):
        return "0..1" if gained > 0 else "0..255"
    if abs(unit.cross_entropy - byte.cross_entropy) > _TIE:
        return "0..1" if unit.cross_entropy < byte.cross_entropy else "0..255"
    if not changed:
        # Sure of its right answers on pixels 255 times as faint, it needs no brighter ones.
        return "0..1"
    raise InvalidOption(
        f"{classifier.name}: expected clean images that tell the range of its pixels, but it answers them as well in "
        f"both (accuracy {found}); give --input-range 0..1 or 0..255"
    )


def choose_unlabelled_range(classifier: Classifier, images: Dataset, option: RangeOption = "auto") -> RangeChoice:
    """Return `classifier` with the input range given, or with the one that images without usable labels speak for.

    A network trained on 0..255 sees images in 0..1 as nearly black: its answers do not tell them apart, or are hardly
    answers. So 0..1 is taken where its answers do tell them apart, else 0..255 where they do, else the one that tells more.

    Raises:
        WrongShape: the images do not fit the network.
    """
    unlabelled = replace(images, labels=None)
    require_fit(classifier, unlabelled)
    if option != "auto":
        return RangeChoice(classifier.with_input_range(option), "as given")
    sample = unlabelled.in_canonical_order().sample(_IMAGES, seed=0)
    answers = {name: run_network(classifier.with_input_range(name), sample) for name in _RANGES}
    known = [name for name in _RANGES if tells_apart(answers[name])]
    chosen = known[0] if known else max(_RANGES, key=lambda name: measure_information(answers[name]))
    reason = f"auto: without usable labels, answers with {chosen} tell {len(sample)} images apart best"
    return RangeChoice(classifier.with_input_range(chosen), reason)
