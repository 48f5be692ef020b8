"""Smooth warps: the field of small shifts that sends clean images to a class, as the trigger of a warping backdoor does.

A field is a coarse k x k grid of shifts (2, k, k), (x, y) in pixels, spread over the image by bicubic interpolation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from goodnet.core.classifier import Classifier
from goodnet.triggers.class_draws import draws_of

#: Points of the coarse grid along each axis; the start values' standard deviation in pixels.
_GRID, _START = 5, 0.3
_STEPS, _IMAGES, _LEARNING_RATE = 30, 8, 0.1
#: Warped images in one batch.
_BATCH = 64


def identity_grid(height: int, width: int) -> Tensor:
    """Return the grid (H, W, 2) of (x, y) that reads every pixel where it is."""
    rows, columns = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)


def unit_per_pixel(height: int, width: int) -> Tensor:
    """Return what one pixel is along (x, y) in units in which the image spans -1 to 1."""
    return torch.tensor([2 / max(width - 1, 1), 2 / max(height - 1, 1)])


def read_at(images: Tensor, grid: Tensor) -> Tensor:
    """Return images (B, C, H, W) read bilinearly at a grid (B, H, W, 2) as `identity_grid` gives; outside, at the border."""
    return F.grid_sample(images, grid.clamp(-1, 1), mode="bilinear", padding_mode="border", align_corners=True)


def spread(fields: Tensor, size: float, height: int, width: int) -> Tensor:
    """Return the shift of every pixel, (B, 2, H, W), for coarse fields (B, 2, k, k): of mean size `size` pixels at most."""
    fine = F.interpolate(fields, (height, width), mode="bicubic", align_corners=True)
    mean = fine.abs().mean(dim=(1, 2, 3), keepdim=True)
    return fine * (size / mean.clamp_min(1e-6)).clamp(max=1)


def warp(images: Tensor, shifts: Tensor) -> Tensor:
    """Return images (B, C, H, W), each warped by its own shifts (B, 2, H, W) in pixels."""
    height, width = images.shape[2:]
    unit = unit_per_pixel(height, width).to(images.device)
    return read_at(images, identity_grid(height, width).to(images.device) + shifts.permute(0, 2, 3, 1) * unit)


def invert_warps(
    classifier: Classifier, images: Tensor, labels: Sequence[int], size: float, *, seed: int
) -> tuple[Tensor, Tensor]:
    """Return for each class the field that best sends images there, (L, 2, k, k), and their share, (L,).

    Args:
        classifier: the network; its weights stay as they are.
        images: clean images (n, C, H, W) in [0, 1], of any class; drawn from at random in each step. Those that the
            network calls a class do not count for it.
        labels: the classes.
        size: mean shift along each axis, in pixels, that a warp may have.
        seed: of the start values and the draws; a class gets the same ones whatever other classes are asked for.

    Cost: L * 30 * 8 passes forward and backward, and (L + 1) * n forward.

    Source: the family of triggers is that of T. A. Nguyen, A. T. Tran, "WaNet", ICLR 2021; inverting triggers in the
    space where they live, Z. Wang et al., "UNICORN: a unified backdoor trigger inversion framework", ICLR 2023.
    Differs from the latter: the coarse field itself is optimised, at a fixed size, not a network that transforms images.
    """
    size_of_batch = _BATCH // _IMAGES
    batches = [labels[start : start + size_of_batch] for start in range(0, len(labels), size_of_batch)]
    pixels = images.to(classifier.device)
    fields = torch.cat([_invert_batch(classifier, pixels, batch, size, seed) for batch in batches])
    return fields, _shares(classifier, pixels, fields, torch.tensor(labels, device=fields.device), size)


def _invert_batch(classifier: Classifier, images: Tensor, labels: Sequence[int], size: float, seed: int) -> Tensor:
    """Return the fields of some classes, (L, 2, k, k)."""
    draws, starts = torch.Generator().manual_seed(seed), torch.stack([_draw_field(seed, label) for label in labels])
    fields = starts.to(classifier.device).requires_grad_()
    optimizer = torch.optim.Adam([fields], lr=_LEARNING_RATE)
    wanted = torch.tensor(labels, device=classifier.device)
    for _ in range(_STEPS):
        drawn = images[torch.randperm(len(images), generator=draws)[:_IMAGES]]
        shifts = spread(fields, size, *images.shape[2:]).repeat_interleave(len(drawn), dim=0)
        logits = classifier(warp(drawn.repeat(len(labels), 1, 1, 1), shifts))
        loss = F.cross_entropy(logits, wanted.repeat_interleave(len(drawn)), reduction="sum")
        (fields.grad,) = torch.autograd.grad(loss, [fields])
        optimizer.step()
    return fields.detach()


def _draw_field(seed: int, label: int) -> Tensor:
    draws = draws_of(seed, label)
    return _START * torch.randn(2, _GRID, _GRID, generator=draws)


def _shares(classifier: Classifier, images: Tensor, fields: Tensor, labels: Tensor, size: float) -> Tensor:
    """Return the share of images (n, C, H, W) that each field (L, 2, k, k) moves to its class (L,), of those elsewhere."""
    shifts, found = spread(fields, size, *images.shape[2:]), []
    with torch.inference_mode():
        predictions = classifier(images).argmax(dim=1)
        for shift, label in zip(shifts, labels, strict=True):
            moved = classifier(warp(images, shift.expand(len(images), -1, -1, -1))).argmax(dim=1) == label
            elsewhere = predictions != label
            found.append((moved & elsewhere).sum() / elsewhere.sum().clamp_min(1))
    return torch.stack(found)
