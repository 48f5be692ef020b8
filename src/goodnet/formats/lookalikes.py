"""What else in a checkpoint looks like the network that is taken from it, and under no name that would say so.

Averages of weights are kept as plain lists, as arrays, under names without dots, or without some of the layers. Nobody can
choose such a copy; a reader must hear that the file holds it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from goodnet.core.one_line import one_line
from goodnet.formats.checkpoints import find_containers
from goodnet.formats.inert_objects import StoredArray
from goodnet.formats.weight_fit import State

#: A container that holds this share of a network's matrices and kernels is taken for a copy of it.
_SHARE = 0.5


def find_lookalikes(path: Path, content: Any, weights: State, known: Collection[int]) -> tuple[str, ...]:
    """Return the places in a checkpoint of further tensors with the same number and shapes as those of `weights`.

    The state of an optimizer has these shapes too, and is left out.

    Args:
        path: the file, for messages.
        content: what it holds.
        weights: the network that is taken.
        known: the `id` of each tensor that belongs to a network that was found.

    Raises:
        UnreadableModel: the content is nested without end.
    """
    wanted = Counter(tuple(value.shape) for value in weights.values() if value.ndim >= 2)
    if not wanted:
        return ()
    optimizers: list[tuple[Any, ...]] = []
    found = []
    for place, items in find_containers(path, content):
        if any(key == "param_groups" for key, _ in items):
            optimizers.append(place)
        if any(place[: len(optimizer)] == optimizer for optimizer in optimizers):
            continue
        shapes = Counter(_shapes(value for _, value in items if id(value) not in known))
        if sum((shapes & wanted).values()) >= max(2, _SHARE * sum(wanted.values())):
            found.append("/".join(one_line(str(key)) for key in place) or "/")
    return tuple(found)


def _shapes(values: Iterator[Any]) -> Iterator[tuple[int, ...]]:
    for value in values:
        held = value.values if isinstance(value, StoredArray) else value
        if (
            not isinstance(held, Mapping)
            and (isinstance(held, Tensor) or hasattr(held, "__array__"))
            and held.ndim >= 2
        ):
            yield tuple(held.shape)
