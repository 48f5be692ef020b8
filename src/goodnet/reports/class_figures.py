"""Plots of one value per class: the scores of a scan with its threshold and suspects, the changes that a repair made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from goodnet.core.repairs import ClassAccuracy
from goodnet.core.results import Detection
from goodnet.reports.figures import (
    BLUE,
    GREY,
    INK,
    MOST_BARS,
    NARROW,
    PALE,
    VERMILLION,
    clear_axes,
    new_figure,
    plain,
    write_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Classes with a label in the plot, at most; more would hide one another.
_LABELLED = 12

Labels = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


def plot_scores(detection: Detection, *, width: float = 9.0) -> Figure:
    """Plot the score of every class, suspected classes marked and named, and below it each kind of evidence.

    Up to 60 classes are stems, more are dots. Classes without a finite number are left out; unscanned ones are grey.
    The figure is `width` inches wide.
    """
    kinds = dict(detection.evidence)
    heights = [2.6] + [1.0] * len(kinds)
    figure = new_figure(width, 3.6 + 1.35 * len(kinds))
    axes = figure.subplots(1 + len(kinds), 1, squeeze=False, sharex=True, height_ratios=heights).ravel()
    scores = np.asarray(detection.scores, np.float64)
    suspected = [backdoor.target for backdoor in detection.suspected]
    _plot_classes(axes[0], np.arange(len(scores)), scores, suspected, detection.unscanned)
    _draw_threshold(axes[0], detection.threshold)
    _label_suspects(axes[0], scores, detection, width)
    if suspected or detection.unscanned:
        axes[0].legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize=8, frameon=False, ncols=3)
    if not np.isfinite(scores).any():
        axes[0].text(0.5, 0.5, "no class has a score", color=GREY, ha="center", transform=axes[0].transAxes)
    axes[0].set_ylabel("score", fontsize=9)
    axes[0].set_title(_title(detection), fontsize=10, fontweight="bold", loc="left", pad=10)
    for ax, (kind, values) in zip(axes[1:], kinds.items(), strict=True):
        _plot_classes(ax, np.arange(len(values)), np.asarray(values, np.float64), suspected, detection.unscanned)
        ax.set_ylabel(plain(kind, 18), fontsize=9)
    axes[-1].set_xlabel("class", fontsize=9)
    figure.align_ylabels()
    return figure


def _title(detection: Detection) -> str:
    targets = [backdoor.target for backdoor in detection.suspected]
    shown = ", ".join(map(str, targets[:_LABELLED])) + (", …" if len(targets) > _LABELLED else "")
    kind = "target" if len(targets) == 1 else "targets"
    return f"{detection.verdict}, {kind} {shown}" if targets else detection.verdict


def plot_changes(rows: Sequence[ClassAccuracy]) -> Figure:
    """Plot how far each class's accuracy after a repair is above or below that before it."""
    figure = new_figure(NARROW, 2.4)
    ax = figure.subplots()
    changes = np.array([row.after - row.before for row in rows])
    _plot_classes(ax, np.array([row.label for row in rows]), changes)
    ax.set_xlabel("class", fontsize=9)
    return figure


def _plot_classes(
    ax: Axes, classes: Labels, values: Values, suspected: Sequence[int] = (), unscanned: Sequence[int] = ()
) -> None:
    from matplotlib.ticker import MaxNLocator

    clear_axes(ax, "y")
    marked, grey = np.isin(classes, suspected), np.isin(classes, unscanned)
    groups = (
        (~marked & ~grey, BLUE, "others"),
        (grey & ~marked, GREY, "unscanned"),
        (marked, VERMILLION, "suspected"),
    )
    for chosen, colour, name in groups:
        if chosen.any():
            _plot_group(ax, classes[chosen], values[chosen], colour, name, stems=len(values) <= MOST_BARS)
    total = int(classes.max(initial=0)) + 1
    ax.axhline(0, color=PALE, linewidth=0.8, zorder=1)
    ax.set_xlim(-0.015 * total - 0.5, 1.015 * total - 0.5)
    ax.margins(y=0.08)
    most = min(20 if total <= 20 else 10, round(3 * ax.figure.get_figwidth()))  # type: ignore[union-attr]
    ax.xaxis.set_major_locator(MaxNLocator(most, integer=True, steps=[1, 2, 5, 10]))


def _plot_group(ax: Axes, classes: Labels, values: Values, colour: str, name: str, *, stems: bool) -> None:
    finite = np.isfinite(values)
    large = name == "suspected"
    if stems:
        ax.vlines(classes[finite], 0, values[finite], color=colour, linewidth=2 if large else 1.4, alpha=0.7, zorder=2)
    size = 6.8 if large else 4.7 if stems else 3
    # Many dots lie on one another near 0: what shows through tells how many.
    opacity = 1 if large or stems else 0.55
    style = {"markersize": size, "color": colour, "alpha": opacity, "markeredgewidth": 0, "zorder": 3}
    ax.plot(classes[finite], values[finite], "o", label=name, **style)  # type: ignore[arg-type]


def _draw_threshold(ax: Axes, threshold: float) -> None:
    # The words stand below the line: suspects, with their names, are above it.
    ax.axhline(threshold, color=INK, linestyle=(0, (5, 3)), linewidth=1, zorder=2, label="_threshold")
    place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "fontsize": 8, "color": INK}
    ax.annotate(f"threshold {threshold:.3g}", (1, threshold), xytext=(0, -3), ha="right", va="top", **place)  # type: ignore[arg-type]


def _label_suspects(ax: Axes, scores: Values, detection: Detection, width: float) -> None:
    """Name the suspected classes beside their dots, the highest first; where there is no room the title must do."""
    low, high = min(0.0, float(_finite(scores).min())), max(detection.threshold, float(_finite(scores).max()))
    if low == high:
        return  # No class has a score.
    ax.set_ylim(low - 0.03 * (high - low), high + 0.16 * (high - low))
    targets = dict.fromkeys(backdoor.target for backdoor in detection.suspected)
    ranked = sorted((t for t in targets if np.isfinite(scores[t])), key=lambda target: -scores[target])[:_LABELLED]
    places = {t: (t / max(1, len(scores) - 1), (float(scores[t]) - low) / (high - low)) for t in ranked}
    taken = [_Box(x, y, 0.07 / width, 0.02) for x, y in places.values()]
    taken.append(_Box(1 - 0.4 / width, (detection.threshold - low) / (high - low) - 0.05, 0.4 / width, 0.03))
    for target, (x, y) in places.items():
        words = f"class {target}: {scores[target]:.1f}" if len(ranked) <= _IN_FULL else str(target)
        found = _free_side(x, y, 0.05 * len(words) / width, 0.14 / width, taken)
        if found is not None:
            side, box = found
            taken.append(box)
            style = {"fontsize": 8.5, "fontweight": "bold", "color": VERMILLION, "textcoords": "offset points"}
            ax.annotate(words, (target, scores[target]), **style, **_SIDES[side])  # type: ignore[arg-type]


#: Where a label stands: above its dot, to its left, to its right.
_SIDES: dict[str, dict[str, Any]] = {
    "above": {"xytext": (0, 7), "ha": "center", "va": "bottom"},
    "left": {"xytext": (-7, 0), "ha": "right", "va": "center"},
    "right": {"xytext": (7, 0), "ha": "left", "va": "center"},
}


def _free_side(x: float, y: float, half: float, gap: float, taken: Sequence[_Box]) -> tuple[str, _Box] | None:
    """Return the first side of the dot at (`x`, `y`) on which a label of width 2 * `half` meets nothing, and its box."""
    boxes = {
        "above": _Box(x, y + 0.07, half, 0.03),
        "left": _Box(x - half - gap, y, half, 0.03),
        "right": _Box(x + half + gap, y, half, 0.03),
    }
    free = ((side, box) for side, box in boxes.items() if box.inside and not any(box.meets(other) for other in taken))
    return next(free, None)


#: Up to so many suspects are labelled with their scores, more with their numbers alone.
_IN_FULL = 3


@dataclass(frozen=True)
class _Box:
    """A dot or a label: its middle and half its size, as shares of the panel."""

    x: float
    y: float
    half_width: float
    half_height: float

    @property
    def inside(self) -> bool:
        return self.half_width - 0.02 <= self.x <= 1.02 - self.half_width

    def meets(self, other: _Box) -> bool:
        return (
            abs(self.x - other.x) < self.half_width + other.half_width
            and abs(self.y - other.y) < self.half_height + other.half_height
        )


def _finite(values: Values) -> Values:
    found: Values = values[np.isfinite(values)]
    return found if len(found) else np.zeros(1)


def draw_scores(detection: Detection, path: str | Path) -> Path:
    """Write `plot_scores` to `path` and return the path."""
    return write_figure(plot_scores(detection), path)
