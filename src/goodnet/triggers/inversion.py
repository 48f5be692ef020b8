"""Trigger inversion: for many classes at once, the smallest patch that sends clean images to the class.

A trigger is a mask m (1, H, W) and a pattern d (C, H, W), both sigmoids of free variables; a stamped image is (1 - m)
* x + m * d. For every class, Adam makes cross-entropy + cost * |m|_1 small; the cost of a class rises while its
trigger works and falls while it does not. All classes of a batch share the same few images, so one step is one
forward and backward pass over classes x images.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from goodnet.core.backdoor import Patch
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import BATCH
from goodnet.core.method import Progress, RunParts, no_progress, run_here
from goodnet.triggers.class_draws import draw_from, draws_of

#: Stamped images in one batch, where the network is fastest; classes in one part of the work.
_BATCH, _PART = 64, 32
_UP, _DOWN = 1.3, 1.5
_COST, _LEAST_COST, _MOST_COST = 1e-3, 1e-5, 1.0
#: No patch is laid into the first triggers.
_NOWHERE: Mapping[int, Patch] = {}
#: How opaque a mask begins: the sigmoid of -1.
_OPACITY = 1 / (1 + math.e)
#: How fast the running success of a trigger forgets.
_MEMORY = 0.7


@dataclass(frozen=True)
class Schedule:
    """How long and with how many images triggers are optimised: `steps` of Adam on `images` each.

    A trigger counts where it works on `least` of a step's images and has worked on `success` of late. `opacity` is how opaque
    the mask begins where no patch is laid in.
    """

    steps: int = 60
    images: int = 5
    learning_rate: float = 0.1
    success: float = 0.85
    least: float = 0.99
    opacity: float = _OPACITY


@dataclass(frozen=True)
class Inversions:
    """The triggers of several classes.

    `labels` (L,); `masks` (L, 1, H, W), `patterns` (L, C, H, W) in [0, 1]; `sizes` (L,) the L1 norm of each mask,
    that of the whole image where no trigger worked; `worked` (L,) whether one did.
    """

    labels: tuple[int, ...]
    masks: Tensor
    patterns: Tensor
    sizes: Tensor
    worked: Tensor

    def patch(self, position: int) -> Patch:
        """Return the trigger of the class at `position` of `labels`."""
        return Patch(self.masks[position], self.patterns[position])

    def replaced_by(self, others: Inversions) -> Inversions:
        """Return these triggers, with those of `others` that worked in the places of their labels."""
        masks, patterns, sizes, worked = (item.clone() for item in (self.masks, self.patterns, self.sizes, self.worked))
        for place, label in enumerate(others.labels):
            if label in self.labels and bool(others.worked[place]):
                row = self.labels.index(label)
                masks[row], patterns[row] = others.masks[place], others.patterns[place]
                sizes[row], worked[row] = others.sizes[place], True
        return Inversions(self.labels, masks, patterns, sizes, worked)

    @classmethod
    def none(cls, classifier: Classifier) -> Inversions:
        """Return no trigger at all."""
        channels, height, width = classifier.image_shape
        masks, patterns = (torch.zeros(0, count, height, width) for count in (1, channels))
        return cls((), masks, patterns, torch.zeros(0), torch.zeros(0, dtype=torch.bool))


def invert_triggers(
    classifier: Classifier,
    images: Tensor,
    labels: Sequence[int],
    schedule: Schedule,
    *,
    seed: int,
    starts: Mapping[int, Patch] = _NOWHERE,
    run_parts: RunParts = run_here,
    progress: Progress = no_progress,
) -> Inversions:
    """Return the smallest trigger found for each class of `labels`.

    Args:
        classifier: the network; its weights stay as they are.
        images: clean images (n, C, H, W) in [0, 1], of any class; drawn from at random in each step. What the network
            calls a class already does not count for it.
        labels: the classes.
        schedule: steps and images.
        seed: of the start values and the draws; a class gets the same trigger whatever other classes are asked for.
        starts: patches that are laid into the first triggers of some classes: where every class has a small trigger by
            nature, gradients do not lead from noise to a planted one that is smaller.
        run_parts: where the work runs; classes that there was no time for are left out of the result.
        progress: called with the number of classes that are done.

    Cost: len(labels) * steps * images passes forward and backward, n forward.

    Source: B. Wang et al., "Neural Cleanse: Identifying and mitigating backdoor attacks in neural networks", IEEE S&P
    2019, section V. Differs: all classes in batches, few images and steps, costs adapted at every step.
    """
    maps = torch.tensor(labels, dtype=torch.int64)[:, None].expand(-1, classifier.classes)
    return invert_maps(
        classifier,
        images,
        dict(zip(labels, maps, strict=True)),
        schedule,
        stage="triggers",
        seed=seed,
        starts=starts,
        run_parts=run_parts,
        progress=progress,
    )


def invert_maps(
    classifier: Classifier,
    images: Tensor,
    maps: Mapping[int, Tensor],
    schedule: Schedule,
    *,
    stage: str = "maps",
    seed: int,
    starts: Mapping[int, Patch] = _NOWHERE,
    run_parts: RunParts = run_here,
    progress: Progress = no_progress,
) -> Inversions:
    """Return, for each map, the smallest trigger found that sends images as the map says.

    `maps`: a number of its own -> (classes,) the class that images of each class shall become; images of a class that stays
    what it is are not looked at. `stage`: what this work is called where it is remembered. The other arguments, and the cost,
    are those of `invert_triggers`; `labels` of the result are the numbers.
    """
    numbers = list(maps)
    parts = [tuple(numbers[start : start + _PART]) for start in range(0, len(numbers), _PART)]
    stage = f"{stage}_{len(numbers)}_{schedule.steps}_{schedule.images}_{schedule.success}_{seed}_{len(starts)}"
    common = (classifier, images, classes_of(classifier, images), dict(maps), schedule, seed, starts)
    found = run_parts(stage, invert_part, common, parts, progress)
    done = [(part, values) for part, values in zip(parts, found, strict=True) if values is not None]
    return join_inversions(classifier, done)


def invert_shifts(
    classifier: Classifier,
    images: Tensor,
    schedule: Schedule,
    *,
    seed: int,
    run_parts: RunParts = run_here,
    progress: Progress = no_progress,
) -> Inversions:
    """Return, for each k from 1 to classes - 1, the smallest trigger found that sends every class c to (c + k) % classes.

    The other arguments are those of `invert_triggers`; `labels` of the result are the k. An all-to-all backdoor is one
    such trigger, small; what it would take for the other k is what it takes in a clean network.

    Cost: (classes - 1) * steps * images passes forward and backward.

    Source: T. Gu et al., "BadNets", IEEE Access 2019 (the all-to-all attack, c to c + 1); the inversion is ours.
    """
    order = torch.arange(classifier.classes)
    maps = {step: (order + step) % classifier.classes for step in range(1, classifier.classes)}
    return invert_maps(
        classifier, images, maps, schedule, stage="shifts", seed=seed, run_parts=run_parts, progress=progress
    )


def invert_for_single_images(
    classifier: Classifier, images: Tensor, label: int, schedule: Schedule, *, seed: int
) -> Tensor:
    """Return the size of the smallest trigger found that sends one image to `label`, for each of images (n, C, H, W), (n,).

    A trigger for one image alone is smaller than one for all: how much smaller says how far the images are from the class.
    `images` of the schedule is not used.

    Cost: n * steps passes forward and backward.
    """
    aim = _OneEach(classes_of(classifier, images), torch.full((len(images), classifier.classes), label))
    numbers = tuple(range(len(images)))
    return descend(classifier, images, aim, numbers, replace(schedule, images=1), seed=seed, starts={})[2]


def classes_of(classifier: Classifier, images: Tensor) -> Tensor:
    """Return the class that the network gives each of the images (n, C, H, W), (n,) on the CPU."""
    with torch.inference_mode():
        return torch.cat([classifier(part).argmax(dim=1).cpu() for part in torch.split(images, BATCH)])


def join_inversions(classifier: Classifier, done: Sequence[tuple[tuple[int, ...], tuple[Tensor, ...]]]) -> Inversions:
    """Return masks, patterns and sizes of all parts of the work that were done, each with the labels of its triggers."""
    if not done:
        return Inversions.none(classifier)
    masks, patterns, sizes = (torch.cat(column) for column in zip(*(values for _, values in done), strict=True))
    labels = tuple(label for part, _ in done for label in part)
    return Inversions(labels, masks, patterns, sizes, sizes < masks[0].numel())


def invert_part(
    classifier: Classifier,
    images: Tensor,
    predictions: Tensor,
    maps: Mapping[int, Tensor],
    schedule: Schedule,
    seed: int,
    starts: Mapping[int, Patch],
    numbers: tuple[int, ...],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return masks, patterns and sizes for the maps with these `numbers`; `predictions` (n,) are the classes of the images."""
    size = max(1, _BATCH // schedule.images)
    found = []
    for start in range(0, len(numbers), size):
        batch = numbers[start : start + size]
        aim = MapAim(predictions, torch.stack([maps[number] for number in batch]))
        found.append(descend(classifier, images, aim, batch, schedule, seed=seed, starts=starts)[:3])
    masks, patterns, sizes = (torch.cat(column) for column in zip(*found, strict=True))
    return masks, patterns, sizes


def _start(
    classifier: Classifier, labels: Sequence[int], opacity: float, seed: int, starts: Mapping[int, Patch]
) -> tuple[Tensor, Tensor]:
    """Return the free variables of masks (L, H, W, 1) and patterns (L, H, W, C); each class draws its own."""
    channels, height, width = classifier.image_shape
    patterns = torch.stack(
        [0.5 * torch.randn(channels, height, width, generator=draws_of(seed, label)) for label in labels]
    )
    masks = torch.full((len(labels), 1, height, width), math.log(opacity / (1 - opacity)))
    for position, label in enumerate(labels):
        if label in starts:
            patch = starts[label]
            inside = patch.mask > _INSIDE
            masks[position] = masks[position].where(~inside, _LAID_IN)
            patterns[position] = patterns[position].where(~inside, patch.pattern.logit(eps=_EDGE))
    free = [item.permute(0, 2, 3, 1).contiguous().to(classifier.device).requires_grad_() for item in (masks, patterns)]
    return free[0], free[1]


#: A patch that is laid in: where its mask is at least this, how opaque it begins, and how far from 0 and 1 its colours stay,
#: where a sigmoid hardly moves.
_INSIDE, _LAID_IN, _EDGE = 0.5, 2.0, 0.05


@dataclass(frozen=True)
class Aim(ABC):
    """What the triggers of a batch shall do to images whose classes are `predictions` (n,)."""

    predictions: Tensor

    @property
    @abstractmethod
    def possible(self) -> Tensor:
        """Whether there are images for each trigger to move, (L,)."""

    @abstractmethod
    def draw(self, count: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the positions of some images for each trigger, `count` of them to be moved, and the classes they shall get."""

    def success(self, right: Tensor) -> Tensor:
        """Return the success of each trigger, (L,), by which of the images that were drawn got their class, (L, drawn)."""
        return right.float().mean(dim=1)


@dataclass(frozen=True)
class MapAim(Aim):
    """`maps` (L, K) are the classes that images shall get, by the class that they get now. None is asked to become what it is."""

    maps: Tensor

    @cached_property
    def moved(self) -> Tensor:
        """Which images each trigger is to move, (L, n)."""
        return self.maps[:, self.predictions] != self.predictions

    @property
    def possible(self) -> Tensor:
        """Whether there are images to move."""
        return self.moved.any(dim=1)

    def draw(self, count: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw images to move, and any where there are none."""
        drawn = draw_from(self.moved | ~self.possible[:, None], count, draws)
        return drawn, self.maps.gather(1, self.predictions[drawn])


@dataclass(frozen=True)
class _OneEach(MapAim):
    """As many triggers as images: each is for its own image alone."""

    @cached_property
    def moved(self) -> Tensor:
        """Which images each trigger is to move, (n, n): one at most."""
        return super().moved & torch.eye(len(self.predictions), dtype=torch.bool)


def descend(
    classifier: Classifier,
    images: Tensor,
    aim: Aim,
    numbers: Sequence[int],
    schedule: Schedule,
    *,
    seed: int,
    starts: Mapping[int, Patch],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return masks, patterns and sizes of the smallest triggers found for one batch, and their losses, on the CPU.

    The arguments are those of `invert_triggers`; a trigger starts from `starts`, else at random by its number. The size is
    that of the whole image where none worked. Losses (L,) are means over the second half of the steps.
    Everything is NHWC here: stamped images then lie in memory as the network reads them fastest.
    """
    free_masks, free_patterns = _start(classifier, numbers, schedule.opacity, seed, starts)
    optimizer = torch.optim.Adam([free_masks, free_patterns], lr=schedule.learning_rate, betas=(0.5, 0.9))
    draws = torch.Generator().manual_seed(seed)
    pixels = images.to(classifier.device).permute(0, 2, 3, 1).contiguous()
    costs = torch.full((len(numbers),), _COST, device=classifier.device)
    running, late, possible = torch.zeros_like(costs), torch.zeros_like(costs), aim.possible.to(classifier.device)
    best = _Best.empty(free_masks, free_patterns)
    for step in range(schedule.steps):
        drawn, targets = (item.to(classifier.device) for item in aim.draw(schedule.images, draws))
        masks, patterns = free_masks.sigmoid(), free_patterns.sigmoid()
        logits = _stamped_logits(classifier, pixels[drawn], masks, patterns)
        misses = F.cross_entropy(logits, targets.flatten(), reduction="none")
        sizes = masks.sum(dim=(1, 2, 3))
        losses = misses.view(len(numbers), -1).mean(dim=1) + costs * sizes
        free_masks.grad, free_patterns.grad = torch.autograd.grad(losses.sum(), [free_masks, free_patterns])
        late += losses.detach() * (step >= schedule.steps // 2)
        success = aim.success(logits.argmax(dim=1).view(len(numbers), -1) == targets)
        running = _MEMORY * running + (1 - _MEMORY) * success
        works = (success >= schedule.least) & possible
        best.update(works & (running >= schedule.success), sizes.detach(), masks.detach(), patterns.detach())
        costs = torch.where(works, costs * _UP, costs / _DOWN).clamp(_LEAST_COST, _MOST_COST)
        optimizer.step()
    found = best.masks.permute(0, 3, 1, 2), best.patterns.permute(0, 3, 1, 2), best.sizes
    masks, patterns, sizes, losses = (item.cpu() for item in (*found, late / (schedule.steps - schedule.steps // 2)))
    return masks, patterns, sizes, losses


def _stamped_logits(classifier: Classifier, images: Tensor, masks: Tensor, patterns: Tensor) -> Tensor:
    """Return logits (triggers * n, N) of images (triggers, n, H, W, C) stamped with their triggers."""
    stamped = torch.lerp(images, patterns[:, None], masks[:, None])
    return classifier(stamped.flatten(0, 1).permute(0, 3, 1, 2))


@dataclass
class _Best:
    """The smallest trigger so far that works, for each class; the whole image where none has worked."""

    masks: Tensor
    patterns: Tensor
    sizes: Tensor

    @classmethod
    def empty(cls, free_masks: Tensor, free_patterns: Tensor) -> _Best:
        count, height, width, _ = free_masks.shape
        whole = torch.full((count,), float(height * width), device=free_masks.device)
        return cls(free_masks.detach().sigmoid(), free_patterns.detach().sigmoid(), whole)

    def update(self, works: Tensor, sizes: Tensor, masks: Tensor, patterns: Tensor) -> None:
        better = works & (sizes < self.sizes)
        if bool(better.any()):
            self.sizes = torch.where(better, sizes, self.sizes)
            self.masks[better] = masks[better]
            self.patterns[better] = patterns[better]
