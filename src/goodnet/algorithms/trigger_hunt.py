"""Triggers that follow a network while it is repaired: recovered from the original, then moved with every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from goodnet.algorithms.trigger_inversion import Schedule, invert_triggers
from goodnet.algorithms.universal_blend import Budget, universal_margins
from goodnet.core.backdoor import Backdoor, Patch
from goodnet.core.classifier import Classifier

#: Opacities of the faint image, how far above its first size a trigger may grow, innocent classes to compare with.
_OPACITIES, _GROWTH, _OTHERS = (0.15, 0.08, 0.04), 2.0, 5
_SCHEDULE = Schedule(100, 16)


@dataclass(frozen=True)
class _Start:
    """Where a trigger begins, the size that it may reach, and the class that images of each class are to get (classes,)."""

    patch: Patch
    limit: float
    goals: tuple[int, ...]


class Hunt:
    """Triggers that follow the network: free masks (T, 1, H, W) and patterns (T, C, H, W), limits (T,), goals (T, classes).

    `goals[t, c]` is the class that trigger t is to give an image which the original calls c.
    """

    def __init__(self, starts: Sequence[_Start], device: torch.device) -> None:
        masks = torch.stack([item.patch.mask for item in starts]).clamp(0.01, 0.99).logit()
        patterns = torch.stack([item.patch.pattern for item in starts]).clamp(0.01, 0.99).logit()
        self.masks, self.patterns = masks.to(device).requires_grad_(), patterns.to(device).requires_grad_()
        self.goals = torch.tensor([item.goals for item in starts], device=device)
        self._limits = torch.tensor([item.limit for item in starts], device=device)
        self._optimizer = torch.optim.Adam([self.masks, self.patterns], lr=0.05, betas=(0.5, 0.9))

    @classmethod
    def start(
        cls, classifier: Classifier, images: Tensor, suspected: Sequence[Backdoor], count: int, seed: int
    ) -> Hunt:
        """Recover triggers for the targets; those that the scanner recovered take part.

        Args:
            classifier: the original.
            images: clean images (n, C, H, W) that triggers are recovered on.
            suspected: the backdoors. Several that share a trigger and name their sources are one trigger with a goal for
                each source; nothing else is recovered for them.
            count: triggers recovered for each target, besides those given and a faint image.
            seed: of whatever is drawn.
        """
        by_source = [(b.trigger, b) for b in suspected if isinstance(b.trigger, Patch) and b.sources is not None]
        suspected = [b for b in suspected if all(b is not other for _, other in by_source)]
        starts = _gather_by_source(by_source, classifier.classes)
        if suspected:
            starts += _recover(classifier, images, suspected, count, seed)
        return cls(starts, classifier.device)

    def __len__(self) -> int:
        """The number of triggers."""
        return len(self.goals)

    def stamp(self, images: Tensor, turns: Tensor) -> Tensor:
        """Return images (B, C, H, W), each with the trigger whose number `turns` (B,) says."""
        return torch.lerp(images, self.patterns.sigmoid()[turns], self.masks.sigmoid()[turns])

    def success(self, classifier: Classifier, images: Tensor, answers: Tensor) -> tuple[int, int]:
        """Return how many images (B, C, H, W) the best of the triggers sends to its goal, and of how many.

        `answers` (B,) are the original's; images that are at a trigger's goal without it do not count for that trigger.
        """
        found = [(0, 0)]
        with torch.inference_mode():
            for turn in range(len(self)):
                goals = self.goals[turn, answers]
                moved = classifier(self.stamp(images, torch.full((len(images),), turn))).argmax(dim=1) == goals
                counted = goals != answers
                found.append((int(moved[counted].sum()), int(counted.sum())))
        return max(found, key=lambda pair: (pair[0] / max(pair[1], 1), pair[1]))

    def step(self, classifier: Classifier, images: Tensor, answers: Tensor, turns: Tensor, temperature: float) -> None:
        """Move the triggers one step towards their goals; `answers` (B,) are the original's, `turns` (B,) the triggers."""
        logits = classifier(self.stamp(images, turns)) / temperature
        sizes = self.masks.sigmoid().sum(dim=(1, 2, 3))
        loss = F.cross_entropy(logits, self.goals[turns, answers]) + 0.05 * F.relu(sizes - self._limits).sum()
        self.masks.grad, self.patterns.grad = torch.autograd.grad(loss, [self.masks, self.patterns])
        self._optimizer.step()


def _gather_by_source(backdoors: Sequence[tuple[Patch, Backdoor]], classes: int) -> list[_Start]:
    """Return one start for each distinct trigger; classes that are no source of it keep their answer."""
    starts: list[tuple[Patch, list[int]]] = []
    for patch, item in backdoors:
        known = [goals for other, goals in starts if other.equals(patch)]
        if not known:
            starts.append((patch, list(range(classes))))
            known = [starts[-1][1]]
        for source in item.sources or ():
            known[0][source] = item.target
    return [_Start(patch, _GROWTH * patch.size, tuple(goals)) for patch, goals in starts]


def _recover(
    classifier: Classifier, images: Tensor, suspected: Sequence[Backdoor], count: int, seed: int
) -> list[_Start]:
    """Return triggers that were recovered for the targets, those that came with them, and a faint image for each.

    What reaches innocent classes as well is no backdoor: triggers stay below half the size that some others need, and
    the faint image is as faint as it must be to fail for them.
    """
    targets = list(dict.fromkeys(backdoor.target for backdoor in suspected))
    others = _innocent(classifier.classes, targets, seed)
    found = [
        invert_triggers(classifier, images, [*targets, *others], _SCHEDULE, seed=seed),
        *(invert_triggers(classifier, images, targets, _SCHEDULE, seed=seed + turn) for turn in range(1, count)),
    ]
    patches = [(item.patch(place), target) for item in found for place, target in enumerate(targets)]
    patches += [(item.trigger, item.target) for item in suspected if isinstance(item.trigger, Patch)]
    usual = float(found[0].sizes[len(targets) :].median()) if others else 0.0
    limits = [max(1.2 * patch.size, min(_GROWTH * patch.size, usual / 2)) for patch, _ in patches]
    draws = torch.Generator().manual_seed(seed)
    if opacity := _faintest(classifier, images, others, seed):
        faint = torch.full_like(patches[0][0].mask, opacity)
        patches += [(Patch(faint, torch.rand(classifier.image_shape, generator=draws)), label) for label in targets]
        limits += [1.2 * float(faint.sum())] * len(targets)
    return [
        _Start(patch, limit, (target,) * classifier.classes)
        for (patch, target), limit in zip(patches, limits, strict=True)
    ]


def _innocent(classes: int, targets: Sequence[int], seed: int) -> list[int]:
    """Return a few classes that nobody suspects, drawn at random."""
    rest = [label for label in range(classes) if label not in set(targets)]
    return [int(label) for label in np.random.default_rng(seed).permutation(rest)[:_OTHERS]]


def _faintest(classifier: Classifier, images: Tensor, others: Sequence[int], seed: int) -> float | None:
    """Return the largest opacity at which one blended image does not send images to innocent classes; None: all do."""
    if not others:
        return _OPACITIES[0]
    for opacity in _OPACITIES:
        margins = universal_margins(classifier, images, others, Budget(opacity, steps=30), seed=seed)
        if float(margins.median()) < 0:
            return opacity
    return None
