"""What is known of a guard once it is made: what it refuses of clean images and of triggers like the recovered ones."""

from __future__ import annotations

from dataclasses import dataclass

from goodnet.core.backdoor import Backdoor
from goodnet.core.method import FittedGuard
from goodnet.core.results import Rate
from goodnet.guards.calibration import Calibration
from goodnet.pair.goodnet import GoodNet
from goodnet.pipelines.surrogate_triggers import SurrogateRate


@dataclass(frozen=True)
class GuardOutcome:
    """What `guard` returns.

    `guard` gives scores; `false_refusals` is what its threshold costs, None where the guard has no calibration;
    `refused_clean` is the share of the clean images given that it refuses; `surrogates` what it does to triggers like
    the recovered ones. `goodnet` is the pair that can be saved and served, None without a repaired network, and
    `goodnet_false_refusals`, `goodnet_refused` and `goodnet_surrogates` the same for it.
    """

    method: str
    guard: FittedGuard
    suspected: tuple[Backdoor, ...]
    false_refusals: Calibration | None
    refused_clean: Rate
    surrogates: tuple[SurrogateRate, ...]
    goodnet: GoodNet | None
    goodnet_false_refusals: Calibration | None
    goodnet_refused: Rate | None
    goodnet_surrogates: tuple[SurrogateRate, ...]

    @property
    def targets(self) -> tuple[int, ...]:
        """The suspected targets, each once."""
        return tuple(sorted({backdoor.target for backdoor in self.suspected}))
