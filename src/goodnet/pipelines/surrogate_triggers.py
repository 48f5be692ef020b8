"""What a guard would do to an attack, from triggers that a scan recovered: nobody has the true one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from goodnet.core.backdoor import Backdoor, Patch, Trigger
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import ArraySource, Dataset
from goodnet.core.method import FittedGuard
from goodnet.core.results import Rate, Record
from goodnet.guards.calibration import score_all
from goodnet.inference.predictions import predict_classes

#: Clean images that are stamped.
_IMAGES = 200


class SurrogateRate(Record):
    """One surrogate of the attack on one target.

    `success` is the share of clean images of other classes that it sends to the target, `refused` the share of those
    that a guard refuses; None where it sends none there.
    """

    target: int
    surrogate: str
    success: Rate
    refused: Rate | None


def vary_trigger(trigger: Trigger) -> Mapping[str, Trigger]:
    """Return the trigger and variants of it by name: moved by a quarter of the image, in inverse and in random colours.

    A trigger that is no patch has no variants.
    """
    if not isinstance(trigger, Patch):
        return {"as recovered": trigger}
    mask, pattern = trigger.mask, trigger.pattern
    shift = (mask.shape[1] // 4, mask.shape[2] // 4)
    colours = torch.rand(pattern.shape, generator=torch.Generator().manual_seed(0))
    return {
        "as recovered": trigger,
        "moved": Patch(mask.roll(shift, (1, 2)), pattern.roll(shift, (1, 2))),
        "inverse colours": Patch(mask, 1 - pattern),
        "random colours": Patch(mask, colours),
    }


@dataclass(frozen=True)
class Stamped:
    """Clean images of other classes with a surrogate on them, (n, C, H, W), and which of them reach the target, (n,)."""

    target: int
    surrogate: str
    images: Tensor
    successful: Tensor


def stamp_surrogates(
    classifier: Classifier, clean: Dataset, suspected: Sequence[Backdoor], *, seed: int
) -> list[Stamped]:
    """Return clean images with each surrogate of each suspected backdoor that has a trigger.

    Cost: one pass, and one for each surrogate, over up to 200 images.
    """
    sample = clean.sample(_IMAGES, seed=seed)
    images, classes = sample.images(), predict_classes(classifier, sample)
    stamped = []
    for backdoor in suspected:
        attacked = classes != backdoor.target
        if backdoor.sources is not None:
            attacked &= np.isin(classes, backdoor.sources)
        others = images[torch.from_numpy(attacked)]
        if backdoor.trigger is None or not len(others):
            continue
        for name, trigger in vary_trigger(backdoor.trigger).items():
            with torch.inference_mode():
                altered = trigger(others)
            predictions = predict_classes(classifier, _dataset(altered))
            stamped.append(Stamped(backdoor.target, name, altered, torch.from_numpy(predictions == backdoor.target)))
    return stamped


def measure_surrogates(guard: FittedGuard, stamped: Sequence[Stamped]) -> tuple[SurrogateRate, ...]:
    """Return how many of the successful surrogates a guard refuses. Cost: one pass of the guard over them."""
    return tuple(_measure(guard, item) for item in stamped)


def _measure(guard: FittedGuard, item: Stamped) -> SurrogateRate:
    hits = int(item.successful.sum())
    success, refused = Rate.of(hits, len(item.successful)), None
    if hits:
        scores = score_all(guard, _dataset(item.images[item.successful]))
        refused = Rate.of(int((scores > guard.threshold).sum()), hits)
    return SurrogateRate(target=item.target, surrogate=item.surrogate, success=success, refused=refused)


def _dataset(images: Tensor) -> Dataset:
    return Dataset(ArraySource(np.ascontiguousarray(images.cpu().numpy())), None, "stamped")
