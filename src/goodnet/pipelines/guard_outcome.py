"""What is known of a guard once it is made: what it refuses of clean images and of triggers like the recovered ones.

A guard that takes every image of the target for a triggered one has low false refusals on average, and takes a class away.
So what it refuses of the targets' own images is measured too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from goodnet.core.backdoor import Backdoor, targets_of
from goodnet.core.dataset import Dataset
from goodnet.core.method import FittedGuard
from goodnet.core.results import Rate, Record
from goodnet.core.tables import PlainTable, Shown
from goodnet.guards.calibration import Calibration, score_all
from goodnet.pair.goodnet import GoodNet
from goodnet.pipelines.surrogate_triggers import SurrogateRate


class TargetRefusals(Record):
    """How many of a suspected `target`'s own clean images are refused; None where there are none."""

    target: int
    refused: Rate | None


def count_refused(fitted: FittedGuard, clean: Dataset) -> Rate:
    """Return the share of clean images that a guard refuses. Cost: its own, for each image."""
    scores = score_all(fitted, clean)
    return Rate.of(int((scores > fitted.threshold).sum()), len(scores))


def count_refused_of(fitted: FittedGuard, labelled: Dataset, targets: Sequence[int]) -> tuple[TargetRefusals, ...]:
    """Return the share of each target's own images that a guard refuses. Cost: its own, for each of these images."""
    own = {target: np.flatnonzero(labelled.targets == target) for target in targets}
    return tuple(
        TargetRefusals(target=target, refused=count_refused(fitted, labelled.subset(rows)) if len(rows) else None)
        for target, rows in own.items()
    )


@dataclass(frozen=True)
class GuardOutcome(Shown):
    """What `guard` returns.

    `guard` gives scores. `false_refusals` is the share of clean images that its threshold will refuse, None for a guard
    without calibration. `refused_clean` is the share of the given clean images that it refuses, `of_targets` the same for
    the images of each suspected target. `surrogates` is its result on triggers like the recovered ones. `goodnet` can be
    saved and served; it is None without a repaired network. `goodnet_false_refusals`, `goodnet_refused`,
    `goodnet_of_targets` and `goodnet_surrogates` are the same figures for the GoodNet; those of the targets come from
    images that the repair has not seen, where it is ours. `warnings` say what all of this rests on and should not: a scan that is
    inconclusive, a repair that had too little time.
    """

    method: str
    guard: FittedGuard
    suspected: tuple[Backdoor, ...]
    false_refusals: Calibration | None
    refused_clean: Rate
    of_targets: tuple[TargetRefusals, ...]
    surrogates: tuple[SurrogateRate, ...]
    goodnet: GoodNet | None
    goodnet_false_refusals: Calibration | None
    goodnet_refused: Rate | None
    goodnet_of_targets: tuple[TargetRefusals, ...]
    goodnet_surrogates: tuple[SurrogateRate, ...]
    warnings: tuple[str, ...] = ()

    @property
    def targets(self) -> tuple[int, ...]:
        """The suspected targets, each once."""
        return targets_of(self.suspected)

    def table(self) -> PlainTable:
        """Return the shares of inputs that the guard refuses, and the GoodNet where there is one."""
        names, clean = [self.method], [self.refused_clean]
        refused = [(*self.of_targets, *self.surrogates)]
        if self.goodnet is not None and self.goodnet_refused is not None:
            names.append("GoodNet")
            clean.append(self.goodnet_refused)
            refused.append((*self.goodnet_of_targets, *self.goodnet_surrogates))
        rows = [("the clean images given", *map(_show, clean))]
        for items in zip(*refused, strict=True):
            rows.append((_name(items[0]), *(_show(item.refused) for item in items)))
        return PlainTable("share of inputs refused", ("inputs", *names), tuple(rows))


def _name(item: TargetRefusals | SurrogateRate) -> str:
    if isinstance(item, TargetRefusals):
        return f"clean images of class {item.target}"
    return f"trigger of class {item.target}, {item.surrogate} (works on {item.success.value:.2f})"


def _show(rate: Rate | None) -> str:
    return "-" if rate is None else f"{rate.value:.3f} [{rate.low:.2f}, {rate.high:.2f}] n={rate.n}"
