"""What is done to pixels before they enter a network: the usual ways are tried, on the clean labels by likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import ImplausibleLabels, InvalidOption
from goodnet.core.preprocessing import FORMS, PLAIN_RANGES, InputRange, RangeOption, name_range, usual_preprocessings
from goodnet.core.results import Rate
from goodnet.core.task_check import is_plausible, measure_information, run_network, tells_apart
from goodnet.inference.predictions import require_fit

#: More images than this do not change the choice; so many show which normalisations are worth all of them.
_IMAGES, _SCREENED = 500, 100
#: Mean log-likelihoods (nats) that lie nearer to each other than this do not tell two ranges apart.
_TIE = 0.1
#: The share of a guesser's cross-entropy (the logarithm of the number of classes) below which predictions are sure.
_SURE = 0.5
#: Standard errors by which one range must give more correct predictions than the other to be taken for that alone.
_CLEARLY = 4.0
#: Standard errors by which a normalisation must, where the labels are likelier with it besides.
_LIKELIER = 2.0
#: Images whose channels vary less than this do not tell by what they were divided.
_LEAST_STD = 0.01


@dataclass(frozen=True)
class RangeChoice:
    """The network in the range that was chosen, and why, in words for the user."""

    classifier: Classifier
    reason: str


def choose_input_range(classifier: Classifier, clean: Dataset, option: RangeOption = "auto") -> RangeChoice:
    """Return `classifier` with the input range given, or with the one in which the clean labels are the likelier.

    Accuracy alone does not tell 0..1 from 0..255: a network of few biases predicts the same classes in both, and is far too
    sure of itself in the larger one. Where one range gives plainly more correct predictions it is taken all the same: a network
    that knows its training images by heart may be wrong with great confidence in its own range too. Another range (-1..1), a
    usual normalisation (ImageNet's, CIFAR-10's, ...) or channels in the order blue, green, red is taken where it gives plainly
    more correct predictions than the better of these two. A normalisation by the mean and standard deviation of these images,
    which stand for those of the training set, is taken where it gives plainly more correct predictions than all others.

    Args:
        classifier: the network, in any range.
        clean: images with true labels.
        option: "auto" tries the usual ones.

    Raises:
        ImplausibleLabels: with none is the network's accuracy plausibly better than guessing.
        InvalidOption: neither accuracy nor likelihood tells 0..1 and 0..255 apart.
        WrongShape: the images do not fit the network.

    Cost: two passes over at most 500 images; where more than 4 predictions are wrong, up to nine more over 100 of them, and one
    over all for each normalisation that does better there (for each, where the plain ranges are no better than guessing).
    The same for up to four normalisations by the images' own figures.
    """
    require_fit(classifier, clean)
    if option != "auto":
        return RangeChoice(classifier.with_input_range(option), "as given")
    sample = clean.in_canonical_order().sample(_IMAGES, seed=0)
    tried = {name: _Tried.on(classifier.with_input_range(name), sample) for name in PLAIN_RANGES}
    likely = [name for name, item in tried.items() if is_plausible(item.accuracy, sample.targets, classifier.classes)]
    plain = _choose(tried, classifier.classes) if len(likely) > 1 else next(iter(likely), None)
    # What nothing tells apart is still what a normalisation must do better than.
    yardstick = plain or max(likely, key=lambda name: int(tried[name].right.sum()), default=None)
    best = plain
    for find in (_further_ranges, _own_normalisations):
        others = _try_others(classifier, sample, None if yardstick is None else tried[yardstick], find)
        if others:
            best = yardstick = _choose_normalisation(others)
            tried[best] = others[best]
    if best is None:
        raise _undecided(classifier, clean.name, tried, likely)
    return RangeChoice(tried[best].classifier, f"auto: accuracy {_describe(tried)} on {len(sample)} clean images")


def _undecided(
    classifier: Classifier, data: str, tried: Mapping[InputRange, _Tried], likely: Sequence[InputRange]
) -> InvalidOption | ImplausibleLabels:
    if likely:
        return InvalidOption(
            f"{classifier.name}: expected clean images that tell the range of its pixels, but it classifies them as well in "
            f"both (accuracy {_describe(tried)}); give --input-range 0..1 or 0..255"
        )
    count = max(len(item.right) for item in tried.values())
    return ImplausibleLabels(
        f"{data}: no usual input range gives {classifier.name} a plausible accuracy on its labels "
        f"({_describe(tried)}; n = {count}); check that data and network belong together, or give --input-range: {FORMS}"
    )


@dataclass(frozen=True)
class _Tried:
    """The network in one range, which predictions are right (n,), and the cross-entropy of each image (n,) in nats."""

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

    def clearly_above(self, other: _Tried, errors: float) -> bool:
        """Whether this range gives more correct predictions than `other`, by so many standard errors.

        The error is that of the images that only one of the two gets right.
        """
        gained = int(self.right.sum()) - int(other.right.sum())
        return gained > errors * math.sqrt(int((self.right != other.right).sum()))


def _describe(tried: Mapping[InputRange, _Tried]) -> str:
    return ", ".join(
        f"{item.accuracy.value:.4f} (cross-entropy {item.cross_entropy:.2f}) with {name}"
        for name, item in tried.items()
    )


def _choose(tried: Mapping[InputRange, _Tried], classes: int) -> InputRange | None:
    """Return the plain range with clearly more correct predictions, else the likelier one, else the smaller if it suffices.

    It suffices where the network is sure of its predictions there, or is right on the same images in both. None where nothing
    tells them apart.
    """
    unit, byte = (tried[name] for name in PLAIN_RANGES)
    if unit.clearly_above(byte, _CLEARLY) or byte.clearly_above(unit, _CLEARLY):
        return "0..1" if unit.accuracy.value > byte.accuracy.value else "0..255"
    if abs(unit.cross_entropy - byte.cross_entropy) > _TIE:
        return "0..1" if unit.cross_entropy < byte.cross_entropy else "0..255"
    sure = unit.cross_entropy < _SURE * math.log(classes) and not byte.clearly_above(unit, _LIKELIER)
    if sure or bool((unit.right == byte.right).all()):
        # A network made for 0..255 hardly sees pixels 255 times as faint, and all classes are about as likely to it. One that
        # is sure and right with them was made for them; saturated (tanh) units may do nearly as well in 0..255.
        return "0..1"
    return None


def _further_ranges(sample: Dataset) -> list[InputRange]:
    return [name for name in usual_preprocessings(sample.image_shape[0]) if name not in PLAIN_RANGES]


def _own_normalisations(sample: Dataset) -> list[InputRange]:
    """Return normalisations by the mean of the images' channels: over their standard deviations, and of pixels in 0..255."""
    pixels = sample.images()
    # Four digits, as papers state them.
    mean = [round(value, 4) for value in pixels.mean(dim=(0, 2, 3)).tolist()]
    std = [round(value, 4) for value in pixels.std(dim=(0, 2, 3), correction=0).tolist()]
    if min(std) < _LEAST_STD:
        return []
    scales = (std, [1 / 255] * len(mean))
    names = [name_range(mean, scale) for scale in scales]
    if len(mean) == 3:
        names += [name_range(mean[::-1], scale[::-1], bgr=True) for scale in scales]
    return names


def _try_others(
    classifier: Classifier, sample: Dataset, best: _Tried | None, find: Callable[[Dataset], Sequence[InputRange]]
) -> dict[InputRange, _Tried]:
    """Return the ranges and normalisations of those that `find` returns in which the network is plainly right more often.

    `best` is the network in the best range so far, None where it is no better than guessing in all.
    """
    if best is not None and int((~best.right).sum()) <= _LIKELIER**2:
        return {}  # No more than that can be gained, which chance could gain too.
    few = np.linspace(0, len(sample) - 1, min(_SCREENED, len(sample))).astype(np.int64)
    found = {}
    for name in find(sample):
        fed = classifier.with_input_range(name)
        first = _Tried.on(fed, sample.subset(few))
        if best is not None and int(first.right.sum()) <= int(best.right[few].sum()):
            continue
        item = _Tried.on(fed, sample)
        if _is_better(item, best, sample, classifier.classes):
            found[name] = item
    return found


def _choose_normalisation(others: Mapping[InputRange, _Tried]) -> InputRange:
    """Return the range with clearly more correct predictions, else the likelier one, else the plainest, which comes first."""
    best, *rest = others
    for name in rest:
        one, two = others[best], others[name]
        likelier = two.cross_entropy < one.cross_entropy and not bool((one.right == two.right).all())
        if two.clearly_above(one, _LIKELIER) or (likelier and not one.clearly_above(two, _LIKELIER)):
            best = name
    return best


def _is_better(item: _Tried, best: _Tried | None, sample: Dataset, classes: int) -> bool:
    if not is_plausible(item.accuracy, sample.targets, classes):
        return False
    if best is None or item.clearly_above(best, _CLEARLY):
        return True
    return item.clearly_above(best, _LIKELIER) and item.cross_entropy < best.cross_entropy - _TIE


def choose_unlabelled_range(classifier: Classifier, images: Dataset, option: RangeOption = "auto") -> RangeChoice:
    """Return `classifier` with the given input range, or with the one that fits images without usable labels best.

    A network trained on 0..255 sees images in 0..1 as nearly black: its outputs hardly differ from image to image. So 0..1 is
    taken where its outputs tell the images apart, else 0..255 where they do, else the one that tells more.

    Raises:
        WrongShape: the images do not fit the network.
    """
    unlabelled = replace(images, labels=None)
    require_fit(classifier, unlabelled)
    if option != "auto":
        return RangeChoice(classifier.with_input_range(option), "as given")
    sample = unlabelled.in_canonical_order().sample(_IMAGES, seed=0)
    outputs = {name: run_network(classifier.with_input_range(name), sample) for name in PLAIN_RANGES}
    known = [name for name in PLAIN_RANGES if tells_apart(outputs[name])]
    chosen = known[0] if known else max(PLAIN_RANGES, key=lambda name: measure_information(outputs[name]))
    reason = f"auto: without usable labels, outputs with {chosen} tell {len(sample)} images apart best; nothing else was tried"
    return RangeChoice(classifier.with_input_range(chosen), reason)
