"""Random numbers and images of each class: the same whichever classes are looked at, and however workers share them."""

from __future__ import annotations

import torch
from torch import Tensor

#: Keeps the seeds of the classes of neighbouring runs apart.
_APART = 100_003


def draws_of(seed: int, label: int) -> torch.Generator:
    """Return the random numbers of one class in the run with this seed."""
    return torch.Generator().manual_seed(seed * _APART + label)


def draw_others(answers: Tensor, labels: Tensor, count: int, draws: torch.Generator) -> Tensor:
    """Return for each class `count` images drawn from those of other classes, as positions (labels, count).

    An image that belongs to a class already does not tell what it takes to reach it. Where the others are fewer, some come
    twice; where there are none, any image does.

    Args:
        answers: the class of each image, (n,).
        labels: the classes, (L,).
        count: at most n images are drawn.
        draws: one order of all images is drawn; each class takes its own from it.
    """
    order = torch.randperm(len(answers), generator=draws)
    count = min(count, len(order))
    others = answers.cpu()[order][None] != labels.cpu()[:, None]
    others[~others.any(dim=1)] = True
    first = torch.argsort((~others).int(), dim=1, stable=True)
    places = torch.arange(count)[None] % others.sum(dim=1, keepdim=True)
    return order[first.gather(1, places)]
