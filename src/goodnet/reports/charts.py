"""Charts for a page: where each mark lies, as percentages of the plotting area, so that a chart fits any width.

The template draws them: lines and dots as SVG stretched over the area, text as HTML at its own size on top of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from goodnet.reports.figures import MOST_BARS, PruningCurve

#: A value of a class, None where it has none.
Value = float | None

#: Classes that are named in a chart, at most, and how near two names may come (percent of width and height).
_NAMED, _APART_X, _APART_Y = 8, 16, 9


@dataclass(frozen=True)
class Mark:
    """A text at (`x`, `y`), percent from the left and from the bottom; `side` tells which way it runs."""

    x: float
    y: float
    text: str
    side: str = "centre"


@dataclass(frozen=True)
class Line:
    """A line of the class `kind` (its colour and dashes) as SVG path data; `name` is its entry in the legend."""

    kind: str
    path: str
    name: str = ""


@dataclass(frozen=True)
class Chart:
    """Everything that the template needs to draw a chart; `summary` says in words what it shows."""

    title: str
    summary: str
    x_title: str
    x_ticks: tuple[Mark, ...]
    y_ticks: tuple[Mark, ...]
    lines: tuple[Line, ...]
    marks: tuple[Mark, ...] = ()
    notes: tuple[Mark, ...] = ()
    small: bool = False
    legend: tuple[Line, ...] = field(default=())


def class_chart(
    title: str,
    values: Sequence[Value],
    *,
    threshold: float | None = None,
    suspected: Sequence[int] = (),
    unscanned: Sequence[int] = (),
    small: bool = False,
) -> Chart:
    """Return the chart of one value per class: stems for up to 60 classes, dots for more, suspects marked and named."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    scale = _Scale.around([0.0, *finite, *([] if threshold is None else [threshold])], room=0.12)
    groups = {
        "others": [k for k in range(len(values)) if k not in {*suspected, *unscanned}],
        "unscanned": sorted(set(unscanned) - set(suspected)),
        "suspected": sorted(set(suspected)),
    }
    points = {
        name: [(_class_x(k, len(values)), scale.y(value)) for k in group if (value := _finite(values, k)) is not None]
        for name, group in groups.items()
    }
    few = len(values) <= MOST_BARS
    lines = [Line("rule", f"M0 {100 - scale.y(0):.2f}H100")]
    for name, places in points.items():
        if few and places:
            lines.append(Line(f"stem {name}", _stems(places, scale.y(0))))
        if places:
            lines.append(Line(f"dot {'large ' if few else ''}{name}", _dots(places)))
    notes = []
    if threshold is not None:
        lines.append(Line("threshold", f"M0 {100 - scale.y(threshold):.2f}H100"))
        notes.append(Mark(100, scale.y(threshold), f"threshold {threshold:.3g}", "left"))
    top = max(finite, default=0.0)
    return Chart(
        title=title,
        summary=f"{title} of {len(values)} classes, the highest {top:.1f}, {len(points['suspected'])} suspected",
        x_title="class",
        x_ticks=_class_ticks(len(values)),
        y_ticks=scale.ticks(),
        lines=tuple(lines),
        marks=_name_suspects(values, groups["suspected"], scale) if not small else (),
        notes=tuple(notes),
        small=small,
        legend=tuple(Line(f"dot {name}", "", name) for name in ("suspected", "unscanned") if points[name]),
    )


def _finite(values: Sequence[Value], label: int) -> Value:
    value = values[label] if 0 <= label < len(values) else None
    return value if value is not None and math.isfinite(value) else None


def _class_x(label: int, classes: int) -> float:
    return 100 * (label + 0.5) / classes


def _dots(points: Iterable[tuple[float, float]]) -> str:
    # A line of no length with round ends is a dot, and stays round however the drawing is stretched.
    return "".join(f"M{x:.2f} {100 - y:.2f}h.001" for x, y in points)


def _stems(points: Iterable[tuple[float, float]], zero: float) -> str:
    return "".join(f"M{x:.2f} {100 - zero:.2f}V{100 - y:.2f}" for x, y in points)


def _class_ticks(classes: int) -> tuple[Mark, ...]:
    step = next(s for e in range(9) for s in (10**e, 2 * 10**e, 5 * 10**e) if classes / s <= 10)
    return tuple(Mark(_class_x(k, classes), 0, str(k)) for k in range(0, classes, step))


def _name_suspects(values: Sequence[Value], suspected: Sequence[int], scale: _Scale) -> tuple[Mark, ...]:
    """Return the names of the highest suspects, those left out that would cover another."""
    known = [(value, label) for label in suspected if (value := _finite(values, label)) is not None]
    named: list[Mark] = []
    for value, label in sorted(known, reverse=True)[:_NAMED]:
        x, y = _class_x(label, len(values)), scale.y(value)
        if all(abs(x - other.x) > _APART_X or abs(y - other.y) > _APART_Y for other in named):
            side = "right" if x < 12 else "left" if x > 88 else "centre"
            named.append(Mark(x, y, f"class {label}: {value:.1f}", side))
    return tuple(named)


@dataclass(frozen=True)
class _Scale:
    """Values between `low` and `high` -> percent of the height; ticks every `step`."""

    low: float
    high: float
    step: float

    @classmethod
    def around(cls, values: Sequence[float], room: float) -> _Scale:
        low, high = min(values), max(values)
        high = high if high > low else low + 1
        step = next(s for e in range(-4, 12) for s in (10**e, 2 * 10**e, 5 * 10**e) if (high - low) / s <= 5)
        return cls(low - (0.05 * (high - low) if low < 0 else 0), high + room * (high - low), step)

    def y(self, value: float) -> float:
        return 100 * (value - self.low) / (self.high - self.low)

    def ticks(self) -> tuple[Mark, ...]:
        first, last = math.ceil(self.low / self.step), math.floor(self.high / self.step)
        return tuple(Mark(0, self.y(k * self.step), f"{k * self.step:g}") for k in range(first, last + 1))


def pruning_chart(curve: PruningCurve) -> Chart:
    """Return the chart of accuracy and attack success against the fraction of channels pruned."""
    rates: Mapping[str, Sequence[float]] = {"accuracy": curve.accuracy} | {
        f"ASR: {name}" if name else "ASR": rates for name, rates in curve.attack_success_rates.items()
    }
    lines = [
        Line(f"curve curve-{n % 5}", _curve(values, curve.channels), name)
        for n, (name, values) in enumerate(rates.items())
    ]
    reached: dict[int, list[str]] = {}
    for drop, pruned in sorted(curve.thresholds.items()):
        reached.setdefault(pruned, []).append(f"{100 * drop:g} %")
    places = {100 * pruned / curve.channels: f"{', '.join(words)}: {pruned}" for pruned, words in reached.items()}
    stops = [Line("threshold", f"M{x:.2f} 0V100") for x in places]
    notes = [
        Mark(x, 4 + 8 * level, text, f"boxed {'left' if x > 70 else 'right'}")
        for level, (x, text) in enumerate(places.items())
    ]
    return Chart(
        title=curve.title,
        summary=f"{', '.join(rates)} while up to {len(curve.accuracy) - 1} of {curve.channels} channels are pruned",
        x_title=f"fraction of the {curve.channels} channels pruned",
        x_ticks=tuple(Mark(x, 0, f"{x / 100:g}") for x in (0, 20, 40, 60, 80, 100)),
        y_ticks=tuple(Mark(0, y / 1.04, f"{y / 100:g}") for y in (0, 20, 40, 60, 80, 100)),
        lines=(*stops, *lines),
        notes=tuple(notes),
        legend=tuple(lines) + ((Line("threshold", "", "accuracy has dropped by"),) if stops else ()),
    )


def _curve(values: Sequence[float], channels: int) -> str:
    points = (f"{100 * k / channels:.2f} {100 - 100 * value / 1.04:.2f}" for k, value in enumerate(values))
    return "M" + "L".join(points)
