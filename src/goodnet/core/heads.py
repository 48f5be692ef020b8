"""A network that gives a tuple, a dictionary or an object -> the same network that gives its logits alone."""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx

#: What logits are called, the likeliest first.
_NAMES = (
    "logits",
    "scores",
    "output",
    "outputs",
    "out",
    "prediction",
    "predictions",
    "pred",
    "y",
    "probs",
    "probabilities",
)

#: One step into an output: how (an entry or an attribute), and its name or number.
_Step = tuple[Any, Any]


def take_logits(network: fx.GraphModule, image_shape: tuple[int, int, int]) -> tuple[fx.GraphModule, str | None]:
    """Return `network` with one tensor as its output, and in words which one that is; None: it had one already.

    Of an object or a dictionary what is called logits is taken, or the only rows of numbers; of a tuple the first rows.

    Args:
        network: the graph of a classifier.
        image_shape: (C, H, W) of its images.
    """
    outputs = _run(network, image_shape)
    if outputs is None or isinstance(outputs, Tensor):
        return network, None
    found = _find(outputs)
    if found is None:
        return network, None
    how, where = found
    graph = copy.deepcopy(network.graph)
    output = next(item for item in graph.nodes if item.op == "output")
    value = output.args[0]
    with graph.inserting_before(output):
        taken = graph.call_function(how, (value, where)) if isinstance(value, fx.Node) else how(value, where)
    output.args = (taken,)
    network = fx.GraphModule(network, graph)
    network.graph.eliminate_dead_code()
    network.recompile()
    kind = type(outputs).__name__
    return network, f"the network gives a {kind}: its {where!r} is taken for the logits"


def _run(network: fx.GraphModule, image_shape: tuple[int, int, int]) -> Any:
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    training = network.training
    try:
        with torch.inference_mode():
            return network.eval()(torch.zeros(2, *image_shape, device=device))
    except Exception:
        return None  # `Classifier` runs the network too, and says what is wrong with it.
    finally:
        network.train(training)


def _find(outputs: Any) -> _Step | None:
    """Return the way to the logits inside an output."""
    entries = list(_entries(outputs))
    rows = [(how, where) for how, where, value in entries if _is_rows(value)]
    named = {where: how for how, where in rows}
    name = next((word for word in _NAMES if word in named), None)
    if name is not None:
        return named[name], name
    # Nobody says which of several entries of a dictionary is meant; a tuple begins with the logits by custom.
    return rows[0] if rows and (len(rows) == 1 or isinstance(outputs, tuple | list)) else None


def _entries(outputs: Any) -> Iterator[tuple[Any, Any, Any]]:
    if isinstance(outputs, Mapping):
        yield from ((operator.getitem, key, value) for key, value in outputs.items())
    elif isinstance(outputs, tuple | list):
        names = getattr(outputs, "_fields", ())
        yield from ((getattr, name, getattr(outputs, name)) for name in names)
        if not names:
            yield from ((operator.getitem, place, value) for place, value in enumerate(outputs))
    else:
        yield from ((getattr, name, value) for name, value in vars(outputs).items() if not name.startswith("_"))


def _is_rows(value: Any) -> bool:
    """Whether a value has one row of numbers for each of two images."""
    return isinstance(value, Tensor) and value.ndim in (1, 2) and len(value) == 2 and value.is_floating_point()
