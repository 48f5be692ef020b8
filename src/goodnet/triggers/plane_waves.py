"""Plane waves: the faint stripes that send clean images to a class, as the trigger of a sinusoidal backdoor does.

A wave is a * sin(2 pi (u i / H + v j / W) + phase) at row i, column j: u waves down the image and v across it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from goodnet.core.classifier import Classifier
from goodnet.core.dataset import BATCH

#: Most waves down or across the image, phases of each, images of the first look, waves that get a second one.
_MOST, _PHASES, _FEW, _BEST = 10, 4, 8, 8


def draw_waves(waves: Tensor, amplitude: float, height: int, width: int) -> Tensor:
    """Return (B, 1, H, W), what waves (B, 3) of (u, v, phase) add to an image."""
    rows = torch.arange(height, device=waves.device) / height
    columns = torch.arange(width, device=waves.device) / width
    down, across, phase = (column[:, None, None, None] for column in waves.unbind(dim=1))
    return amplitude * torch.sin(2 * math.pi * (down * rows[:, None] + across * columns) + phase)


def find_waves(
    classifier: Classifier, images: Tensor, labels: Sequence[int], amplitude: float
) -> tuple[Tensor, Tensor]:
    """Return for each class the wave that sends most images there, (L, 3), and their share, (L,).

    Every wave of up to 10 periods in four phases is tried on 8 images, the best 8 for each class on all.

    Args:
        classifier: the network; its weights stay as they are.
        images: clean images (n, C, H, W) in [0, 1]; those that the network calls a class do not count for it.
        labels: the classes; all share the first look.
        amplitude: of the waves, in units of the range.

    Cost: 880 * 8 passes forward, and L * 8 * n.

    Source: D. Yin et al., "A Fourier perspective on model robustness in computer vision", NeurIPS 2019 (one basis
    vector of the Fourier transform at a time); the family of triggers is that of M. Barni et al., "A new backdoor attack
    in CNNs by training set corruption without label poisoning", ICIP 2019.
    """
    images, waves = images.to(classifier.device), _all_waves(*images.shape[2:]).to(classifier.device)
    few = images[torch.linspace(0, len(images) - 1, min(_FEW, len(images))).long()]
    first = _shares(classifier, few, waves, amplitude)
    best, shares = [], []
    for label in labels:
        chosen = waves[first[:, label].topk(min(_BEST, len(waves))).indices]
        second = _shares(classifier, images, chosen, amplitude)[:, label]
        best.append(chosen[int(second.argmax())])
        shares.append(second.max())
    return torch.stack(best), torch.stack(shares)


def _all_waves(height: int, width: int) -> Tensor:
    """Return the waves that pixels can show, (W, 3): two frequencies and the phase; one of two opposite directions."""
    down, across = min(_MOST, (height - 1) // 2), min(_MOST, (width - 1) // 2)
    frequencies = [(u, v) for u in range(down + 1) for v in range(-across, across + 1) if u > 0 or v > 0]
    phases = [2 * math.pi * turn / _PHASES for turn in range(_PHASES)]
    # Images of one or two pixels show none: the constant, which changes the brightness alone, stands for it.
    waves = [(float(u), float(v), phase) for u, v in frequencies or [(0, 0)] for phase in phases]
    return torch.tensor(waves)


def _shares(classifier: Classifier, images: Tensor, waves: Tensor, amplitude: float) -> Tensor:
    """Return (W, N), the share of images (n, C, H, W) that each wave moves to each class, of those that were not there."""
    with torch.inference_mode():
        predictions = classifier(images).argmax(dim=1)
        calls = []
        for part in torch.split(waves, max(1, BATCH // len(images))):
            added = draw_waves(part, amplitude, *images.shape[2:])
            waved = (images[None] + added[:, None]).clamp(0, 1)
            calls.append(classifier(waved.flatten(0, 1)).argmax(dim=1).view(len(part), len(images)))
    moved = torch.zeros(len(waves), classifier.classes, device=images.device)
    elsewhere = torch.ones(len(images), classifier.classes, device=images.device)
    elsewhere.scatter_(1, predictions[:, None], 0.0)
    for call, away in zip(torch.cat(calls).T, elsewhere, strict=True):
        moved += F.one_hot(call, classifier.classes) * away
    return moved / elsewhere.sum(dim=0).clamp_min(1)
