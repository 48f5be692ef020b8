"""Plots of one value per class: the scores of a scan with its threshold and suspects, the changes that a repair made."""

from __future__ import annotations

from collections.abc import Sequence
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

    Up to 60 classes are stems, more are dots. Classes without a finite number are left out; unscanned ones are grey. The axis of
    each kind reaches the threshold at least.
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
    if suspected or detection.unscanned:
        axes[0].legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize=8, frameon=False, ncols=3)
    if not np.isfinite(scores).any():
        axes[0].text(0.5, 0.5, "no class has a score", color=GREY, ha="center", transform=axes[0].transAxes)
    axes[0].set_ylabel("score", fontsize=9)
    axes[0].set_title(_title(detection), fontsize=10, fontweight="bold", loc="left", pad=10)
    for ax, (kind, values) in zip(axes[1:], kinds.items(), strict=True):
        _plot_classes(ax, np.arange(len(values)), np.asarray(values, np.float64), suspected, detection.unscanned)
        # With a scale of its own a value that means nothing would look high.
        low, high = ax.get_ylim()
        high = max(high, detection.threshold)
        ax.set_ylim(min(low, -0.08 * high), high)
        ax.set_ylabel(plain(kind, 18), fontsize=9)
    axes[-1].set_xlabel("class", fontsize=9)
    figure.align_ylabels()
    _label_suspects(axes[0], scores, suspected, detection.threshold)
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


def _label_suspects(ax: Axes, scores: Values, suspected: Sequence[int], threshold: float) -> None:
    """Name the suspected classes beside their dots, the highest first; where there is no room the title must do."""
    from matplotlib.transforms import Bbox

    finite = [float(score) for score in scores if np.isfinite(score)]
    low, high = min(0.0, *finite, threshold), max(0.0, *finite, threshold)
    span = (high - low) or 1.0
    ax.set_ylim(low - 0.03 * span, high + 0.16 * span)
    ranked = sorted((t for t in set(suspected) if np.isfinite(scores[t])), key=lambda t: -scores[t])[:_LABELLED]
    ax.figure.draw_without_rendering()  # type: ignore[union-attr]  # Gives the panels their places.
    dots = [Bbox([place, place]).padded(7) for place in (ax.transData.transform((t, scores[t])) for t in ranked)]
    taken = [*dots, *(text.get_window_extent() for text in ax.texts)]
    style: dict[str, Any] = {"fontsize": 8.5, "fontweight": "bold", "color": VERMILLION, "textcoords": "offset points"}
    for target in ranked:
        words = f"class {target}: {scores[target]:.1f}" if len(ranked) <= _IN_FULL else str(target)
        for side in _SIDES:
            label = ax.annotate(words, (target, scores[target]), **style, **side)
            box = label.get_window_extent()
            if ax.bbox.x0 <= box.x0 and box.x1 <= ax.bbox.x1 and not any(map(box.overlaps, taken)):
                taken.append(box)
                break
            label.remove()


#: Where a label stands: above its dot, to its left, to its right.
_SIDES: tuple[dict[str, Any], ...] = (
    {"xytext": (0, 7), "ha": "center", "va": "bottom"},
    {"xytext": (-7, 0), "ha": "right", "va": "center"},
    {"xytext": (7, 0), "ha": "left", "va": "center"},
)

#: Up to so many suspects are labelled with their scores, more with their numbers alone.
_IN_FULL = 3


def draw_scores(detection: Detection, path: str | Path) -> Path:
    """Write `plot_scores` to `path` and return the path."""
    return write_figure(plot_scores(detection), path)
