"""Random numbers and images of each class: the same whichever classes are looked at, and however workers share them."""

from __future__ import annotations

import torch
from torch import Tensor

#: Keeps the seeds of the classes of neighbouring runs apart.
_APART = 100_003


def draws_of(seed: int, label: int) -> torch.Generator:
    """Return the random numbers of one class in the run with this seed."""
    return torch.Generator().manual_seed(seed * _APART + label)


def draw_others(predictions: Tensor, labels: Tensor, count: int, draws: torch.Generator) -> Tensor:
    """Return for each class `count` images drawn from those of other classes, as positions (labels, count).

    An image that belongs to a class already does not tell what it takes to reach it. Where the others are fewer, some come
    twice; where there are none, any image does.

    Args:
        predictions: the class of each image, (n,).
        labels: the classes, (L,).
        count: at most n images are drawn.
        draws: one order of all images is drawn; each class takes its own from it.
    """
    others = predictions.cpu()[None] != labels.cpu()[:, None]
    others[~others.any(dim=1)] = True
    return draw_from(others, count, draws)


def draw_from(allowed: Tensor, count: int, draws: torch.Generator) -> Tensor:
    """Return `count` of the images (n,) that `allowed` (L, n) leaves each of L aims, as positions (L, at most count).

    Where they are fewer, some come twice. At least one image is allowed to each aim.
    """
    order = torch.randperm(allowed.shape[1], generator=draws)
    count = min(count, len(order))
    allowed = allowed.cpu()[:, order]
    first = torch.argsort((~allowed).int(), dim=1, stable=True)
    places = torch.arange(count)[None] % allowed.sum(dim=1, keepdim=True)
    return order[first.gather(1, places)]
