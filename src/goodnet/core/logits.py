"""A network that ends in probabilities, or in one number -> the same network that ends in logits, one for each class.

Scores, margins and losses expect logits. On probabilities the softmax would be applied twice: gradients vanish where the
network is confident, and all networks look alike.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from goodnet.core.graph import kind_of
from goodnet.core.heads import take_logits

#: What maps logits to probabilities, or to their logarithm: by the name of a module, a function or a method.
_ENDINGS = {
    "softmax": "softmax",
    "special_softmax": "softmax",
    "special_log_softmax": "log-softmax",
    "softmax2d": "softmax",
    "channelsoftmax": "softmax",
    "log_softmax": "log-softmax",
    "logsoftmax": "log-softmax",
    "sigmoid": "sigmoid",
    "expit": "sigmoid",
    "special_expit": "sigmoid",
    "logsigmoid": "log-sigmoid",
    "log_sigmoid": "log-sigmoid",
}
#: What may stand behind an ending and leaves the values as they are.
_HARMLESS = frozenset(
    {"flatten", "squeeze", "view", "reshape", "contiguous", "identity", "dropout", "clone", "detach"}
    | {"float", "to", "type", "upsample", "cast"}
)
#: What may stand behind an ending, with plain numbers, and keeps the order of the classes: scale, shift, bounds, logarithm.
_MONOTONE = frozenset({"mul", "truediv", "div", "add", "sub", "clamp", "clamp_min", "clamp_max", "clip", "exp", "log"})
#: Probabilities below this are taken for this: a logarithm must stay finite.
_LEAST = 1e-30
_STEP = 1e-7
#: How far probabilities may sum up from 1.
_ROUNDING = 1e-3
#: Pixels far outside any range: whatever is no probability leaves [0, 1] there.
_FAR = 1000.0

#: Where the layers of Keras have their counterparts, which keep the activation inside.
_OWN = "goodnet.formats.keras_modules"

_Function = Callable[[fx.Graph, fx.Node], fx.Node]


@dataclass(frozen=True)
class Logits:
    """A network whose outputs are logits (N, classes), and in words what was done for that; no words: nothing."""

    network: fx.GraphModule
    notes: tuple[str, ...] = ()


def as_logits(network: fx.GraphModule, image_shape: tuple[int, int, int]) -> Logits:
    """Return `network` with logits as its outputs, at least two; its weights are shared.

    Of a tuple, a dictionary or an object the logits are taken. A softmax, log-softmax or sigmoid at the end is left out.
    If there is none of these but all outputs are probabilities, their logarithm is taken. One output becomes two classes:
    class 1 is the one that a high value means.

    Args:
        network: the graph of a classifier.
        image_shape: (C, H, W) of its images.
    """
    network, taken = take_logits(network, image_shape)
    network, endings = _without_endings(network)
    notes = [] if taken is None else [taken]
    notes += [f"the {ending} at the end is left out: scores need logits" for ending in endings]
    outputs = _probe(network, image_shape)
    if outputs is None:
        return Logits(network, tuple(notes))
    if not endings and (function := _find_inverse(_finite(outputs))) is not None:
        network = _append(network, function)
        kind = "their logarithm" if function is _log else "the logarithm of their odds"
        notes.append(f"the outputs are probabilities: {kind} is used, since scores need logits")
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        network = _append(network, _two_classes)
        notes.append("the network has one output: class 1 is what it speaks for, class 0 the rest")
    return Logits(network, tuple(notes))


def _without_endings(network: fx.GraphModule) -> tuple[fx.GraphModule, list[str]]:
    """Return the network without what makes probabilities of its logits, and the names of what was left out."""
    graph = copy.deepcopy(network.graph)
    found: list[str] = []
    while nodes := _find_ending(network, graph):
        found.append(_ENDINGS[_word(network, nodes[-1])])
        for node in nodes:
            node.replace_all_uses_with(node.all_input_nodes[0])
            graph.erase_node(node)
    network = fx.GraphModule(network, graph) if found else network
    return network, [*found, *_without_inner_ending(network)]


def _find_ending(network: fx.GraphModule, graph: fx.Graph) -> list[fx.Node]:
    """Return the last node that makes probabilities of logits, at the end of a list, before it what is done to them after.

    Nothing may stand behind it but reshaping and what keeps the order of the classes. Empty: there is none.
    """
    passed: list[fx.Node] = []
    for node in _from_the_end(network, graph, _HARMLESS | _MONOTONE):
        word = _word(network, node)
        if word in _ENDINGS:
            return [*passed, node] if _is_over_classes(network, node) else []
        if word in _MONOTONE:
            if not _keeps_order(node):
                return []
            passed.append(node)
    return []


def _from_the_end(network: fx.GraphModule, graph: fx.Graph, words: frozenset[str]) -> Iterator[fx.Node]:
    """Yield nodes from the output back, each the only input of the next, as long as they are of `words`, and one more."""
    node = next(item for item in graph.nodes if item.op == "output").args[0]
    while isinstance(node, fx.Node) and node.all_input_nodes and len(node.users) == 1:
        yield node
        if not (_word(network, node) in words or _keeps_classes(node)) or len(node.all_input_nodes) > 1:
            return
        node = node.all_input_nodes[0]


def _keeps_classes(node: fx.Node) -> bool:
    """Whether it takes all classes of a part of the output, as [:, :, 0, 0] does and [:, 1] does not."""
    where = node.args[1] if node.target is operator.getitem else None
    return isinstance(where, tuple) and len(where) > 1 and where[1] == slice(None)


def _keeps_order(node: fx.Node) -> bool:
    """Whether an operation with plain numbers keeps the order of the classes: nothing is multiplied by less than 0."""
    name = getattr(node.target, "__name__", str(node.target))
    numbers = [value for value in (*node.args, *node.kwargs.values()) if isinstance(value, int | float)]
    if not isinstance(node.args[0], fx.Node) and name not in ("mul", "add"):
        return False  # 1 - p, 1 / p
    return name not in ("mul", "truediv", "div") or all(value > 0 for value in numbers)


def _without_inner_ending(network: fx.GraphModule) -> list[str]:
    """Take off the activation that a last layer of Keras keeps inside; return its name."""
    for node in _from_the_end(network, network.graph, _HARMLESS):
        module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        inner = type(getattr(module, "activation", None)).__name__.lower()
        # Nobody else's: a stranger's `forward` calls what it keeps under this name.
        if module is not None and inner in _ENDINGS and type(module).__module__ == _OWN:
            setattr(module, "activation", None)  # noqa: B010
            return [_ENDINGS[inner]]
    return []


def _word(network: fx.GraphModule, node: fx.Node) -> str:
    return "" if node.op in ("placeholder", "get_attr", "output") else kind_of(network, node).lower()


def _is_over_classes(network: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a softmax runs along the classes; a sigmoid runs along nothing."""
    if node.op == "call_module":
        dim = getattr(network.get_submodule(str(node.target)), "dim", 1)
    else:
        dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 1)
    return dim in (1, -1, None)


def _probe(network: fx.GraphModule, image_shape: tuple[int, int, int]) -> Tensor | None:
    """Return the outputs for images in [0, 1] and far outside; None: they are no tensor (N,) or (N, outputs)."""
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    noise = torch.rand(4, *image_shape, generator=torch.Generator().manual_seed(0))
    images = torch.cat([noise, 255 * noise, _FAR * (noise - 0.5)]).to(device)
    training = network.training
    try:
        with torch.inference_mode():
            outputs = network.eval()(images)
    except Exception:
        return None  # `Classifier` runs the network too, and says what is wrong with it.
    finally:
        network.train(training)
    fits = isinstance(outputs, Tensor) and outputs.ndim in (1, 2) and len(outputs) == len(images)
    return outputs if fits else None


def _finite(outputs: Tensor) -> Tensor:
    """Return the rows (n,) or (n, outputs) that are finite: far outside its range a network may overflow."""
    return outputs[torch.isfinite(outputs.reshape(len(outputs), -1)).all(dim=1)]


def _find_inverse(outputs: Tensor) -> _Function | None:
    """Return what makes logits of outputs (n,) or (n, outputs) that are probabilities; None: they are logits already.

    Shares of a whole, of 1 or of 100, sum up to the same for every image; probabilities of their own lie in [0, 1].
    """
    if not len(outputs) or bool((outputs < 0).any()):
        return None
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        sums = outputs.sum(dim=1)
        if bool(sums[0] > 0) and bool((sums / sums[0] - 1).abs().max() < _ROUNDING):
            return _log
    return _log_odds if bool((outputs <= 1).all()) else None


def _append(network: fx.GraphModule, function: _Function) -> fx.GraphModule:
    """Return the network with `function` behind its output."""
    graph = copy.deepcopy(network.graph)
    output = next(item for item in graph.nodes if item.op == "output")
    with graph.inserting_before(output):
        output.args = (function(graph, output.args[0]),)
    return fx.GraphModule(network, graph)


def _log(graph: fx.Graph, node: fx.Node) -> fx.Node:
    return graph.call_function(torch.log, (graph.call_function(torch.clamp_min, (node, _LEAST)),))


def _log_odds(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """Return log p - log(1 - p); next to 1 a float32 has no finer steps than _STEP, next to 0 it has."""
    against = graph.call_function(torch.clamp_min, (graph.call_function(torch.rsub, (node, 1.0)), _STEP))
    return graph.call_function(torch.sub, (_log(graph, node), graph.call_function(torch.log, (against,))))


def _two_classes(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """Logits 0 and z have the probabilities of one output through a sigmoid."""
    column = graph.call_method("reshape", (node, -1, 1))
    return graph.call_function(torch.cat, ([graph.call_function(torch.zeros_like, (column,)), column], 1))
