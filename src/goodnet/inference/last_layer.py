"""The linear layer that makes the logits."""

from __future__ import annotations

from torch import nn

from goodnet.core.classifier import Classifier, Layer
from goodnet.core.errors import UnknownMethod

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
