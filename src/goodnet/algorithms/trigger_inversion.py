"""Trigger inversion: for many classes at once, the smallest patch that sends clean images to the class.

A trigger is a mask m (1, H, W) and a pattern d (C, H, W), both sigmoids of free variables; a stamped image is (1 - m)
* x + m * d. For every class, Adam makes cross-entropy + cost * |m|_1 small; the cost of a class rises while its
trigger works and falls while it does not. All classes of a batch share the same few images, so one step is one
forward and backward pass over classes x images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from goodnet.core.backdoor import Patch
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import BATCH
from goodnet.core.method import Progress, no_progress

#: Classes whose triggers are optimised in one batch.
_CLASSES = 32
_UP, _DOWN = 1.3, 1.5
_COST, _LEAST_COST, _MOST_COST = 1e-3, 1e-5, 1.0
#: How fast the running success of a trigger forgets.
_MEMORY = 0.7


@dataclass(frozen=True)
class Schedule:
    """How long and with how many images triggers are optimised: `steps` of Adam on `images` each."""

    steps: int = 60
    images: int = 5
    learning_rate: float = 0.1
    success: float = 0.85


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


def invert_triggers(
    classifier: Classifier,
    images: Tensor,
    labels: Sequence[int],
    schedule: Schedule,
    *,
    seed: int,
    progress: Progress = no_progress,
) -> Inversions:
    """Return the smallest trigger found for each class of `labels`.

    Args:
        classifier: the network; its weights stay as they are.
        images: clean images (n, C, H, W) in [0, 1], of any class; drawn from at random in each step.
        labels: the classes.
        schedule: steps and images.
        seed: of the start values and the draws; a class gets the same trigger whatever other classes are asked for.
        progress: is told the classes done.

    Cost: len(labels) * steps * images passes forward and backward.

    Source: B. Wang et al., "Neural Cleanse: Identifying and mitigating backdoor attacks in neural networks", IEEE S&P
    2019, section V. Differs: all classes in batches, few images and steps, costs adapted at every step.
    """
    parts = []
    for chunk in _chunks(labels):
        parts.append(_invert_batch(classifier, images, chunk, schedule, seed))
        progress(sum(len(part.labels) for part in parts), len(labels))
    return Inversions(
        tuple(labels),
        *(torch.cat([getattr(part, name) for part in parts]) for name in ("masks", "patterns", "sizes", "worked")),
    )


def _chunks(labels: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for start in range(0, len(labels), _CLASSES):
        yield tuple(labels[start : start + _CLASSES])


def _start(classifier: Classifier, labels: Sequence[int], seed: int) -> tuple[Tensor, Tensor]:
    """Return the free variables of masks and patterns; each class draws its own."""
    channels, height, width = classifier.image_shape
    patterns = [
        torch.randn(channels, height, width, generator=torch.Generator().manual_seed(seed * 100_003 + label))
        for label in labels
    ]
    masks = torch.full((len(labels), 1, height, width), -1.0)
    return masks.requires_grad_(), (0.5 * torch.stack(patterns)).requires_grad_()


def _invert_batch(
    classifier: Classifier, images: Tensor, labels: tuple[int, ...], schedule: Schedule, seed: int
) -> Inversions:
    free_masks, free_patterns = _start(classifier, labels, seed)
    optimizer = torch.optim.Adam([free_masks, free_patterns], lr=schedule.learning_rate, betas=(0.5, 0.9))
    draws = torch.Generator().manual_seed(seed)
    targets = torch.tensor(labels)
    cost, running = torch.full((len(labels),), _COST), torch.zeros(len(labels))
    best = _Best.empty(free_masks, free_patterns)
    for _ in range(schedule.steps):
        drawn = images[torch.randperm(len(images), generator=draws)[: schedule.images]]
        masks, patterns = free_masks.sigmoid(), free_patterns.sigmoid()
        logits = _stamped_logits(classifier, drawn, masks, patterns)
        answers = F.cross_entropy(logits, targets.repeat_interleave(len(drawn)), reduction="none")
        sizes = masks.sum(dim=(1, 2, 3))
        loss = (answers.view(len(labels), -1).mean(dim=1) + cost * sizes).sum()
        free_masks.grad, free_patterns.grad = torch.autograd.grad(loss, [free_masks, free_patterns])
        success = (logits.argmax(dim=1).view(len(labels), -1) == targets[:, None]).float().mean(dim=1)
        running = _MEMORY * running + (1 - _MEMORY) * success
        works = success >= 0.99
        best.update(works & (running >= schedule.success), sizes.detach(), masks.detach(), patterns.detach())
        cost = torch.where(works, cost * _UP, cost / _DOWN).clamp(_LEAST_COST, _MOST_COST)
        optimizer.step()
    return Inversions(labels, best.masks, best.patterns, best.sizes, best.worked)


def _stamped_logits(classifier: Classifier, images: Tensor, masks: Tensor, patterns: Tensor) -> Tensor:
    """Return the logits of every image with every trigger, (triggers * images, N)."""
    stamped = torch.lerp(images[None], patterns[:, None], masks[:, None])
    return classifier(stamped.flatten(0, 1))


@dataclass
class _Best:
    """The smallest trigger so far that works, for each class."""

    masks: Tensor
    patterns: Tensor
    sizes: Tensor
    worked: Tensor

    @classmethod
    def empty(cls, free_masks: Tensor, free_patterns: Tensor) -> _Best:
        count, _, height, width = free_masks.shape
        whole = torch.full((count,), float(height * width))
        masks, patterns = free_masks.detach().sigmoid(), free_patterns.detach().sigmoid()
        return cls(masks, patterns, whole, torch.zeros(count, dtype=torch.bool))

    def update(self, works: Tensor, sizes: Tensor, masks: Tensor, patterns: Tensor) -> None:
        better = works & (sizes < self.sizes)
        self.sizes = torch.where(better, sizes, self.sizes)
        self.masks = torch.where(better[:, None, None, None], masks, self.masks)
        self.patterns = torch.where(better[:, None, None, None], patterns, self.patterns)
        self.worked |= better


def measure_success(classifier: Classifier, images: Tensor, patch: Patch, target: int) -> float:
    """Return the share of images that the network calls `target` once they carry the trigger."""
    hits = 0
    with torch.inference_mode():
        for part in torch.split(images, BATCH):
            hits += int((classifier(patch(part)).argmax(dim=1) == target).sum())
    return hits / len(images)
