"""State dicts of two small networks, and checkpoints around them, for the tests of what is found in a file."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from goodnet.architectures import Architecture
from goodnet.core.classifier import Classifier
from goodnet.formats.pytorch import read_state_dict
from tests.small_networks import Residual, settle

SHAPE = (3, 14, 14)
RESIDUAL = Architecture("residual", Residual)


def state(seed: int = 0, prefix: str = "", classes: int = 5) -> "OrderedDict[str, Tensor]":
    """The weights of a network; each seed gives another one."""
    weights = settle(Residual(classes), seed).state_dict()
    return OrderedDict((prefix + name, value) for name, value in weights.items())


def opened(path: Path, content: Any = None, key: str | None = None) -> Classifier:
    """The network in a file, which is written first where `content` is given."""
    if content is not None:
        torch.save(content, path)
    return read_state_dict(path, RESIDUAL, SHAPE, key)


def is_network(classifier: Classifier, seed: int, classes: int = 5) -> bool:
    """Whether it predicts as the network of `seed` does."""
    images = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        return torch.allclose(classifier(images), settle(Residual(classes), seed)(images), atol=1e-5)
