"""The largest margin that a class can reach over the image cube, without any data."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from goodnet.core.classifier import Classifier
from goodnet.core.method import Progress, no_progress

#: Images that are optimised at once.
_BATCH = 64
_LEARNING_RATE = 0.1


def class_weights(classifier: Classifier) -> Tensor | None:
    """Return the weights of the last linear layer, (classes, features), or None where the network ends otherwise."""
    for layer in reversed(classifier.layers()):
        if isinstance(layer.module, nn.Linear) and layer.module.out_features == classifier.classes:
            return layer.weight
    return None


def maximum_margins(
    classifier: Classifier, *, starts: int, steps: int, seed: int, progress: Progress = no_progress
) -> Tensor:
    """Return for each class the largest logit margin over all other classes that an image in [0, 1] reached, (classes,).

    Args:
        classifier: the network; its weights stay as they are.
        starts: random images per class.
        steps: Adam steps for each.
        seed: of the random images.
        progress: is told the classes done.

    Cost: classes * starts * steps passes forward and backward; no data.

    Source: H. Wang, Z. Xiang, D. Miller, G. Kesidis, "MM-BD: Post-training detection of backdoor attacks with
    arbitrary backdoor pattern types using a maximum margin statistic", IEEE S&P 2024, section IV. Differs: Adam on a
    sigmoid of the image instead of projected gradient steps; far fewer starts and steps.
    """
    labels = torch.arange(classifier.classes).repeat_interleave(starts)
    found = []
    draws = torch.Generator().manual_seed(seed)
    for part in torch.split(labels, _BATCH):
        free = 4 * torch.rand(len(part), *classifier.image_shape, generator=draws) - 2
        found.append(_climb(classifier, free.requires_grad_(), part, steps))
        progress(min(sum(map(len, found)) // starts, classifier.classes), classifier.classes)
    return torch.cat(found).view(classifier.classes, starts).amax(dim=1)


def _climb(classifier: Classifier, free: Tensor, labels: Tensor, steps: int) -> Tensor:
    """Return the largest margin of each row of `free` on its way up."""
    optimizer = torch.optim.Adam([free], lr=_LEARNING_RATE)
    best = torch.full((len(labels),), -torch.inf)
    for _ in range(steps):
        margins = margins_of(classifier(free.sigmoid()), labels)
        best = torch.maximum(best, margins.detach())
        (free.grad,) = torch.autograd.grad(-margins.sum(), [free])
        optimizer.step()
    return best


def margins_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Return by how much each row's own logit exceeds the largest other one, (B,)."""
    others = logits.scatter(1, labels[:, None], -torch.inf)
    own = logits.gather(1, labels[:, None])[:, 0]
    margins: Tensor = own - others.amax(dim=1)
    return margins


def normalised_margins(classifier: Classifier, margins: Tensor) -> Tensor:
    """Return margins over the norm of each class's centred row of the last layer: how far features must go, (classes,)."""
    weights = class_weights(classifier)
    if weights is None:
        return margins
    normalised: Tensor = margins / (weights - weights.mean(dim=0)).norm(dim=1).clamp_min(1e-12)
    return normalised
