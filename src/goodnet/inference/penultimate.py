"""What enters a network's last linear layer: the features in which it tells its classes apart."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, fx, nn

from goodnet.core import graph
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import BATCH

#: Maps images (N, C, H, W) in [0, 1] to features (N, D) and logits (N, classes).
FeatureReader = Callable[[Tensor], tuple[Tensor, Tensor]]


def read_features(classifier: Classifier) -> FeatureReader:
    """Return what gives the features of the penultimate layer and the logits of images, without gradients.

    The features are the input of the last linear layer with one output per class, flattened; where the network ends
    otherwise or cannot be taken apart, the logits stand in.

    Cost: one pass.
    """
    node = _last_linear(classifier)
    if node is None:
        return lambda images: _in_batches(images, lambda part: _twice(classifier(part)))
    head, tail = graph.cut(classifier.network, node.all_input_nodes[0])

    def read(images: Tensor) -> tuple[Tensor, Tensor]:
        values = head(classifier.prepare(images))
        return values[0].flatten(1), tail(values)

    return lambda images: _in_batches(images, read)


def _last_linear(classifier: Classifier) -> fx.Node | None:
    """Return the node of the last linear layer with one output per class, None where there is none."""
    for node in reversed(graph.compute_nodes(classifier.network)):
        module = classifier.network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.Linear) and module.out_features == classifier.classes:
            return node
    return None


def _twice(logits: Tensor) -> tuple[Tensor, Tensor]:
    return logits, logits


def _in_batches(images: Tensor, read: FeatureReader) -> tuple[Tensor, Tensor]:
    with torch.inference_mode():
        parts = [read(part) for part in torch.split(images, BATCH)]
    features, logits = (torch.cat(values) for values in zip(*parts, strict=True))
    return features, logits
