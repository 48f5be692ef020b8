"""Random numbers of each class: the same whichever classes are looked at, and however they are split among workers."""

from __future__ import annotations

import torch

#: Keeps the seeds of the classes of neighbouring runs apart.
_APART = 100_003


def draws_of(seed: int, label: int) -> torch.Generator:
    """Return the random numbers of one class in the run with this seed."""
    return torch.Generator().manual_seed(seed * _APART + label)
