"""Finds the networks in a checkpoint: the weights of an architecture, at any place and under any prefix."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from goodnet.core.errors import InvalidOption, UnreadableModel
from goodnet.formats.checkpoints import KeyPath, as_one_line, find_mappings, replace_at
from goodnet.formats.lookalikes import find_lookalikes
from goodnet.formats.weight_fit import Builds, State, compare, describe_misfit

#: More networks than this are not looked at one by one.
_MOST_NETWORKS = 100

#: The tensors of each mapping of a checkpoint, with the way there.
Mappings = Sequence[tuple[KeyPath, State]]


@dataclass(frozen=True)
class Place:
    """Where a network lies: the way to a mapping, and what stands before each name (`module.`)."""

    path: KeyPath
    prefix: str = ""

    @property
    def key(self) -> str:
        """The place as the user types it: keys and prefix with strokes between them, "/" for the whole file."""
        parts = [as_one_line(key) for key in self.path]
        return "/".join([*parts, as_one_line(self.prefix)] if self.prefix else parts) or "/"


@dataclass(frozen=True, eq=False)
class Candidate:
    """A network in a checkpoint: its weights by their own names, and all tensors that lie there for it, counters too."""

    place: Place
    weights: State
    names: tuple[str, ...]

    def equals(self, other: Candidate) -> bool:
        """Whether it has the same weights, to the byte."""
        return self.weights.keys() == other.weights.keys() and all(
            value.dtype == other.weights[name].dtype and torch.equal(value, other.weights[name])
            for name, value in self.weights.items()
        )

    def remove_from(self, content: Any) -> Any:
        """Return a checkpoint's content without this network."""
        gone = frozenset(self.names)

        def without(mapping: Any) -> Any:
            rest = copy.copy(mapping)
            for name in gone:
                rest.pop(name, None)
            return rest

        return replace_at(content, self.place.path, without)


@dataclass(frozen=True)
class Chosen:
    """The network that is read from a file. `places` lists every place that holds it, `left_out` the other networks' keys.

    `content` is the file's content without the others: a repaired file must not carry the network that it repairs.
    `lookalikes` are places with further tensors of its shapes, which stay as they are.
    """

    weights: State
    places: tuple[Place, ...]
    left_out: tuple[str, ...]
    content: Any
    lookalikes: tuple[str, ...] = ()


def choose_network(path: Path, content: Any, builds: Builds, key: str | None) -> Chosen:
    """Return the one network in a checkpoint that fits an architecture, or of several the one under `key`.

    Raises:
        UnreadableModel: none fits, or several do and no key is given.
        InvalidOption: there is nothing that fits under that key.
    """
    mappings = list(find_mappings(path, content))
    found = find_candidates(path, mappings, builds)
    if not found:
        raise _misfit(path, content, mappings, builds)
    groups = _group_equal(found)
    group = groups[0] if len(groups) == 1 and key is None else _pick(path, groups, builds.architecture.name, key)
    others = [candidate for candidate in found if candidate not in group]
    for other in others:
        content = other.remove_from(content)
    places = tuple(candidate.place for candidate in group)
    weights = group[0].weights
    known = {id(value) for candidate in found for value in candidate.weights.values()}
    lookalikes = find_lookalikes(path, content, weights, known)
    return Chosen(weights, places, tuple(other.place.key for other in others), content, lookalikes)


def find_candidates(path: Path, mappings: Mappings, builds: Builds) -> list[Candidate]:
    """Return all networks that fit, in the order of the file.

    Raises:
        UnreadableModel: there are too many to look at.
    """
    if not mappings:
        return []
    expected = builds.fitting(_largest(mappings)[1]).state_dict(keep_vars=True)
    needed = len({id(value) for name, value in expected.items() if not name.endswith("num_batches_tracked")})
    found: list[Candidate] = []
    for place, tensors in mappings:
        likely = [prefix for prefix, count in _count_names(tensors, expected).items() if count >= needed]
        if len(found) + len(likely) > _MOST_NETWORKS:
            raise UnreadableModel(
                f"{path}: expected a checkpoint of at most {_MOST_NETWORKS} networks, got more; save the one that is meant "
                "alone: torch.save(net.state_dict(), path)"
            )
        found += _fitting(place, tensors, likely, builds)
    return found


def _count_names(names: Iterable[str], expected: Collection[str]) -> Counter[str]:
    """Return, for each beginning (whole words with a dot, or none), how many names go on after it as an expected one."""
    words = max((name.count(".") for name in expected), default=0) + 1
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        rests = (".".join(parts[start:]) for start in range(max(0, len(parts) - words), len(parts)))
        counts.update(name[: len(name) - len(rest)] for rest in rests if rest in expected)
    return counts


def _fitting(place: KeyPath, tensors: State, prefixes: Sequence[str], builds: Builds) -> list[Candidate]:
    """Return the networks under those of the prefixes below which all fits. What belongs to one is not left over in another."""
    found: list[Candidate] = []
    for prefix in sorted(prefixes, key=len, reverse=True):
        taken = {name for candidate in found for name in candidate.names}
        names = tuple(name for name in tensors if name.startswith(prefix) and name not in taken)
        weights = {name[len(prefix) :]: tensors[name] for name in names}
        module = builds.fitting(weights)
        if compare(weights, module).exact:
            own = {name: value for name, value in weights.items() if name in module.state_dict()}
            found.append(Candidate(Place(place, prefix), own, names))
    order = {name: position for position, name in enumerate(tensors)}
    return sorted(found, key=lambda candidate: order[candidate.names[0]])


def _group_equal(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Return the candidates, those that are the same network together."""
    groups: list[list[Candidate]] = []
    for candidate in candidates:
        same = next((group for group in groups if group[0].equals(candidate)), None)
        if same is None:
            groups.append([candidate])
        else:
            same.append(candidate)
    return groups


def _pick(path: Path, groups: Sequence[list[Candidate]], architecture: str, key: str | None) -> list[Candidate]:
    named = ", ".join(" = ".join(candidate.place.key for candidate in group) for group in groups)
    if key is None:
        raise UnreadableModel(
            f"{path}: expected one network that fits the architecture '{architecture}', found {len(groups)}: {named}; say "
            "which one is meant: --key NAME"
        )
    picked = [group for group in groups if any(candidate.place.key == key for candidate in group)]
    if len(picked) != 1:
        raise InvalidOption(
            f"{path}: expected a key under which there is a network that fits the architecture '{architecture}', got "
            f"'{as_one_line(key)}'; there are: {named}"
        )
    return picked[0]


def _misfit(path: Path, content: Any, mappings: Mappings, builds: Builds) -> UnreadableModel:
    """Return the error for a file without a network that fits; it speaks of the place with most of the expected names."""
    if not mappings:
        return UnreadableModel(
            f"{path}: expected a state dict (names to tensors), or a checkpoint that holds one, got {type(content).__name__}"
        )
    expected = builds.fitting(_largest(mappings)[1]).state_dict()
    places = [(_count_names(tensors, expected), place, tensors) for place, tensors in mappings]
    counts, place, tensors = max(places, key=lambda item: max(item[0].values(), default=0))
    if not counts:
        place, tensors = _largest(mappings)
    prefix = max(counts, key=lambda beginning: counts[beginning], default="")
    weights = {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
    return misfit(path, weights, builds.fitting(weights), builds.architecture.name, Place(place, prefix).key)


def misfit(path: Path, weights: State, module: nn.Module, architecture: str, key: str = "/") -> UnreadableModel:
    """Return the error that says which weights do not fit `module`, and where in the file they lie."""
    words = describe_misfit(compare(weights, module), weights, module)
    where = "" if key == "/" else f" under '{key}'"
    return UnreadableModel(
        f"{path}: the weights{where} do not fit the architecture '{architecture}': {words}; choose the architecture that it "
        "was trained with, and the image size (C, H, W) if that is another"
    )


def _largest(mappings: Mappings) -> tuple[KeyPath, State]:
    return max(mappings, key=lambda item: sum(value.numel() for value in item[1].values()))
