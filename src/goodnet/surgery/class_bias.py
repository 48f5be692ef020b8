"""Biases of the last layer: classes that a repair has made too rare become as probable as they were."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnknownMethod
from goodnet.inference.last_layer import find_last_layer

#: Logits that a bias may rise by, and steps of halving the interval in which the rise lies.
_MOST, _HALVINGS = 50.0, 40


def raise_rare_predictions(
    original: Classifier, repaired: Classifier, clean: Dataset, targets: Sequence[int], temperature: float
) -> tuple[float, ...]:
    """Raise the biases of `targets`, in place, until the repaired network gives each as much probability as the original.

    Args:
        original: the network before the repair.
        repaired: the network after it; without a last linear layer that has a bias, it stays as it is.
        clean: clean images; the mean probability of a class over these is compared.
        targets: classes, raised one after the other; one that is not rarer than before keeps its bias.
        temperature: the probabilities are softmax(logits / temperature).

    Returns:
        By how much each bias was raised, in logits; nothing if none was.

    Cost: two passes.

    Source: M. Saerens, P. Latinne, C. Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities:
    a simple procedure", Neural Computation 14, 2002. Differs: the frequencies are those of the original.
    """
    try:
        bias = getattr(find_last_layer(repaired).module, "bias", None)
    except UnknownMethod:
        return ()
    if not isinstance(bias, Tensor):
        return ()
    wanted, raised = _share(_logits(original, clean) / temperature), []
    logits = _logits(repaired, clean) / temperature
    for target in targets:
        rise = _rise(logits, target, float(wanted[target]))
        logits[:, target] += rise
        bias.data[target] += rise * temperature
        raised.append(rise * temperature)
    return tuple(raised) if any(raised) else ()


def _rise(logits: Tensor, target: int, wanted: float) -> float:
    """Return the least rise of a class's logit, (n, N), at which its mean probability is `wanted`; 0 if it is already."""
    if float(_share(logits)[target]) >= wanted:
        return 0.0
    low, high = 0.0, _MOST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        raised = logits.clone()
        raised[:, target] += middle
        low, high = (low, middle) if float(_share(raised)[target]) >= wanted else (middle, high)
    return high


def _share(logits: Tensor) -> Tensor:
    """Return the mean probability of each class over the rows of logits (n, N), (N,)."""
    return logits.softmax(dim=1).mean(dim=0)


def _logits(classifier: Classifier, clean: Dataset) -> Tensor:
    with torch.no_grad():
        return torch.cat([classifier(batch.images).cpu().double() for batch in clean.batches()])
