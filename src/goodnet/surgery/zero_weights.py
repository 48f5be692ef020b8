"""Weights that are zero and stay so while the others are trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from goodnet.core.classifier import Classifier, Layer
from goodnet.training import Update, descend

#: For each parameter, by its name in the network: True where the weight is to be zero.
Zeros = Mapping[str, Tensor]


def smallest_weights(classifier: Classifier, sparsity: float) -> dict[str, Tensor]:
    """Return, for every kernel and matrix, its smallest weights by magnitude: the share `sparsity` of each, at least.

    Biases and normalisation are left alone. Weights that are zero already count, so a rising sparsity adds to what
    is zero. Among equal weights the first go first.
    """
    zeros = {}
    for name, weight in _kernels(classifier).items():
        count = round(sparsity * weight.numel())
        order = weight.detach().abs().flatten().argsort(stable=True)
        flags = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
        flags[order[:count]] = True
        zeros[name] = flags.reshape(weight.shape)
    return zeros


def _kernels(classifier: Classifier) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in classifier.network.named_parameters() if weight.ndim > 1}


def silenced_weights(classifier: Classifier, layer: Layer, channels: Sequence[int]) -> dict[str, Tensor]:
    """Return the weights that make the `channels` of `layer`, which are zero once they have been silenced."""
    zeros = {}
    for name, weight in classifier.network.named_parameters():
        if layer.producer is not None and any(weight is own for own in layer.producer.parameters(recurse=False)):
            zeros[name] = torch.zeros(weight.shape, dtype=torch.bool, device=weight.device)
            zeros[name][list(channels)] = True
    return zeros


def count_zeros(zeros: Zeros) -> int:
    """Return how many weights are marked."""
    return sum(int(flags.sum()) for flags in zeros.values())


def set_to_zero(classifier: Classifier, zeros: Zeros) -> None:
    """Set the weights marked in `zeros` to zero."""
    parameters = dict(classifier.network.named_parameters())
    with torch.no_grad():
        for name, flags in zeros.items():
            parameters[name].masked_fill_(flags, 0)


def keeping_zero(classifier: Classifier, zeros: Zeros) -> Update:
    """Return a training step after which the weights marked in `zeros` are zero again."""

    def update(loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer) -> Tensor:
        value = descend(loss, optimizer)
        set_to_zero(classifier, zeros)
        return value

    return update
