"""Adversarial triggers for unlearning: recovered from the original network, then updated with every training step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from goodnet.core.backdoor import Backdoor, Patch, group_by_patch
from goodnet.core.classifier import Classifier
from goodnet.triggers.free_triggers import FreeCovers, FreePatches, FreeTriggers, FreeWarps, FreeWaves
from goodnet.triggers.inversion import Schedule, invert_maps, invert_triggers
from goodnet.triggers.plane_waves import find_waves
from goodnet.triggers.smooth_warps import invert_warps
from goodnet.triggers.universal_blend import Budget, universal_margins

#: Opacities of the universal blend, how far above its first size a trigger may grow, innocent classes to compare with.
_OPACITIES, _GROWTH, _OTHERS = (0.15, 0.08, 0.04), 2.0, 5
_SCHEDULE = Schedule(100, 16)
#: One trigger for all classes works on fewer images; as in `pipelines/scan_rounds.py`, with more images.
_MAPPED = Schedule(150, 16, success=0.55, least=0.6)
#: Mean shift of a warp, as a share of the image's longer side; amplitude of a wave.
_WARP, _AMPLITUDE = 0.025, 0.08
#: Covers for each target, from top to bottom, and their height as a share of the image's.
_COVERS, _COVERED = 4, 0.25
#: Share of the images that a warp or a wave must send to a target to be taken for its trigger.
_WORKS = 0.7


@dataclass(frozen=True)
class _Start:
    """Where a patch begins, the size that it may reach, and the class that images of each class are to get (classes,)."""

    patch: Patch
    limit: float
    goals: tuple[int, ...]


class TriggerSearch:
    """Triggers of several families, updated as the network changes.

    `goals` (T, classes): `goals[t, c]` is the class to which trigger t should send an image of the original's class c.
    """

    def __init__(self, families: Sequence[FreeTriggers], goals: Tensor) -> None:
        self.families, self.goals = list(families), goals
        self._variables = [item for family in self.families for item in family.variables]
        self._optimizer = torch.optim.Adam(self._variables, lr=0.05, betas=(0.5, 0.9))

    @classmethod
    def start(
        cls, classifier: Classifier, images: Tensor, suspected: Sequence[Backdoor], count: int, seed: int
    ) -> TriggerSearch:
        """Recover triggers for the targets; those that the scanner recovered take part.

        Args:
            classifier: the original.
            images: clean images (n, C, H, W) that triggers are recovered on.
            suspected: the backdoors. Several that share a trigger and name their sources are one trigger with a goal for
                each source, and so are several without a trigger that together send every class to another one. Where
                every class has another goal, `count` such patches are recovered.
            count: patches, and warps, recovered for each target, besides the patches given, a universal blend and a wave.
            seed: of whatever is drawn.
        """
        by_source = [b for b in suspected if isinstance(b.trigger, Patch) and b.sources is not None]
        starts, beyond = _start_by_source(by_source, classifier.classes), _Beyond([], [])
        maps = [start.goals for start in starts if _moves_all(start.goals)]
        if told := _read_map([b for b in suspected if b.trigger is None], classifier.classes):
            by_source += [b for b in suspected if b.trigger is None and b.sources is not None]
            maps.append(told)
        suspected = [b for b in suspected if all(b is not other for other in by_source)]
        starts += [more for goals in maps for more in _recover_map(classifier, images, goals, count, seed)]
        if suspected:
            targets = list(dict.fromkeys(backdoor.target for backdoor in suspected))
            others = _innocent(classifier.classes, targets, seed)
            search = _Search(classifier, images, targets, others, count, seed)
            starts += _recover(search, [(b.trigger, b.target) for b in suspected if isinstance(b.trigger, Patch)])
            beyond = _find_beyond(search)
        patches = FreePatches([item.patch for item in starts], [item.limit for item in starts], classifier.device)
        goals = [*(item.goals for item in starts), *((target,) * classifier.classes for target in beyond.targets)]
        return cls([patches, *beyond.families], torch.tensor(goals, device=classifier.device))

    def __len__(self) -> int:
        """The number of triggers."""
        return len(self.goals)

    @property
    def elusive(self) -> bool:
        """Whether one goal is not enough to unlearn it: warps or waves work, or a trigger moves classes to others."""
        elusive = any(isinstance(family, FreeWarps | FreeWaves) for family in self.families)
        return elusive or bool((self.goals != self.goals[:, :1]).any())

    def stamp(self, images: Tensor, turns: Tensor) -> Tensor:
        """Return images (B, C, H, W), each with the trigger whose number `turns` (B,) says."""
        stamped, first, turns = images, 0, turns.to(images.device)
        for family in self.families:
            rows = ((turns >= first) & (turns < first + len(family))).nonzero()[:, 0]
            if len(rows):
                stamped = stamped.index_copy(0, rows, family.stamp(images[rows], turns[rows] - first))
            first += len(family)
        return stamped

    def draw(self, images: int, generator: torch.Generator | None = None) -> Tensor:
        """Return the number of a trigger for each of so many images: half of the images go to warps and waves, if any."""
        turns = torch.randint(len(self), (images,), generator=generator)
        first = len(self) - sum(len(family) for family in self.families if isinstance(family, FreeWarps | FreeWaves))
        if first == len(self):
            return turns
        turns[images // 2 :] = torch.randint(first, len(self), (images - images // 2,), generator=generator)
        turns[: images // 2] %= first
        # The same images are drawn for again and again: no half of them may be for one family alone.
        return turns[torch.randperm(images, generator=generator)]

    def measure(self, classifier: Classifier, images: Tensor, predictions: Tensor) -> tuple[int, int]:
        """Return how many images the best trigger sends to its goal, and of how many, those left out that are there already.

        Of images (B, C, H, W) the original's predictions are `predictions` (B,).
        """
        moved = list[tuple[int, int]]()
        for turn in range(len(self)):
            with torch.inference_mode():
                given = classifier(self.stamp(images, torch.full((len(images),), turn))).argmax(dim=1)
            goals = self.goals[turn, predictions]
            counted = goals != predictions
            if of := int(counted.sum()):
                moved.append((int((given == goals)[counted].sum()), of))
        return max(moved, key=lambda pair: (pair[0] / pair[1], pair[1]), default=(0, 0))

    def step(
        self, classifier: Classifier, images: Tensor, predictions: Tensor, turns: Tensor, temperature: float
    ) -> None:
        """Move the triggers one step towards their goals; `predictions` (B,) are the original's, `turns` (B,) the triggers."""
        logits = classifier(self.stamp(images, turns)) / temperature
        loss = F.cross_entropy(logits, self.goals[turns, predictions]) + sum(
            family.excess() for family in self.families
        )
        # Warps and waves whose turn has not come have no gradient, and stay.
        gradients = torch.autograd.grad(loss, self._variables, allow_unused=True)
        for variable, gradient in zip(self._variables, gradients, strict=True):
            variable.grad = gradient
        self._optimizer.step()


def _start_by_source(backdoors: Sequence[Backdoor], classes: int) -> list[_Start]:
    """Return one start for each distinct trigger; classes that are no source of it keep their class."""
    starts = []
    for patch, opened in group_by_patch(backdoors):
        goals = {source: item.target for item in opened for source in item.sources or ()}
        starts.append(_Start(patch, _GROWTH * patch.size, tuple(goals.get(label, label) for label in range(classes))))
    return starts


def _moves_all(goals: Sequence[int]) -> bool:
    """Whether every class has another goal: an all-to-all backdoor."""
    return all(goal != label for label, goal in enumerate(goals))


def _read_map(backdoors: Sequence[Backdoor], classes: int) -> tuple[int, ...] | None:
    """Return the goal of each class, if backdoors that name their sources give every class one other goal; else None."""
    pairs = [(source, item.target) for item in backdoors for source in item.sources or ()]
    goals = dict(pairs)
    if len(pairs) != classes or set(goals) != set(range(classes)):
        return None
    told = tuple(goals[label] for label in range(classes))
    return told if _moves_all(told) else None


def _recover_map(classifier: Classifier, images: Tensor, goals: tuple[int, ...], count: int, seed: int) -> list[_Start]:
    """Return triggers that each move every class to its goal."""
    starts = []
    for turn in range(count):
        # The map's number seeds its first pattern.
        found = invert_maps(classifier, images, {goals[0]: torch.tensor(goals)}, _MAPPED, seed=seed + turn)
        starts.append(_Start(found.patch(0), _GROWTH * float(found.sizes[0]), goals))
    return starts


@dataclass(frozen=True)
class _Search:
    """What triggers are recovered on: `count` for each target, beside the same for other classes, which are innocent."""

    classifier: Classifier
    images: Tensor
    targets: list[int]
    others: list[int]
    count: int
    seed: int

    @property
    def labels(self) -> list[int]:
        """The targets, then the others."""
        return [*self.targets, *self.others]


def _recover(search: _Search, given: Sequence[tuple[Patch, int]]) -> list[_Start]:
    """Return triggers that were recovered for the targets, those that came with them, and a universal blend for each.

    What reaches innocent classes as well is no backdoor: triggers stay below half the size that some others need, and
    the universal blend is as faint as it must be to fail for them.
    """
    classifier, images, targets, seed = search.classifier, search.images, search.targets, search.seed
    found = [
        invert_triggers(classifier, images, search.labels, _SCHEDULE, seed=seed),
        *(invert_triggers(classifier, images, targets, _SCHEDULE, seed=seed + turn) for turn in range(1, search.count)),
    ]
    patches = [(item.patch(place), target) for item in found for place, target in enumerate(targets)]
    patches += given
    usual = float(found[0].sizes[len(targets) :].median()) if search.others else 0.0
    limits = [max(1.2 * patch.size, min(_GROWTH * patch.size, usual / 2)) for patch, _ in patches]
    draws = torch.Generator().manual_seed(seed)
    if opacity := _faintest(search):
        faint = torch.full_like(patches[0][0].mask, opacity)
        patches += [(Patch(faint, torch.rand(classifier.image_shape, generator=draws)), label) for label in targets]
        limits += [1.2 * float(faint.sum())] * len(targets)
    return [
        _Start(patch, limit, (target,) * classifier.classes)
        for (patch, target), limit in zip(patches, limits, strict=True)
    ]


@dataclass(frozen=True)
class _Beyond:
    """Triggers beyond patches, covers first, and the target of each."""

    families: list[FreeTriggers]
    targets: list[int]


def _find_beyond(search: _Search) -> _Beyond:
    """Return covers, and the warps and the waves that send images to targets where most innocent classes are not reached so."""
    beyond, targets = _Beyond([], []), search.targets
    if not search.others:
        return beyond
    _add_covers(beyond, search)
    size = _WARP * max(search.images.shape[2:])
    for turn in range(search.count):
        fields, shares = invert_warps(search.classifier, search.images, search.labels, size, seed=search.seed + turn)
        if works := _working(shares, len(targets)):
            beyond.families.append(FreeWarps(fields[works], size))
            beyond.targets.extend(targets[place] for place in works)
    waves, shares = find_waves(search.classifier, search.images, search.labels, _AMPLITUDE)
    if works := _working(shares, len(targets)):
        beyond.families.append(FreeWaves(waves[works], _AMPLITUDE))
        beyond.targets.extend(targets[place] for place in works)
    return beyond


def _add_covers(beyond: _Beyond, search: _Search) -> None:
    """Add covers for each target: they need not be recovered, since any class can be reached by so large a trigger."""
    draws = torch.Generator().manual_seed(search.seed)
    for target in search.targets:
        patterns = torch.rand(_COVERS, *search.classifier.image_shape, generator=draws)
        beyond.families.append(FreeCovers(patterns.to(search.classifier.device), _COVERED))
        beyond.targets.extend([target] * _COVERS)


def _working(shares: Tensor, count: int) -> list[int]:
    """Return which of the first `count`, the targets, are reached; none where half of the others are half reached."""
    if float(shares[count:].quantile(0.5)) > _WORKS / 2:
        return []
    return [place for place in range(count) if float(shares[place]) >= _WORKS]


def _innocent(classes: int, targets: Sequence[int], seed: int) -> list[int]:
    """Return a few classes that nobody suspects, drawn at random."""
    rest = [label for label in range(classes) if label not in set(targets)]
    return [int(label) for label in np.random.default_rng(seed).permutation(rest)[:_OTHERS]]


def _faintest(search: _Search) -> float | None:
    """Return the largest opacity at which one blended image does not send images to innocent classes; None: all do."""
    if not search.others:
        return _OPACITIES[0]
    for opacity in _OPACITIES:
        budget = Budget(opacity, steps=30)
        margins = universal_margins(search.classifier, search.images, search.others, budget, seed=search.seed)
        if float(margins.median()) < 0:
            return opacity
    return None
