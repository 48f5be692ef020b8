"""Cutting a network's graph in two: the head that is computed once, the tail that is computed many times."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn


def trace(module: nn.Module) -> fx.GraphModule:
    """Return `module` as a graph whose nodes are its layers; weights are shared, not copied.

    A module whose ``forward`` depends on values (Python ``if`` on tensors) cannot be taken apart; it becomes a
    graph of one node, which still runs but has no layers to look into.
    """
    if isinstance(module, fx.GraphModule):
        return module
    try:
        return fx.symbolic_trace(module)
    except Exception:
        graph = fx.Graph()
        node = graph.call_module("network", (graph.placeholder("images"),))
        graph.output(node)
        return fx.GraphModule(nn.ModuleDict({"network": module}), graph)


def compute_nodes(network: fx.GraphModule) -> list[fx.Node]:
    """Return the nodes that compute something, in the order in which they run."""
    return [node for node in network.graph.nodes if node.op not in ("placeholder", "output", "get_attr")]


def kind_of(network: fx.GraphModule, node: fx.Node) -> str:
    """Return what a node does in one word: a module's class name, else the function's or method's name."""
    if node.op == "call_module":
        return type(network.get_submodule(str(node.target))).__name__.lstrip("_")
    if node.op == "call_function":
        return getattr(node.target, "__name__", str(node.target))
    return str(node.target)


def name_of(node: fx.Node) -> str:
    """Return the name under which a user knows a node: the module's path, else the graph's own name."""
    return str(node.target) if node.op == "call_module" else node.name


def cut(network: fx.GraphModule, node: fx.Node) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Split `network` after `node` into (head, tail), both sharing its weights.

    The head maps images to a tuple of the values that are still needed after `node`, the output of `node`
    first; the tail maps these values to the network's output. A residual connection around `node` is one more
    value in the tuple, so any node can be a cut.
    """
    order = [item for item in network.graph.nodes if item.op != "output"]
    position = order.index(node)
    before, after = order[: position + 1], order[position + 1 :]
    consumers = {*after, *(item for item in network.graph.nodes if item.op == "output")}
    live = [node] + [
        item for item in before if item is not node and item.op != "get_attr" and consumers.intersection(item.users)
    ]
    return _head_graph(network, before, live), _tail_graph(network, after, live)


def _head_graph(network: fx.GraphModule, nodes: Sequence[fx.Node], live: Sequence[fx.Node]) -> fx.GraphModule:
    graph = fx.Graph()
    made: dict[fx.Node, fx.Node] = {}
    for item in nodes:
        made[item] = graph.node_copy(item, lambda old: made[old])
    graph.output(tuple(made[item] for item in live))
    return fx.GraphModule(network, graph, "Head")


def _tail_graph(network: fx.GraphModule, nodes: Sequence[fx.Node], live: Sequence[fx.Node]) -> fx.GraphModule:
    graph = fx.Graph()
    values = graph.placeholder("values")
    made = {item: graph.call_function(operator.getitem, (values, i)) for i, item in enumerate(live)}
    constants = [item for item in network.graph.nodes if item.op == "get_attr"]
    for item in [*(c for c in constants if c not in nodes), *nodes]:
        made[item] = graph.node_copy(item, lambda old: made[old])
    output = next(item for item in network.graph.nodes if item.op == "output")
    graph.output(fx.map_arg(output.args[0], lambda old: made[old]))
    return fx.GraphModule(network, graph, "Tail")


class _ShapeRecorder(fx.Interpreter):
    """Runs a graph once and notes the shape of every node's output, without the batch dimension."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.shapes: dict[str, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> object:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.shapes[n.name] = tuple(value.shape[1:])
        return value


def output_shapes(network: fx.GraphModule, images: Tensor) -> dict[str, tuple[int, ...]]:
    """Return the output shape of every node (by node name, without the batch dimension) for `images`."""
    recorder = _ShapeRecorder(network)
    with torch.no_grad():
        recorder.run(images)
    return recorder.shapes
