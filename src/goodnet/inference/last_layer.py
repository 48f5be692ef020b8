"""The linear layer that makes the logits: its weights, and the features that enter it, in which a network tells classes apart."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, fx, nn

from goodnet.core import graph
from goodnet.core.classifier import Classifier, Layer
from goodnet.core.dataset import BATCH
from goodnet.core.errors import UnknownMethod

#: Maps images (N, C, H, W) in [0, 1] to features (N, D) and logits (N, classes).
FeatureReader = Callable[[Tensor], tuple[Tensor, Tensor]]

#: Operations after the last layer that leave the order of the logits as it is.
_KEEP_ORDER = frozenset({"softmax", "logsoftmax", "identity", "dropout"})


def find_last_layer(classifier: Classifier) -> Layer:
    """Return the linear layer that makes the logits.

    Raises:
        UnknownMethod: the network ends otherwise.
    """
    layers = classifier.layers()
    last = next((layer for layer in reversed(layers) if layer.kind.lower().replace("_", "") not in _KEEP_ORDER), None)
    if last is None or not _is_head(last, classifier) or sum(layer.module is last.module for layer in layers) > 1:
        raise UnknownMethod(
            f"{classifier.name} does not end in a linear layer with one row for each of its {classifier.classes} classes, "
            "and this method needs one; choose another"
        )
    return last


def _is_head(layer: Layer, classifier: Classifier) -> bool:
    module = layer.module
    is_linear = isinstance(module, nn.Linear) and getattr(module, "activation", None) is None
    return is_linear and layer.output_shape == (classifier.classes,)


def class_weights(classifier: Classifier) -> Tensor | None:
    """Return the weights of the last linear layer with one output per class, (classes, features), None where there is none."""
    found = _last_linear(classifier)
    return None if found is None else found[1].weight.data


def read_features(classifier: Classifier) -> FeatureReader:
    """Return what gives the features of the penultimate layer and the logits of images, without gradients.

    The features are the input of the last linear layer with one output per class, flattened; where the network ends
    otherwise or cannot be taken apart, the logits stand in.

    Cost: one pass.
    """
    found = _last_linear(classifier)
    if found is None:
        return lambda images: _in_batches(images, lambda part: _twice(classifier(part)))
    head, tail = graph.cut(classifier.network, found[0].all_input_nodes[0])

    def read(images: Tensor) -> tuple[Tensor, Tensor]:
        values = head(classifier.prepare(images))
        return values[0].flatten(1), tail(values)

    return lambda images: _in_batches(images, read)


def _last_linear(classifier: Classifier) -> tuple[fx.Node, nn.Linear] | None:
    """Return the last linear layer with one output per class, whatever comes after it, and its node; None: there is none."""
    for node in reversed(graph.compute_nodes(classifier.network)):
        module = classifier.network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.Linear) and module.out_features == classifier.classes:
            return node, module
    return None


def _twice(logits: Tensor) -> tuple[Tensor, Tensor]:
    return logits, logits


def _in_batches(images: Tensor, read: FeatureReader) -> tuple[Tensor, Tensor]:
    with torch.inference_mode():
        parts = [read(part) for part in torch.split(images, BATCH)]
    features, logits = (torch.cat(values) for values in zip(*parts, strict=True))
    return features, logits
