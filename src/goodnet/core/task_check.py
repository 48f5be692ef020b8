"""Does a network do its task? Of one that does not, no scanner can tell what is usual in it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset, Labels
from goodnet.core.errors import UnreadableModel
from goodnet.core.results import Rate

#: More images than this do not change the result.
_IMAGES = 500
#: How far above guessing the accuracy must be, as a share of what lies between guessing and perfect.
_PLAUSIBLE = 0.1
#: Without labels a network must tell its images apart: least information in its outputs, as a share of what is possible, and
#: least contrast between them. Trained networks (31, by others and ours) have at least 0.46 and 4.2 in the range that they
#: were trained on; untrained ones of seven architectures on six data sets at most 0.28 and 1.2 in either range.
_INFORMATION, _CONTRAST = 0.25, 2.0


def run_network(classifier: Classifier, data: Dataset) -> Tensor:
    """Return the logits of every image, (N, classes), on the CPU. Cost: one pass."""
    with torch.inference_mode():
        return torch.cat([classifier(batch.images).cpu() for batch in data.batches()])


def is_plausible(accuracy: Rate, labels: Labels, classes: int) -> bool:
    """Whether an accuracy on these labels (N,) is one that guessing, or naming the most frequent class, would not reach."""
    return accuracy.low > _bar(labels, classes)


def _bar(labels: Labels, classes: int) -> float:
    counts = np.bincount(labels)
    constant = Rate.of(int(counts.max()), len(labels)).low if np.count_nonzero(counts) > 1 else 0.0
    guessing = max(1 / classes, constant)
    return guessing + _PLAUSIBLE * (1 - guessing)


def measure_information(logits: Tensor) -> float:
    """Return how much the logits (N, classes) tell about which image was shown, as a share of what they could.

    0: all images get the same prediction, or predictions that mean nothing; 1: each prediction is certain, and all are equally
    frequent.
    This is the mutual information of image and class, over the logarithm of the classes (of the images, if they are fewer).
    """
    log_p = logits.double().log_softmax(dim=1)
    mean = torch.logsumexp(log_p, dim=0) - math.log(len(logits))
    information = (log_p.exp() * (log_p - mean).clamp_min(-1e9)).sum(dim=1).mean()
    return float(information) / math.log(max(2, min(logits.shape)))


def measure_contrast(logits: Tensor) -> float:
    """Return by how much logits (N, classes) vary from image to image, over what they have in common: a ratio of squares.

    An untrained network leans to the same classes whatever it is shown; how sure it is depends on the scale of the pixels alone.
    """
    centred = logits.double() - logits.double().mean(dim=1, keepdim=True)
    common = float(centred.mean(dim=0).square().mean())
    return float(centred.var(dim=0, correction=0).mean()) / max(common, 1e-12)


def tells_apart(logits: Tensor) -> bool:
    """Whether the logits (N, classes) tell the images apart, as those of a network that knows them do."""
    return measure_information(logits) >= _INFORMATION and measure_contrast(logits) >= _CONTRAST


def find_doubts(clean: Dataset) -> tuple[str, ...]:
    """Return in words why clean images cannot carry a verdict on any network; empty where nothing speaks against it."""
    doubts = []
    if len(clean) < _LEAST_IMAGES:
        doubts.append(f"only {len(clean)} clean images, at least {_LEAST_IMAGES} are needed to call a network clean")
    if clean.labels is not None and len(np.unique(clean.targets)) == 1:
        doubts.append("all clean images are of one class")
    return tuple(doubts)


#: Fewer images than this carry no verdict.
_LEAST_IMAGES = 10


def find_fault(classifier: Classifier, clean: Dataset) -> str | None:
    """Return in words why the network does not do its task, None where nothing says so.

    With labels that is a matter of accuracy, without them of whether its outputs tell the images apart.

    Args:
        classifier: the network.
        clean: clean images, with labels or without; at most 500 of them are looked at.

    Raises:
        UnreadableModel: the network's outputs are not finite.
    """
    sample = clean.sample(_IMAGES, seed=0)
    logits = run_network(classifier, sample)
    if not torch.isfinite(logits).all():
        raise UnreadableModel(
            f"{classifier.name}: expected finite outputs, got NaN or infinity; the network is damaged"
        )
    if sample.labels is None:
        return _fault_without_labels(classifier, logits)
    accuracy = Rate.of(int((logits.argmax(dim=1).numpy() == sample.targets).sum()), len(sample))
    if is_plausible(accuracy, sample.targets, classifier.classes):
        return None
    undecided = accuracy.high >= _bar(sample.targets, classifier.classes)
    words = "too few images tell whether it can do its task" if undecided else "it does not do its task"
    return (
        f"{words} (accuracy {accuracy.value:.2f} of {classifier.classes} classes on {len(sample)} clean "
        "images); check that network, labels and the range of the pixels belong together"
    )


def _fault_without_labels(classifier: Classifier, logits: Tensor) -> str | None:
    if len(logits) < 2 or tells_apart(logits):
        return None
    same = bool((logits.argmax(dim=1) == logits[0].argmax()).all())
    what = "it gives all of them the same class" if same else "its outputs hardly tell them apart"
    return (
        f"it does not seem to do its task (without labels: {what}, {len(logits)} clean images of {classifier.classes} "
        "classes); give labels, or check that network, images and the range of the pixels belong together"
    )
