"""Cutting a network's graph in two: the head that is computed once, the tail that is computed many times."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

_WRITING_OPERATORS = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


def trace(module: nn.Module) -> fx.GraphModule:
    """Return `module` as a graph whose nodes are its layers; weights are shared, not copied.

    A module whose ``forward`` depends on values (Python ``if`` on tensors) cannot be taken apart; it becomes a
    graph of one node, which still runs but has no layers to look into.

    The module is set to evaluation first: what its ``forward`` asks of ``self.training`` is fixed by the trace.
    """
    if isinstance(module, fx.GraphModule):
        return module
    module.eval()
    try:
        return _without_annotations(_without_views(_without_overwriting(fx.symbolic_trace(module))))
    except Exception:
        graph = fx.Graph()
        node = graph.call_module("network", (graph.placeholder("images"),))
        graph.output(node)
        return fx.GraphModule(nn.ModuleDict({"network": module}), graph)


def _without_annotations(network: fx.GraphModule) -> fx.GraphModule:
    """Drop type hints: those that are strings keep a graph from being pickled, and so from crossing to a process."""
    for node in network.graph.nodes:
        node.type = None
    network.recompile()
    return network


def _without_views(network: fx.GraphModule) -> fx.GraphModule:
    """Let `view` be `reshape`: the first needs NCHW memory, and the network runs in channels_last."""
    for node in network.graph.nodes:
        if node.op == "call_method" and node.target == "view":
            node.target = "reshape"
    network.recompile()
    return network


def _without_overwriting(network: fx.GraphModule) -> fx.GraphModule:
    """Let operations that overwrite their input make a new tensor: a head's values serve many runs of the tail."""
    order = {node: position for position, node in enumerate(network.graph.nodes)}
    for node in network.graph.nodes:
        if not node.args or not isinstance(node.args[0], fx.Node) or not _stop_overwriting(network, node):
            continue
        overwritten = node.args[0]
        for user in [user for user in overwritten.users if order[user] > order[node]]:
            user.replace_input_with(overwritten, node)
    network.recompile()
    return network


def _stop_overwriting(network: fx.GraphModule, node: fx.Node) -> bool:
    """Turn an operation that overwrites its first input into the one that does not; False where it was none."""
    if node.op == "call_module":
        module = network.get_submodule(str(node.target))
        if not getattr(module, "inplace", False):
            return False
        module.inplace = False  # type: ignore[assignment]
        return True
    if node.kwargs.get("inplace"):
        node.kwargs = {**node.kwargs, "inplace": False}
        return True
    if node.op == "call_function" and node.target in _WRITING_OPERATORS:
        node.target = _WRITING_OPERATORS[node.target]
        return True
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if node.op not in ("call_method", "call_function") or not name.endswith("_") or name.endswith("__"):
        return False
    places: tuple[object, ...] = (Tensor,) if node.op == "call_method" else (torch, F)
    found = next((getattr(p, name[:-1]) for p in places if callable(getattr(p, name[:-1], None))), None)
    if found is not None:
        node.target = name[:-1] if node.op == "call_method" else found
    return found is not None


def compute_nodes(network: fx.GraphModule) -> list[fx.Node]:
    """Return the nodes that compute something, in the order in which they run."""
    return [node for node in network.graph.nodes if node.op not in ("placeholder", "output", "get_attr")]


def kind_of(network: fx.GraphModule, node: fx.Node) -> str:
    """Return what a node does in one word: a module's `kind` or class name, else the function's or method's name."""
    if node.op == "call_module":
        module = network.get_submodule(str(node.target))
        return str(getattr(module, "kind", type(module).__name__))
    if node.op == "call_function":
        return getattr(node.target, "__name__", str(node.target))
    return str(node.target)


def name_of(node: fx.Node) -> str:
    """Return the name under which a user knows a node: the module's path, else the graph's own name.

    A module that is called again is another layer: its second call is named ``path:2``.
    """
    if node.op != "call_module":
        return node.name
    calls = [item for item in node.graph.nodes if item.op == "call_module" and item.target == node.target]
    return str(node.target) if calls[0] is node else f"{node.target}:{calls.index(node) + 1}"


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
