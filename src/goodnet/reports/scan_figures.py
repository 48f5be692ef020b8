"""The plot of a scan: the score of every class, the threshold, and the classes that stand out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from goodnet.core.results import Detection
from goodnet.reports.figures import (
    BLUE,
    GREY,
    INK,
    MOST_BARS,
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

Values = npt.NDArray[np.float64]


def plot_scores(detection: Detection) -> Figure:
    """Plot the score of every class, suspected classes marked and named, and below it each kind of evidence.

    Up to 60 classes are stems, more are dots. Classes without a finite number are left out; unscanned ones are grey.
    """
    kinds = dict(detection.evidence)
    heights = [2.6] + [1.0] * len(kinds)
    figure = new_figure(9.0, 3.6 + 1.35 * len(kinds))
    axes = figure.subplots(1 + len(kinds), 1, squeeze=False, sharex=True, height_ratios=heights).ravel()
    scores = np.asarray(detection.scores, np.float64)
    _plot_classes(axes[0], scores, detection)
    _draw_threshold(axes[0], detection.threshold)
    _label_suspects(axes[0], scores, detection)
    if detection.unscanned:
        axes[0].legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize=8, frameon=False, ncols=3)
    if not np.isfinite(scores).any():
        axes[0].text(0.5, 0.5, "no class has a score", color=GREY, ha="center", transform=axes[0].transAxes)
    axes[0].set_ylabel("score", fontsize=9)
    axes[0].set_title(_title(detection), fontsize=10, fontweight="bold", loc="left", pad=10)
    for ax, (kind, values) in zip(axes[1:], kinds.items(), strict=True):
        _plot_classes(ax, np.asarray(values, np.float64), detection)
        ax.set_ylabel(plain(kind, 18), fontsize=9)
    axes[-1].set_xlabel("class", fontsize=9)
    return figure


def _title(detection: Detection) -> str:
    targets = [backdoor.target for backdoor in detection.suspected]
    shown = ", ".join(map(str, targets[:_LABELLED])) + (", …" if len(targets) > _LABELLED else "")
    kind = "target" if len(targets) == 1 else "targets"
    return f"{detection.verdict}, {kind} {shown}" if targets else detection.verdict


def _plot_classes(ax: Axes, values: Values, detection: Detection) -> None:
    from matplotlib.ticker import MaxNLocator

    clear_axes(ax, "y")
    classes = np.arange(len(values))
    suspected = np.isin(classes, [backdoor.target for backdoor in detection.suspected])
    unscanned = np.isin(classes, detection.unscanned)
    groups = (
        (~suspected & ~unscanned, BLUE, "others"),
        (unscanned & ~suspected, GREY, "unscanned"),
        (suspected, VERMILLION, "suspected"),
    )
    for chosen, colour, name in groups:
        _plot_group(ax, classes[chosen], values[chosen], colour, name, stems=len(values) <= MOST_BARS)
    ax.axhline(0, color=PALE, linewidth=0.8, zorder=1)
    ax.set_xlim(-0.015 * len(values) - 0.5, 1.015 * len(values) - 0.5)
    ax.margins(y=0.08)
    ax.xaxis.set_major_locator(MaxNLocator(20 if len(values) <= 20 else 10, integer=True, steps=[1, 2, 5, 10]))


def _plot_group(
    ax: Axes, classes: npt.NDArray[np.int64], values: Values, colour: str, name: str, *, stems: bool
) -> None:
    finite = np.isfinite(values)
    large = name == "suspected"
    if stems:
        ax.vlines(classes[finite], 0, values[finite], color=colour, linewidth=2 if large else 1.4, alpha=0.7, zorder=2)
    size = 46 if large else 22 if stems else 9
    # Many dots lie on one another near 0: what shows through tells how many.
    opacity = 1 if large or stems else 0.55
    ax.scatter(classes[finite], values[finite], s=size, color=colour, alpha=opacity, linewidths=0, zorder=3, label=name)


def _draw_threshold(ax: Axes, threshold: float) -> None:
    ax.axhline(threshold, color=INK, linestyle=(0, (5, 3)), linewidth=1, zorder=2, label="_threshold")
    place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "fontsize": 8, "color": INK}
    ax.annotate(f"threshold {threshold:.3g}", (1, threshold), xytext=(4, 0), ha="left", va="center", **place)  # type: ignore[arg-type]


def _label_suspects(ax: Axes, scores: Values, detection: Detection) -> None:
    """Name the suspected classes beside their dots, the highest first; where there is no room the title must do."""
    low, high = min(0.0, float(_finite(scores).min())), max(detection.threshold, float(_finite(scores).max()))
    if low == high:
        return  # No class has a score.
    ax.set_ylim(low - 0.03 * (high - low), high + 0.16 * (high - low))
    targets = dict.fromkeys(backdoor.target for backdoor in detection.suspected)
    ranked = sorted((t for t in targets if np.isfinite(scores[t])), key=lambda target: -scores[target])[:_LABELLED]
    places = {t: (t / max(1, len(scores) - 1), (float(scores[t]) - low) / (high - low)) for t in ranked}
    taken = [_Box(x, y, 0.008, 0.02) for x, y in places.values()]
    for target, (x, y) in places.items():
        words = f"class {target}: {scores[target]:.1f}" if len(ranked) <= _IN_FULL else str(target)
        found = _free_side(x, y, 0.0055 * len(words), taken)
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


def _free_side(x: float, y: float, half: float, taken: Sequence[_Box]) -> tuple[str, _Box] | None:
    """Return the first side of the dot at (`x`, `y`) on which a label of width 2 * `half` meets nothing, and its box."""
    boxes = {
        "above": _Box(x, y + 0.07, half, 0.03),
        "left": _Box(x - half - 0.015, y, half, 0.03),
        "right": _Box(x + half + 0.015, y, half, 0.03),
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
