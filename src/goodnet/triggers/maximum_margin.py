"""The largest margin that a class can reach over the image cube, from noise (no data) or from clean images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from goodnet.core.classifier import Classifier
from goodnet.core.method import Progress, RunParts, no_progress, run_here
from goodnet.inference.last_layer import class_weights
from goodnet.triggers.class_draws import draws_of

#: Images that are optimised at once, and in one part of the work.
_BATCH, _PART = 64, 256
_LEARNING_RATE = 0.1


def maximum_margins(
    classifier: Classifier,
    *,
    starts: int,
    readings: tuple[int, ...],
    seed: int,
    labels: Sequence[int] | None = None,
    images: Tensor | None = None,
    run_parts: RunParts = run_here,
    progress: Progress = no_progress,
) -> Tensor:
    """Return the logit margin over all other classes that images in [0, 1] have on their way up, (R, L).

    Args:
        classifier: the network; its weights stay as they are.
        starts: images per class; the margin is their mean.
        readings: before which of the Adam steps the margin is read, R numbers, ascending; 1 reads the start itself. A
            backdoor is the shortest way up: in one contest network the target leads early and no longer late, in
            another the other way round.
        seed: of the first images; a class gets the same ones whatever other classes are asked for.
        labels: the classes; None: all.
        images: clean images (n, C, H, W) in [0, 1], of any class, to begin with; None: noise. Noise looks like one of
            the classes already, which then leads in an honest network too.
        run_parts: where the work runs; classes that there was no time for get NaN.
        progress: called with the number of classes that are done.

    Cost: L * starts * last reading passes forward and backward.

    Source: H. Wang, Z. Xiang, D. Miller, G. Kesidis, "MM-BD: Post-training detection of backdoor attacks with
    arbitrary backdoor pattern types using a maximum margin statistic", IEEE S&P 2024, section IV. Differs: Adam on a
    sigmoid of the image instead of projected gradient steps; few starts and steps; the mean over the starts, not the
    largest; clean images as starts.
    """
    wanted = tuple(range(classifier.classes)) if labels is None else tuple(labels)
    size = max(1, _PART // starts)
    parts = [wanted[start : start + size] for start in range(0, len(wanted), size)]
    stage = f"margins_{len(wanted)}_{starts}_{readings[-1]}_{seed}_{'noise' if images is None else 'clean'}"
    found = run_parts(stage, climb_margins, (classifier, images, starts, readings, seed), parts, progress)
    empty = [torch.full((len(readings), len(part)), torch.nan) for part in parts]
    return torch.cat([blank if value is None else value[0] for blank, value in zip(empty, found, strict=True)], dim=1)


#: The step of plain gradient ascent, and the relative change of a class's loss at which it ends.
_PUBLISHED_STEP, _SETTLED = 1e-2, 1e-5


def published_margins(
    classifier: Classifier,
    *,
    starts: int,
    steps: int,
    seed: int,
    run_parts: RunParts = run_here,
    progress: Progress = no_progress,
) -> Tensor:
    """Return the largest margin of each class as MM-BD was published, (classes,): plain gradient steps on clamped pixels.

    The ascent of a class ends early when the sum of its margins has settled. Classes that there was no time for get NaN.

    Cost: at most classes * starts * steps passes forward and backward.

    Source: H. Wang et al., "MM-BD", IEEE S&P 2024, with the values of the authors' code (30 starts, 300 steps of 0.01).
    """
    parts = [(label,) for label in range(classifier.classes)]
    found = run_parts(
        f"published_margins_{starts}_{steps}_{seed}", _climb_plainly, (classifier, starts, steps, seed), parts, progress
    )
    return torch.stack([torch.tensor(torch.nan) if value is None else value[0] for value in found])


def _climb_plainly(
    classifier: Classifier, starts: int, steps: int, seed: int, labels: tuple[int, ...]
) -> tuple[Tensor]:
    """Return the largest margin that one class reaches, (); one part of `published_margins`."""
    (label,) = labels
    pixels = torch.rand(starts, *classifier.image_shape, generator=draws_of(seed, label))
    pixels = pixels.to(classifier.device).requires_grad_()
    rows = torch.full((starts,), label, device=pixels.device)
    before = None
    for _ in range(steps):
        margins = margins_of(classifier(pixels.clamp(0, 1)), rows)
        (gradient,) = torch.autograd.grad(margins.sum(), [pixels])
        with torch.no_grad():
            pixels += _PUBLISHED_STEP * gradient
        total = float(margins.detach().sum())
        if before is not None and abs(before - total) < _SETTLED * abs(before):
            break
        before = total
    return (margins.detach().max().cpu(),)


def climb_margins(
    classifier: Classifier,
    images: Tensor | None,
    starts: int,
    readings: tuple[int, ...],
    seed: int,
    labels: tuple[int, ...],
) -> tuple[Tensor]:
    """Return the margin of each class of `labels` at each reading, (R, L); one part of `maximum_margins`."""
    rows = torch.tensor(labels).repeat_interleave(starts)
    if images is None:
        first = torch.cat([_draw_noise(classifier, starts, seed, label) for label in labels])
    else:
        first = torch.cat(_choose_clean(classifier, images, starts, seed, labels))
    found = [
        _climb(classifier, free.to(classifier.device), part.to(classifier.device), readings)
        for free, part in zip(torch.split(first, _BATCH), torch.split(rows, _BATCH), strict=True)
    ]
    return (torch.cat(found, dim=1).view(len(readings), len(labels), starts).mean(dim=2).cpu(),)


def _draw_noise(classifier: Classifier, starts: int, seed: int, label: int) -> Tensor:
    """Return the logits of the pixels that a class begins with, between -2 and 2: beyond, a sigmoid hardly moves."""
    draws = draws_of(seed, label)
    return 4 * torch.rand(starts, *classifier.image_shape, generator=draws) - 2


def _choose_clean(
    classifier: Classifier, images: Tensor, starts: int, seed: int, labels: tuple[int, ...]
) -> list[Tensor]:
    """Return the logits of the pixels that each class begins with: one choice of images, without those of its own class."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    free = images[order].logit(eps=1e-6).clamp(-2, 2)
    with torch.inference_mode():
        predictions = classifier(images[order]).argmax(dim=1).cpu()
    found = []
    for label in labels:
        others = (predictions != label).nonzero()[:, 0]
        rows = others if len(others) else torch.arange(len(images))
        found.append(free[rows[torch.arange(starts) % len(rows)]])  # Where there are too few, some begin twice.
    return found


def _climb(classifier: Classifier, free: Tensor, labels: Tensor, readings: tuple[int, ...]) -> Tensor:
    """Return the margin of each row of `free` (B, C, H, W) before each of the steps to read, (R, B)."""
    free = free.to(memory_format=torch.channels_last).requires_grad_()
    optimizer = torch.optim.Adam([free], lr=_LEARNING_RATE)
    found = []
    for step in range(1, readings[-1] + 1):
        margins = margins_of(classifier(free.sigmoid()), labels)
        if step in readings:
            found.append(margins.detach())
        (free.grad,) = torch.autograd.grad(-margins.sum(), [free])
        optimizer.step()
    return torch.stack(found)


def margins_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Return by how much each row's own logit exceeds the largest other one, (B,)."""
    others = logits.scatter(1, labels[:, None], -torch.inf)
    own = logits.gather(1, labels[:, None])[:, 0]
    margins: Tensor = own - others.amax(dim=1)
    return margins


def normalised_margins(classifier: Classifier, margins: Tensor, labels: Sequence[int] | None = None) -> Tensor:
    """Return margins (L,) over the norm of each class's centred row of the last layer: how far features must go.

    `labels` are the classes that the margins belong to; None: all.
    """
    weights = class_weights(classifier)
    if weights is None:
        return margins
    norms = (weights - weights.mean(dim=0)).norm(dim=1).clamp_min(1e-12).to(margins.device)
    normalised: Tensor = margins / (norms if labels is None else norms[list(labels)])
    return normalised
