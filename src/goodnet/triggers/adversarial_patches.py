"""Adversarial patches: for each class and each of several places, a square whose colours are optimised for the class.

All squares have the same size. So the classes can be compared at every place: where an attacker's trigger lies, its target is
reached in a few steps, whatever the trigger shows, and no other class is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from goodnet.core.backdoor import Patch
from goodnet.core.classifier import Classifier
from goodnet.core.method import Progress, RunParts, no_progress, run_here
from goodnet.triggers.class_draws import draw_others, draws_of
from goodnet.triggers.inversion import classes_of
from goodnet.triggers.maximum_margin import margins_of
from goodnet.triggers.patch_probe import USUAL_SIDE

#: Stamped images in one batch, where the network is fastest; classes in one part of the work.
_BATCH, _PART = 64, 4
#: Adam's step on the free variables of the colours: with 0.1 it takes four times as many steps.
_LEARNING_RATE = 0.4


@dataclass(frozen=True)
class SquareSchedule:
    """Squares of `side` pixels of an image of 32 x 32, at `grid` rows and columns: `steps` of Adam on `images` each.

    What is measured is the mean over the last third of the steps; each draws its images anew.
    """

    side: int = 6
    grid: int = 5
    images: int = 6
    steps: int = 12

    def lay(self, height: int, width: int) -> tuple[int, list[tuple[int, int]]]:
        """Return the side in pixels of images (height, width), and rows and columns of the upper left pixels."""
        smaller = min(height, width)
        side = min(max(1, round(self.side * smaller / USUAL_SIDE)), smaller)
        rows, columns = (_spread(size - side, self.grid) for size in (height, width))
        return side, list(product(rows, columns))


def _spread(last: int, count: int) -> list[int]:
    """Return `count` whole numbers from 0 to `last`, evenly spread; fewer where some would be equal."""
    return sorted({round(last * number / max(count - 1, 1)) for number in range(count)})


@dataclass(frozen=True)
class AdversarialPatches:
    """The squares of some classes at every place.

    `labels` (L,) the classes, `margins` (L, P) the mean margin of each class at each place, `colours` (L, P, C, side, side) in
    [0, 1], `places` (P) rows and columns of the upper left pixels.
    """

    labels: tuple[int, ...]
    margins: Tensor
    colours: Tensor
    places: tuple[tuple[int, int], ...]

    def patch(self, row: int, place: int, height: int, width: int) -> Patch:
        """Return the square of the class at `row` of `labels`, on images (height, width)."""
        colours, (top, left) = self.colours[row, place], self.places[place]
        side = colours.shape[-1]
        around = (left, width - side - left, top, height - side - top)
        return Patch(F.pad(torch.ones(1, side, side), around), F.pad(colours, around))


def optimise_squares(
    classifier: Classifier,
    images: Tensor,
    labels: Sequence[int],
    schedule: SquareSchedule,
    *,
    seed: int,
    run_parts: RunParts = run_here,
    progress: Progress = no_progress,
) -> AdversarialPatches:
    """Return the squares of the classes `labels` at every place; classes that there was no time for are left out.

    Args:
        classifier: the network; its weights stay as they are.
        images: clean images (n, C, H, W) in [0, 1], of any class; drawn from at random in each step. What the network
            calls a class already does not count for it.
        labels: the classes.
        schedule: the squares, and how long they are optimised.
        seed: of the start values and the draws; a class gets the same squares whatever other classes are asked for.
        run_parts: where the work runs.
        progress: called with the number of classes that are done.

    Cost: len(labels) * grid**2 * steps * images passes forward and backward, n forward.

    Source: T. Brown, D. Mane, A. Roy, M. Abadi, J. Gilmer, "Adversarial patch", 2017. Differs: a patch stays where it is, at
    each of several places, and is as small as a trigger; the classes are compared at each place.
    """
    parts = [tuple(labels[start : start + _PART]) for start in range(0, len(labels), _PART)]
    common = (classifier, images, classes_of(classifier, images), schedule, seed)
    stage = f"squares_{len(labels)}_{schedule.side}_{schedule.grid}_{schedule.images}_{schedule.steps}_{seed}"
    found = run_parts(stage, squares_part, common, parts, progress)
    done = [(part, values) for part, values in zip(parts, found, strict=True) if values is not None]
    side, places = schedule.lay(*classifier.image_shape[1:])
    if not done:
        nothing = torch.zeros(0, len(places), classifier.image_shape[0], side, side)
        return AdversarialPatches((), nothing[:, :, 0, 0, 0], nothing, tuple(places))
    margins, colours = (torch.cat(column) for column in zip(*(values for _, values in done), strict=True))
    return AdversarialPatches(tuple(label for part, _ in done for label in part), margins, colours, tuple(places))


def squares_part(
    classifier: Classifier,
    images: Tensor,
    predictions: Tensor,
    schedule: SquareSchedule,
    seed: int,
    labels: tuple[int, ...],
) -> tuple[Tensor, Tensor]:
    """Return margins (L, P) and colours (L, P, C, side, side) of the squares of `labels`; one part of `optimise_squares`."""
    (channels, height, width), count = classifier.image_shape, len(labels)
    side, places = schedule.lay(height, width)
    corners = torch.tensor([row * width + column for row, column in places])
    pixels = (corners[:, None] + (torch.arange(side)[:, None] * width + torch.arange(side)).flatten()).repeat(count, 1)
    shape = (len(places), channels, side * side)
    free = torch.cat([torch.randn(shape, generator=draws_of(seed, label)) for label in labels])
    owners = torch.tensor(labels).repeat_interleave(len(places))
    images = images.to(classifier.device)
    found = [
        _descend(classifier, images, predictions, _Squares(owners[rows], pixels[rows], free[rows]), schedule, seed)
        for rows in torch.split(torch.arange(len(owners)), max(1, _BATCH // schedule.images))
    ]
    margins, colours = (torch.cat(column) for column in zip(*found, strict=True))
    return margins.view(count, -1), colours.view(count, len(places), channels, side, side)


@dataclass(frozen=True)
class _Squares:
    """Squares of one batch: `labels` (n,) their classes, `pixels` (n, side * side) the positions of theirs in a flat image,
    `free` (n, C, side * side) the variables whose sigmoids are the colours."""

    labels: Tensor
    pixels: Tensor
    free: Tensor


def _descend(
    classifier: Classifier, images: Tensor, predictions: Tensor, squares: _Squares, schedule: SquareSchedule, seed: int
) -> tuple[Tensor, Tensor]:
    """Return the mean margins (n,) and the colours (n, C, side * side) that the squares of one batch reach, on the CPU."""
    device, count = classifier.device, len(squares.labels)
    free, pixels = squares.free.to(device).requires_grad_(), squares.pixels.to(device)
    optimizer = torch.optim.Adam([free], lr=_LEARNING_RATE, betas=(0.5, 0.9))
    draws, read, margins = torch.Generator().manual_seed(seed), max(1, schedule.steps // 3), torch.zeros(count)
    for step in range(schedule.steps):
        drawn = draw_others(predictions, squares.labels, schedule.images, draws).to(device)
        logits = classifier(_stamp(images[drawn], free.sigmoid(), pixels))
        aims = squares.labels.repeat_interleave(drawn.shape[1]).to(device)
        (free.grad,) = torch.autograd.grad(F.cross_entropy(logits, aims, reduction="sum"), [free])
        optimizer.step()
        if step >= schedule.steps - read:
            margins += margins_of(logits.detach(), aims).view(count, -1).mean(dim=1).cpu() / read
    return margins, free.detach().sigmoid().cpu()


def _stamp(images: Tensor, colours: Tensor, pixels: Tensor) -> Tensor:
    """Return images (n, i, C, H, W) with colours (n, C, side * side) laid on `pixels` (n, side * side), (n * i, C, H, W)."""
    shape = (*images.shape[:3], pixels.shape[-1])
    where, what = pixels[:, None, None].expand(shape), colours[:, None].expand(shape)
    return images.flatten(-2).scatter(-1, where, what).view(images.shape).flatten(0, 1)
