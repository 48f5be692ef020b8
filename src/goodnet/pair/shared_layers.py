"""Running two networks that are the same up to some layer: that part runs once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, fx, nn

from goodnet.core import graph
from goodnet.core.classifier import keeps_zero


class PairRunner(nn.Module):
    """Runs two networks on the same images: a module, so that both can be written as one network."""

    @abstractmethod
    def begin(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the first network's logits (n, N), and what `finish` takes; images in the networks' own range."""

    @abstractmethod
    def finish(self, values: tuple[Tensor, ...]) -> Tensor:
        """Return the second network's logits (n, N)."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of both networks, each (n, N), for images in the networks' own range."""
        logits, values = self.begin(images)
        return logits, self.finish(values)


class SideBySide(PairRunner):
    """Two networks that share nothing."""

    def __init__(self, network: fx.GraphModule, other: fx.GraphModule) -> None:
        super().__init__()
        self.network, self.other = network, other

    def begin(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run the first; the second starts from the images."""
        return self.network(images), (images,)

    def finish(self, values: tuple[Tensor, ...]) -> Tensor:
        """Run the second."""
        return self.other(values[0])  # type: ignore[no-any-return]


class SharedHead(PairRunner):
    """One head, two tails.

    Where the second network differs from the first in the layer at the cut only by channels that it has silenced,
    that layer is in the head too, and `silenced` is multiplied with its output, (1, channels, 1, 1), for the second
    network.
    """

    silenced: Tensor | None

    def __init__(
        self, head: fx.GraphModule, tail: fx.GraphModule, other_tail: fx.GraphModule, silenced: Tensor | None = None
    ) -> None:
        super().__init__()
        self.head, self.tail, self.other_tail = head, tail, other_tail
        self.register_buffer("silenced", silenced, persistent=False)

    def begin(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run the head and the first tail; the second one starts from what the head gave."""
        values = self.head(images)
        return self.tail(values), values

    def finish(self, values: tuple[Tensor, ...]) -> Tensor:
        """Run the second tail."""
        if self.silenced is not None:
            values = (values[0] * self.silenced.to(values[0].device), *values[1:])
        return self.other_tail(values)  # type: ignore[no-any-return]


def share_layers(network: fx.GraphModule, other: fx.GraphModule) -> PairRunner:
    """Return what runs both networks on the same images, their common first layers once.

    Cost: one pass of `network`, and one of the layers of `other` from the first that differs on.
    """
    last: tuple[fx.Node, fx.Node] | None = None
    silenced = None
    for node, twin in _pairs(network, other):
        if not _same_layer(network, node, other, twin):
            silenced = _silenced_channels(network, node, other, twin)
            last = (node, twin) if silenced is not None else last
            break
        last = (node, twin) if node.op != "get_attr" else last
    if last is None:
        return SideBySide(network, other)
    head, tail = graph.cut(network, last[0])
    return SharedHead(head, tail, graph.cut(other, last[1])[1], silenced)


def _pairs(network: fx.GraphModule, other: fx.GraphModule) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Pair the nodes of two graphs that compute or hold a constant; nothing where the graphs are not the same."""
    nodes, twins = list(network.graph.nodes), list(other.graph.nodes)
    described = [[(n.op, str(n.target), str(n.args), str(n.kwargs)) for n in side] for side in (nodes, twins)]
    if described[0] == described[1]:
        yield from ((n, m) for n, m in zip(nodes, twins, strict=True) if n.op not in ("placeholder", "output"))


def _states(
    network: fx.GraphModule, node: fx.Node, other: fx.GraphModule, twin: fx.Node
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return (
        network.get_submodule(str(node.target)).state_dict(),
        other.get_submodule(str(twin.target)).state_dict(),
    )


def _same_layer(network: fx.GraphModule, node: fx.Node, other: fx.GraphModule, twin: fx.Node) -> bool:
    if node.op == "get_attr":
        return torch.equal(_constant(network, node), _constant(other, twin))
    if node.op != "call_module":
        return True
    state, twin_state = _states(network, node, other, twin)
    return state.keys() == twin_state.keys() and all(torch.equal(state[key], twin_state[key]) for key in state)


def _constant(network: fx.GraphModule, node: fx.Node) -> Tensor:
    """Return the parameter or buffer that a `get_attr` node stands for."""
    path, _, name = str(node.target).rpartition(".")
    value = getattr(network.get_submodule(path), name)
    return value if isinstance(value, Tensor) else torch.tensor([])


def _silenced_channels(network: fx.GraphModule, node: fx.Node, other: fx.GraphModule, twin: fx.Node) -> Tensor | None:
    """Return 0 for the channels that `twin` has silenced and 1 for the rest, None where the layers differ otherwise."""
    module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
    if not isinstance(module, nn.Conv2d | nn.BatchNorm2d) or not keeps_zero(getattr(module, "activation", None)):
        return None
    state, twin_state = _states(network, node, other, twin)
    made = [key for key in ("weight", "bias") if key in state]
    if state.keys() != twin_state.keys() or any(
        not torch.equal(state[key], twin_state[key]) for key in state if key not in made
    ):
        return None
    rows = [
        (state[key] != twin_state[key]).flatten(1).any(dim=1) if state[key].ndim > 1 else state[key] != twin_state[key]
        for key in made
    ]
    differ = torch.stack(rows).any(dim=0)
    if any(bool(twin_state[key][differ].any()) for key in made):
        return None
    return (~differ).to(torch.float32)[None, :, None, None]
