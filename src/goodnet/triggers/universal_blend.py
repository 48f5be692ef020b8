"""How far one faint image, blended into clean images, can push them towards a class: the margin at a fixed budget.

Trigger inversion asks how small a trigger can be; a large trigger (sunglasses, stripes over the whole image) is not
small, so its class does not stand out there. This asks how much a class gains from a fixed, faint change of all pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from goodnet.core.classifier import Classifier
from goodnet.core.method import Progress, RunParts, no_progress, run_here
from goodnet.triggers.class_draws import draw_others, draws_of
from goodnet.triggers.inversion import classes_of
from goodnet.triggers.maximum_margin import margins_of

#: Blended images in one batch, classes in one part of the work.
_BATCH, _PART = 64, 64
_LEARNING_RATE = 0.2
#: The margin is the mean over so many of the last steps: each is measured on a few images of its own.
_READ = 6


@dataclass(frozen=True)
class Budget:
    """`opacity` of the blended image in (0, 1); `steps` of Adam on `images` clean images each; read in the last 6."""

    opacity: float = 0.15
    steps: int = 16
    images: int = 8


def universal_margins(
    classifier: Classifier,
    images: Tensor,
    labels: Sequence[int],
    budget: Budget,
    *,
    seed: int,
    run_parts: RunParts = run_here,
    progress: Progress = no_progress,
) -> Tensor:
    """Return for each class the mean margin that one blended image reaches on clean images, (L,); NaN: no time.

    Args:
        classifier: the network; its weights stay as they are.
        images: clean images (n, C, H, W) in [0, 1], of any class; drawn from at random in each step. What the network
            calls a class already does not count for it.
        labels: the classes.
        budget: how faint the image is, and how long it is optimised.
        seed: of the start values and the draws; a class gets the same ones whatever other classes are asked for.
        run_parts: where the work runs.
        progress: called with the number of classes that are done.

    Cost: L * steps * images passes forward and backward.

    Source: after S.-M. Moosavi-Dezfooli, A. Fawzi, O. Fawzi, P. Frossard, "Universal adversarial perturbations", CVPR
    2017. Differs: targeted, a blend instead of a bounded sum, few steps: a backdoor is reached in the first of them.
    """
    parts = [tuple(labels[start : start + _PART]) for start in range(0, len(labels), _PART)]
    stage = f"blends_{len(labels)}_{budget.opacity}_{budget.steps}_{budget.images}_{seed}"
    common = (classifier, images, classes_of(classifier, images), budget, seed)
    found = run_parts(stage, blend_part, common, parts, progress)
    pairs = zip(parts, found, strict=True)
    return torch.cat([torch.full((len(part),), torch.nan) if value is None else value[0] for part, value in pairs])


def blend_part(
    classifier: Classifier, images: Tensor, predictions: Tensor, budget: Budget, seed: int, labels: tuple[int, ...]
) -> tuple[Tensor]:
    """Return the margin of each class of `labels`, (L,); one part of `universal_margins`."""
    size = max(1, _BATCH // budget.images)
    batches = [labels[start : start + size] for start in range(0, len(labels), size)]
    return (torch.cat([_blend_batch(classifier, images, predictions, batch, budget, seed) for batch in batches]).cpu(),)


def _blend_batch(
    classifier: Classifier, images: Tensor, predictions: Tensor, labels: tuple[int, ...], budget: Budget, seed: int
) -> Tensor:
    """Optimise one blended image (H, W, C) per class; NHWC, as in trigger inversion."""
    pixels = images.to(classifier.device).permute(0, 2, 3, 1).contiguous()
    free = torch.stack([_draw(classifier, seed, label) for label in labels]).to(classifier.device).requires_grad_()
    optimizer = torch.optim.Adam([free], lr=_LEARNING_RATE)
    draws = torch.Generator().manual_seed(seed)
    margins = torch.zeros(len(labels), device=classifier.device)
    read, wanted = min(_READ, budget.steps), torch.tensor(labels, device=classifier.device)
    for step in range(budget.steps):
        drawn = pixels[draw_others(predictions, wanted, budget.images, draws)]
        blended = torch.lerp(drawn, free.sigmoid()[:, None], budget.opacity)
        logits = classifier(blended.flatten(0, 1).permute(0, 3, 1, 2))
        targets = wanted.repeat_interleave(drawn.shape[1])
        if step >= budget.steps - read:
            margins += margins_of(logits.detach(), targets).view(len(labels), -1).mean(dim=1) / read
        (free.grad,) = torch.autograd.grad(F.cross_entropy(logits, targets, reduction="sum"), [free])
        optimizer.step()
    return margins


def _draw(classifier: Classifier, seed: int, label: int) -> Tensor:
    draws = draws_of(seed, label)
    return 0.5 * torch.randn(classifier.image_shape, generator=draws).permute(1, 2, 0).contiguous()
