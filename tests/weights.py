"""Comparing the weights of networks, bit by bit."""

import torch
from torch import Tensor

from goodnet.core.classifier import Classifier


def weights(classifier: Classifier) -> dict[str, Tensor]:
    """Return a copy of all weights and statistics."""
    return {name: value.clone() for name, value in classifier.network.state_dict().items()}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
