"""Where channels are made: a convolution, with the batch norm right after it where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import fx, nn

from goodnet.core import graph
from goodnet.core.classifier import Classifier, Layer
from goodnet.core.errors import UnknownMethod


@dataclass(frozen=True)
class ChannelUnit:
    """A convolution and what normalises its output; None where nothing does.

    `layer` is the one whose weights decide over a channel: the batch norm where there is one, else the convolution.
    Its channels can be silenced.
    """

    layer: Layer
    convolution: nn.Conv2d
    norm: nn.BatchNorm2d | None


def find_channel_units(classifier: Classifier) -> list[ChannelUnit]:
    """Return the convolutions of a network whose channels can be silenced one by one, in the order in which they run.

    Raises:
        UnknownMethod: there is none.
    """
    layers = {layer.name: layer for layer in classifier.layers()}
    units = []
    for node in graph.compute_nodes(classifier.network):
        convolution = _module(classifier, node)
        if not isinstance(convolution, nn.Conv2d):
            continue
        after = next(iter(node.users)) if len(node.users) == 1 else node
        norm = _module(classifier, after)
        has_norm = isinstance(norm, nn.BatchNorm2d) and getattr(convolution, "activation", None) is None
        layer = layers[graph.name_of(after if has_norm else node)]
        if layer.prunable:
            units.append(ChannelUnit(layer, convolution, norm if has_norm else None))  # type: ignore[arg-type]
    if not units:
        raise UnknownMethod(
            f"{classifier.name} has no convolution whose channels can be silenced, and this method needs one; "
            "see goodnet inspect"
        )
    return units


def _module(classifier: Classifier, node: fx.Node) -> nn.Module | None:
    return classifier.network.get_submodule(str(node.target)) if node.op == "call_module" else None


def silence(classifier: Classifier, channels: Mapping[str, Sequence[int]]) -> Classifier:
    """Return a copy of the network in which the channels of each layer, by its name, are zero for every input."""
    silenced = classifier.copy()
    for name, chosen in channels.items():
        silenced.layer(name).silence(chosen)
    return silenced
