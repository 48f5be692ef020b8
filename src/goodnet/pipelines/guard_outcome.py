"""What is known of a guard once it is made: what it refuses of clean images and of triggers like the recovered ones."""

from __future__ import annotations

from dataclasses import dataclass

from goodnet.core.backdoor import Backdoor
from goodnet.core.method import FittedGuard
from goodnet.core.results import Rate
from goodnet.core.tables import PlainTable, Shown
from goodnet.guards.calibration import Calibration
from goodnet.pair.goodnet import GoodNet
from goodnet.pipelines.surrogate_triggers import SurrogateRate


@dataclass(frozen=True)
class GuardOutcome(Shown):
    """What `guard` returns.

    `guard` gives scores. `false_refusals` is the share of clean images that its threshold will refuse, None for a guard
    without calibration. `refused_clean` is the share of the given clean images that it refuses. `surrogates` is its result
    on triggers like the recovered ones. `goodnet` can be saved and served; it is None without a repaired network.
    `goodnet_false_refusals`, `goodnet_refused` and `goodnet_surrogates` are the same figures for the GoodNet.
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

    def table(self) -> PlainTable:
        """Return the shares of inputs that the guard refuses, and the GoodNet where there is one."""
        guards: list[tuple[str, Rate | None, tuple[SurrogateRate, ...]]]
        guards = [(self.method, self.refused_clean, self.surrogates)]
        if self.goodnet is not None:
            guards.append(("GoodNet", self.goodnet_refused, self.goodnet_surrogates))
        rows = [("the clean images given", *(_show(clean) for _, clean, _ in guards))]
        for place, own in enumerate(self.surrogates):
            name = f"trigger of class {own.target}, {own.surrogate} (works on {own.success.value:.2f})"
            rows.append((name, *(_show(surrogates[place].refused) for _, _, surrogates in guards)))
        return PlainTable("share of inputs refused", ("inputs", *(name for name, _, _ in guards)), tuple(rows))


def _show(rate: Rate | None) -> str:
    return "-" if rate is None else f"{rate.value:.3f} [{rate.low:.2f}, {rate.high:.2f}] n={rate.n}"
