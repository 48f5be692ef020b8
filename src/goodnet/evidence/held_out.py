"""What recovered triggers do to images that they were not made on: a suspicion must stand this test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from goodnet.core.backdoor import Backdoor, Patch, group_by_patch
from goodnet.core.classifier import Classifier
from goodnet.core.results import Rate
from goodnet.triggers.inversion import classes_of

#: A trigger moves at least this share of the images that it was not made on; chance is allowed for.
_LEAST = 0.5


def hold_out(images: Tensor, least: int) -> tuple[Tensor, Tensor]:
    """Return the images (n, C, H, W) that triggers are made on, and the third of them that they are tried on.

    If two thirds are fewer than `least` (what one step needs), the first part is enlarged to `least`, but not beyond all
    images but two.
    """
    cut = max(1, len(images) * 2 // 3, min(least, len(images) - 2))
    return images[:cut], images[cut:]


@dataclass(frozen=True)
class Trial:
    """Backdoors with one trigger, and its success on held-out images; None where no image could tell."""

    backdoors: tuple[Backdoor, ...]
    success: Rate | None

    @property
    def refuted(self) -> bool:
        """Whether the trigger fails on held-out images: on so many that chance does not explain it."""
        return self.success is not None and self.success.high < _LEAST

    def __str__(self) -> str:
        targets = {item.target for item in self.backdoors}
        whose = f"class {min(targets)}: its" if len(targets) == 1 else "all to all: the"
        if self.success is None:
            return f"{whose} trigger could not be tried on held-out images"
        words = f"{whose} trigger works on {self.success.value:.2f} of {self.success.n} held-out images"
        return f"{words}, which speaks against it: not suspected" if self.refuted else words


def try_triggers(classifier: Classifier, images: Tensor, suspected: Sequence[Backdoor]) -> list[Trial]:
    """Return what each trigger does to images (n, C, H, W) that it was not made on; cost: one pass, and one for each trigger.

    An image counts where the backdoor would move it: it is not of the target, and of one of the sources where there are
    some. Backdoors without a trigger are left out.
    """
    predictions = classes_of(classifier, images) if len(images) else torch.zeros(0, dtype=torch.int64)
    return [
        Trial(tuple(group), _try(classifier, images, predictions, patch, group))
        for patch, group in group_by_patch(suspected)
    ]


def still_suspected(suspected: Sequence[Backdoor], trials: Sequence[Trial]) -> tuple[Backdoor, ...]:
    """Return the suspected backdoors without those whose trigger failed."""
    gone = {id(item) for trial in trials if trial.refuted for item in trial.backdoors}
    return tuple(item for item in suspected if id(item) not in gone)


def _try(
    classifier: Classifier, images: Tensor, predictions: Tensor, patch: Patch, group: Sequence[Backdoor]
) -> Rate | None:
    moved = [_moved(backdoor, predictions) for backdoor in group]
    tried = sum(int(rows.sum()) for rows in moved)
    if not tried:
        return None
    with torch.inference_mode():
        stamped = classes_of(classifier, patch(images))
    hits = sum(int((stamped[rows] == item.target).sum()) for rows, item in zip(moved, group, strict=True))
    return Rate.of(hits, tried)


def _moved(backdoor: Backdoor, predictions: Tensor) -> Tensor:
    """Return whether the backdoor would move each image, (n,), given the network's predictions (n,)."""
    others = predictions != backdoor.target
    return others if backdoor.sources is None else others & torch.isin(predictions, torch.tensor(backdoor.sources))
