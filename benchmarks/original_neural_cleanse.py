"""Neural Cleanse as its authors scheduled it, one label at a time, written plainly: what `scan.py` compares with.

B. Wang et al., "Neural Cleanse", IEEE S&P 2019, with the defaults of the authors' published code: at most 1,000 steps, each
over 1,000 clean images in batches of 32; Adam 0.1 with betas (0.5, 0.9); mask and pattern through tanh; the weight of
the mask's norm starts at 0, is set to 1e-3 after 5 steps of success, doubles after 5 steps at 0.99 or more, and falls
by 2 ** 1.5 after 5 below; a label ends early when its best norm has not improved for 25 steps and the weight has
moved both ways.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from goodnet.core.classifier import Classifier

STEPS, IMAGES, BATCH = 1_000, 1_000, 32
SUCCESS, PATIENCE, STOP_PATIENCE = 0.99, 5, 25
FIRST_COST, UP, DOWN = 1e-3, 2.0, 2.0**1.5
_EPSILON = 1e-7


@dataclass
class Cost:
    """The weight of the mask's norm, and what moves it."""

    value: float = 0.0
    successes: int = 0
    above: int = 0
    below: int = 0
    went_up: bool = False
    went_down: bool = False

    def update(self, works: bool) -> None:
        """Take note of a step and move the weight where `PATIENCE` steps in a row agree."""
        if self.value == 0.0:
            self.successes = self.successes + 1 if works else 0
            if self.successes >= PATIENCE:
                self.value, self.above, self.below = FIRST_COST, 0, 0
                self.went_up = self.went_down = False
            return
        self.above, self.below = (self.above + 1, 0) if works else (0, self.below + 1)
        if self.above >= PATIENCE:
            self.value, self.above, self.went_up = self.value * UP, 0, True
        elif self.below >= PATIENCE:
            self.value, self.below, self.went_down = self.value / DOWN, 0, True


@dataclass(frozen=True)
class Inverted:
    """What one label took: `norm` of its best mask (None: no mask worked), and why it ended."""

    label: int
    steps: int
    seconds: float
    norm: float | None
    ended: str


def invert_label(classifier: Classifier, images: Tensor, label: int, *, seconds: float, seed: int = 0) -> Inverted:
    """Invert one label on clean images (N, C, H, W), repeated up to 1,000; stop after `seconds` at the latest."""
    start, draws = time.perf_counter(), torch.Generator().manual_seed(seed)
    free = [
        torch.atanh((torch.rand(shape, generator=draws) - 0.5) * (2 - _EPSILON)).requires_grad_()
        for shape in ((1, 1, *classifier.image_shape[1:]), (1, *classifier.image_shape))
    ]
    optimizer, cost = torch.optim.Adam(free, lr=0.1, betas=(0.5, 0.9)), Cost()
    best, stalled, steps, ended = float("inf"), 0, 0, ""
    while not ended:
        success, norm = run_step(classifier, images, label, free, optimizer, cost.value, draws)
        improved = success >= SUCCESS and norm < best
        best = norm if improved else best
        stalled = 0 if improved or best == float("inf") else stalled + 1
        steps += 1
        if stalled >= STOP_PATIENCE and cost.went_up and cost.went_down:
            ended = "early stop"
        elif steps == STEPS:
            ended = "all steps done"
        elif time.perf_counter() - start > seconds:
            ended = "cap"
        cost.update(success >= SUCCESS)
    seconds_taken = time.perf_counter() - start
    return Inverted(label, steps, seconds_taken, None if best == float("inf") else best, ended)


def run_step(
    classifier: Classifier,
    images: Tensor,
    label: int,
    free: list[Tensor],
    optimizer: torch.optim.Optimizer,
    cost: float,
    draws: torch.Generator,
) -> tuple[float, float]:
    """Run the batches of one step; return the mean success over them and the mean norm of the mask."""
    order = torch.cat([torch.randperm(len(images), generator=draws) for _ in range(-(-IMAGES // len(images)))])
    hits, norms, batches = 0, 0.0, IMAGES // BATCH
    for position in range(batches):
        drawn = images[order[position * BATCH : (position + 1) * BATCH]]
        mask, pattern = (tensor.tanh() / (2 - _EPSILON) + 0.5 for tensor in free)
        logits = classifier((1 - mask) * drawn + mask * pattern)
        norm = mask.abs().sum()
        loss = F.cross_entropy(logits, torch.full((len(drawn),), label)) + cost * norm
        for tensor, gradient in zip(free, torch.autograd.grad(loss, free), strict=True):
            tensor.grad = gradient
        optimizer.step()
        hits, norms = hits + int((logits.argmax(dim=1) == label).sum()), norms + float(norm.detach())
    return hits / (batches * BATCH), norms / batches
