"""Upper bounds on what single channels may give: a clamp per channel, put into a network's graph."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, fx, nn

from goodnet.core import graph
from goodnet.core.classifier import Classifier
from goodnet.core.errors import UnwritableOutput


class UpperBounds(nn.Module):
    """min(x, bounds) with a bound for each channel: a share of `largest`, both (channels,); the shares can be learnt."""

    largest: Tensor

    def __init__(self, largest: Tensor) -> None:
        super().__init__()
        self.register_buffer("largest", largest.detach().clone())
        self.shares = nn.Parameter(torch.ones_like(largest))

    @property
    def bounds(self) -> Tensor:
        """The bounds, (channels,)."""
        return self.largest * self.shares

    def forward(self, values: Tensor) -> Tensor:
        """Keep the shape, (N, channels, ...)."""
        return torch.minimum(values, self.bounds.reshape(-1, *[1] * (values.ndim - 2)))


@dataclass(frozen=True)
class GraphSource:
    """Where a network came from that has more in it than its file can say: there is no way back."""

    suffix: str

    def write(self, network: nn.Module, path: Path) -> None:
        """Refuse.

        Raises:
            UnwritableOutput: always.
        """
        raise UnwritableOutput(
            f"{path}: the network has bounds on its channels, which a file of weights alone cannot carry; repair the whole "
            "Keras model (.h5, .keras), or take the live network: Classifier.to_model()"
        )

    def rebuild(self, network: nn.Module) -> nn.Module:
        """Return a copy of the graph."""
        return copy.deepcopy(network).eval()


def add_upper_bounds(classifier: Classifier, bounds: Mapping[str, UpperBounds]) -> Classifier:
    """Return a copy of the network with bounds on the outputs of the layers, by name; it cannot be saved.

    The modules in `bounds` become part of it, not copies of them.
    """
    network = copy.deepcopy(classifier.network)
    nodes = {graph.name_of(node): node for node in graph.compute_nodes(network)}
    for name, module in bounds.items():
        _insert_after(network, nodes[name], module)
    network.recompile()
    return Classifier(
        network,
        image_shape=classifier.image_shape,
        input_range=classifier.input_range,
        layout=classifier.layout,
        source=GraphSource(classifier.suffix),
        name=classifier.name,
        notes=classifier.notes,
    )


def _insert_after(network: fx.GraphModule, node: fx.Node, module: nn.Module) -> None:
    name = f"{node.name}_bounds"
    network.add_submodule(name, module)
    with network.graph.inserting_after(node):
        bounded = network.graph.call_module(name, (node,))
    node.replace_all_uses_with(bounded)
    bounded.args = (node,)
