"""The rates of an evaluation, one kind after another: what the page, its tables and the figure of all rates show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from goodnet.core.results import Metrics, Rate


@dataclass(frozen=True)
class Measure:
    """One kind of rate: what is better, and the rate of each network that has it, the original first."""

    name: str
    better: str
    rows: tuple[tuple[str, Rate], ...]


#: Fields of `Metrics` in the order in which they are shown: name (`{}`: the poisoned set), what is better.
_KINDS = {
    "clean_accuracy": ("clean accuracy", "higher is better"),
    "target_recall": ("target recall", "clean images of the target that get their label, higher is better"),
    "attack_success_rate": ("attack success rate on {}", "lower is better"),
    "robust_accuracy": ("robust accuracy on {}", "true class despite the trigger, higher is better"),
    "refused_clean": ("clean images refused", "lower is better"),
    "refused_clean_of_target": ("clean images of the target refused", "lower is better"),
    "refused_poisoned": ("triggered images refused, {}", "higher is better"),
    "detection_accuracy": ("clean and triggered told apart, {}", "higher is better"),
}


def list_measures(rows: Sequence[tuple[str, Metrics]]) -> Iterator[Measure]:
    """Yield every kind of rate that a network of `rows` (its name, its metrics) has; of each poisoned set one."""
    for field, (name, better) in _KINDS.items():
        found: dict[str, list[tuple[str, Rate]]] = {}
        for network, metrics in rows:
            value: Rate | dict[str, Rate] | None = getattr(metrics, field)
            for data, rate in (value if isinstance(value, dict) else {"": value}).items():
                if rate is not None:
                    found.setdefault(name.replace("{}", data), []).append((network, rate))
        for shown, rates in found.items():
            yield Measure(shown, better, tuple(rates))
