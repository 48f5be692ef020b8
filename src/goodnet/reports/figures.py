"""Plots of results and of data: pruning curves, rates with intervals, images per class.

Each picture comes as a pair: `plot_...` returns the matplotlib figure, to look into or to restyle, and `draw_...`
writes it to a file in one step. Figures are made without pyplot, so a caller's own pyplot state stays as it is and
threads do not get in one another's way. A report shows some of them too, `NARROW`, as SVG (`inline_pictures.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from goodnet.core.dataset import Dataset
from goodnet.core.results import Metrics, Rate
from goodnet.formats.files import replacing
from goodnet.formats.shown_paths import show_path
from goodnet.reports.measures import list_measures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
SKY, PURPLE, YELLOW = "#56B4E9", "#CC79A7", "#F0E442"
INK, GREY, PALE = "#222222", "#6B6B6B", "#DDDDDD"

#: Dots per inch of every plot.
DPI = 150

#: Width in inches of a figure that fits a phone: there, 8 points are 10 pixels.
NARROW = 3.7

#: With more classes than this, bars give way to a profile over the class numbers.
MOST_BARS = 60

Point = tuple[float, float]

_POISONED_STYLES = (
    (VERMILLION, "--"),
    (PURPLE, "-."),
    (ORANGE, ":"),
    (GREEN, (0, (5, 1))),
    (INK, (0, (3, 1, 1, 1))),
)


def new_figure(width: float, height: float, *, layout: str | None = "constrained") -> Figure:
    """Return an empty white figure of `width` x `height` inches that draws through Agg, whatever pyplot is set to."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout=layout)  # type: ignore[arg-type]
    FigureCanvasAgg(figure)
    if layout == "constrained":
        figure.get_layout_engine().set(w_pad=0.09, h_pad=0.09)  # type: ignore[union-attr, call-arg]
    return figure


def write_figure(figure: Figure, path: str | Path, *, dpi: float = DPI) -> Path:
    """Write `figure` to `path` in one step (PNG, or what the ending says) and return the path.

    Raises:
        UnwritableOutput: the folder cannot be written to.
    """
    path = Path(path)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format=path.suffix.lstrip(".").lower() or "png", facecolor="white")
    return path


def plain(text: str, most: int = 60) -> str:
    """Return `text` as one line of at most `most` characters that all show, in which no dollar sign means mathematics."""
    line = show_path(" ".join(text.split()))
    if len(line) > most:
        line = f"{line[: (most - 1) // 2]}…{line[len(line) - most // 2 :]}"
    return line.replace("$", r"\$")


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Return the width in inches of `text` in matplotlib's own font (DejaVu Sans) of `size` points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    return (
        float(TextPath((0, 0), text.replace("$", "S"), size=size, prop=font).get_extents().x1) / 72
        if text.strip()
        else 0
    )


def clear_axes(ax: Axes, grid: str) -> None:
    """Take away what `ax` needs not, and draw its lines along `grid` ("x", "y", "both") behind the data."""
    ax.set_facecolor("white")
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GREY)
    ax.tick_params(colors=INK, labelsize=8)
    ax.grid(axis=grid, color=PALE, linewidth=0.6)  # type: ignore[arg-type]
    ax.set_axisbelow(True)


def _annotate(
    ax: Axes, text: str, point: Point, offset: Point, coordinates: str | tuple[str, str], **style: Any
) -> None:
    """Write `text` `offset` points away from `point`."""
    style = {"fontsize": 8, "color": INK, "textcoords": "offset points", **style}
    ax.annotate(text, point, xytext=offset, xycoords=coordinates, **style)


# --- images per class ---------------------------------------------------------------------------------------------


def plot_class_distribution(datasets: Sequence[Dataset], *, classes: int | None = None) -> Figure:
    """Plot the number of images per class, one panel per data set, three panels to a row.

    Args:
        datasets: labelled sets of one task; the classes of all of them make the x axis of each.
        classes: the number of classes where it is known (a network's), else the largest label + 1.

    Raises:
        ValueError: no data sets.
        UnreadableData: a data set without labels.
    """
    if not datasets:
        raise ValueError("expected at least one data set, got none")
    named = [len(dataset.class_names) for dataset in datasets if dataset.class_names]
    seen = [int(dataset.targets.max()) + 1 for dataset in datasets]
    total = max([classes or 0, *named, *seen])
    columns = min(len(datasets), 3)
    rows = math.ceil(len(datasets) / columns)
    figure = new_figure(max(4.6 * columns, 5.4), 3.5 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, dataset in zip(panels, datasets, strict=False):
        _plot_classes(ax, dataset, total)
    for ax in panels[len(datasets) :]:
        ax.remove()
    return figure


def _plot_classes(ax: Axes, dataset: Dataset, classes: int) -> None:
    from matplotlib.ticker import MaxNLocator

    counts = np.bincount(dataset.targets, minlength=classes)
    poisoned = dataset.true_targets is not None
    colour = VERMILLION if poisoned else BLUE
    clear_axes(ax, "y")
    if classes <= MOST_BARS:
        bars = ax.bar(np.arange(classes), counts, width=0.8, color=colour)
        if classes <= 12:
            ax.bar_label(bars, labels=[f"{count:,}" for count in counts], fontsize=7, color=GREY, padding=1.5)
    else:
        taken = np.flatnonzero(counts)
        ax.vlines(taken, 0, counts[taken], color=colour, linewidth=min(max(0.8, 60 / len(taken)), 4))
    _name_classes(ax, dataset, classes)
    ax.set_xlim(-0.01 * classes - 0.6, 1.01 * classes - 0.4)
    ax.set_ylim(0, max(1, int(counts.max())) * 1.1)
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ax.set_xlabel("target class (the attacker's label)" if poisoned else "class", fontsize=9)
    ax.set_ylabel("images", fontsize=9)
    ax.set_title(plain(dataset.name, 44), fontsize=10, fontweight="bold", loc="left", pad=30)
    _annotate(ax, describe_counts(counts), (0, 1), (0, 4), "axes fraction", va="bottom", color=GREY)


def _name_classes(ax: Axes, dataset: Dataset, classes: int) -> None:
    from matplotlib.ticker import MaxNLocator

    if classes > 20:
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
        return
    given = dataset.class_names or ()
    # A number without a folder of that name has an empty one.
    names = [plain(given[k], 18) if k < len(given) and given[k] else str(k) for k in range(classes)]
    slanted = max(map(len, names)) * classes > 60
    ax.set_xticks(range(classes), names, rotation=45 if slanted else 0, ha="right" if slanted else "center")
    if slanted:
        for label in ax.get_xticklabels():
            label.set_rotation_mode("anchor")


def describe_counts(counts: npt.NDArray[np.int64]) -> str:
    """Say in two lines how many images and classes there are, and how evenly the images are spread over the classes."""
    empty = int((counts == 0).sum())
    return (
        f"n = {counts.sum():,} images, {len(counts):,} classes ({empty:,} empty)\n"
        f"images per class: min {counts.min():,} / median {np.median(counts):,.4g} / max {counts.max():,}"
    )


def draw_class_distribution(datasets: Sequence[Dataset], path: str | Path, *, classes: int | None = None) -> Path:
    """Write `plot_class_distribution` to `path` and return the path."""
    return write_figure(plot_class_distribution(datasets, classes=classes), path)


# --- pruning ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PruningCurve:
    """What pruning does to a network, channel by channel; rates and drops are fractions in [0, 1].

    Args:
        title: of the panel, e.g. the order of pruning.
        channels: channels of the layer.
        accuracy: accuracy[k] with k channels pruned, k = 0..channels, or fewer where pruning stopped.
        attack_success_rates: for each poisoned set, by name, the ASR with k channels pruned, as long as `accuracy`.
        thresholds: accuracy drop (0.02 is two points) -> the number of channels pruned when it was first reached.

    Raises:
        ValueError: no accuracies, more than channels + 1, lengths that differ, or a threshold off the curve.
    """

    title: str
    channels: int
    accuracy: Sequence[float]
    attack_success_rates: Mapping[str, Sequence[float]] = field(default_factory=dict)
    thresholds: Mapping[float, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= len(self.accuracy) <= self.channels + 1:
            raise ValueError(
                f"'{self.title}': expected 1 to {self.channels + 1} accuracies for {self.channels} channels, "
                f"got {len(self.accuracy)}"
            )
        for name, rates in self.attack_success_rates.items():
            if len(rates) != len(self.accuracy):
                raise ValueError(f"'{self.title}': {len(self.accuracy)} accuracies, but {len(rates)} ASRs of '{name}'")
        for drop, pruned in self.thresholds.items():
            if not 0 < drop <= 1 or not 0 <= pruned < len(self.accuracy):
                raise ValueError(
                    f"'{self.title}': expected an accuracy drop between 0 and 1 at 0..{len(self.accuracy) - 1} "
                    f"channels, got {drop} at {pruned}"
                )


def plot_pruning_curves(curves: Sequence[PruningCurve], *, title: str | None = None) -> Figure:
    """Plot accuracy and ASR (rates in [0, 1]) against the fraction of channels pruned, one panel per curve.

    A dashed line and a ring mark where each accuracy threshold was reached: "2 %: 45/60" is a drop of 0.02 at 45 of
    60 channels.

    Raises:
        ValueError: no curves.
    """
    if not curves:
        raise ValueError("expected at least one pruning curve, got none")
    columns = min(len(curves), 3)
    rows = math.ceil(len(curves) / columns)
    figure = new_figure(max(4.4 * columns, 5.0), 3.7 * rows + (0.9 if title else 0.5))
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    names = list(dict.fromkeys(name for curve in curves for name in curve.attack_success_rates))
    levels = max(len(_reached(curve)) for curve in curves)
    for ax, curve in zip(panels, curves, strict=False):
        _plot_curve(ax, curve, names, levels)
    for ax in panels[len(curves) :]:
        ax.remove()
    for ax in panels[::columns]:
        ax.set_ylabel("rate", fontsize=9)
    lines = {str(line.get_label()): line for ax in panels[: len(curves)] for line in ax.get_lines()}
    shown = {name: line for name, line in lines.items() if not name.startswith("_")}
    columns = 1 if columns == 1 else min(len(shown), columns + 1)
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=columns, frameon=False, fontsize=8.5)
    if title:
        figure.suptitle(plain(title, round(11 * figure.get_figwidth())), fontsize=11, fontweight="bold")
    return figure


def _plot_curve(ax: Axes, curve: PruningCurve, poisoned: Sequence[str], levels: int) -> None:
    clear_axes(ax, "both")
    fractions = np.arange(len(curve.accuracy)) / curve.channels
    ax.plot(fractions, curve.accuracy, color=BLUE, linewidth=1.8, label="accuracy", zorder=3)
    for number, name in enumerate(poisoned):
        if name in curve.attack_success_rates:
            colour, style = _POISONED_STYLES[number % len(_POISONED_STYLES)]
            label = plain(f"ASR: {name}" if name else "ASR", 42)
            rates = curve.attack_success_rates[name]
            ax.plot(fractions, rates, color=colour, linestyle=style, linewidth=1.8, label=label)
    _mark_thresholds(ax, curve)
    ax.set_xlim(-0.012, 1.012)
    ax.set_ylim(0, 1.02)
    ax.tick_params(labelleft=True)
    ax.set_xlabel(f"fraction of the {curve.channels} channels pruned", fontsize=9)
    ax.set_title(plain(curve.title, 48), fontsize=10, fontweight="bold", loc="left", pad=8 + _LEVEL * levels)


#: Height of a line of threshold labels above a panel, in points.
_LEVEL = 12.5


def _mark_thresholds(ax: Axes, curve: PruningCurve) -> None:
    """Draw the threshold lines; each label has a line of its own above the panel, so that none meets another."""
    reached = _reached(curve)
    # The line farthest to the side on which the labels stand is the shortest: no line crosses a label.
    side = "left" if sum(reached) <= len(reached) * curve.channels / 2 else "right"
    for level, pruned in enumerate(sorted(reached, reverse=side == "left")):
        x = pruned / curve.channels
        words = ", ".join(f"{100 * drop:g} %" for drop in reached[pruned])
        ax.axvline(x, color=GREY, linestyle=(0, (4, 3)), linewidth=0.9, label="accuracy has dropped by")
        ring: dict[str, Any] = {
            "color": BLUE,
            "markerfacecolor": "white",
            "markersize": 6,
            "zorder": 4,
            "clip_on": False,
        }
        ax.plot([x], [curve.accuracy[pruned]], "o", label=f"_reached {words}", **ring)
        offset = (3 if side == "left" else -3, 3 + _LEVEL * level)
        coords = ("data", "axes fraction")
        _annotate(ax, f"{words}: {pruned}/{curve.channels}", (x, 1), offset, coords, ha=side, va="bottom")
        tail = {"arrowstyle": "-", "color": GREY, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
        _annotate(ax, "", (x, 1), (0, _LEVEL * (level + 1)), coords, arrowprops=tail)


def _reached(curve: PruningCurve) -> dict[int, list[float]]:
    """Return the accuracy drops first reached with k channels pruned, by k."""
    reached: dict[int, list[float]] = {}
    for drop in sorted(curve.thresholds):
        reached.setdefault(curve.thresholds[drop], []).append(drop)
    return reached


def draw_pruning_curves(curves: Sequence[PruningCurve], path: str | Path, *, title: str | None = None) -> Path:
    """Write `plot_pruning_curves` to `path` and return the path."""
    return write_figure(plot_pruning_curves(curves, title=title), path)


# --- rates --------------------------------------------------------------------------------------------------------


def plot_rates(rows: Sequence[tuple[str, Metrics]]) -> Figure:
    """Plot every rate of every network with its 95 % Wilson interval, one kind of rate after another.

    Args:
        rows: (network's name, its metrics), the original first; what a network has no value for is left out.

    Raises:
        ValueError: no networks, or none with a rate.
    """
    measures = list(list_measures(rows))
    if not measures:
        raise ValueError(
            "expected at least one network with a rate, got " + ("none" if not rows else "metrics without rates")
        )
    lines = sum(len(measure.rows) + 1.25 for measure in measures)
    figure = new_figure(8.2, 0.26 * lines + 0.8)
    ax = figure.subplots()
    clear_axes(ax, "x")
    y, ticks = 0.0, []
    for measure in measures:
        header = {"fontsize": 9, "fontweight": "bold", "color": INK, "va": "center"}
        ax.text(0, y, f"{plain(measure.name)} ({measure.better})", header, transform=ax.get_yaxis_transform())
        colour = BLUE if "higher" in measure.better else VERMILLION
        for network, rate in measure.rows:
            y += 1
            ticks.append((y, plain(network, 40)))
            _plot_rate(ax, y, rate, colour)
        y += 1.25
    ax.set_yticks([tick for tick, _ in ticks], [label for _, label in ticks])
    ax.set_ylim(y - 0.55, -0.7)
    ax.set_xlim(-0.015, 1.015)
    ax.set_xlabel("rate (dot) with its 95 % Wilson interval (bar)", fontsize=9)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    return figure


def _plot_rate(ax: Axes, y: float, rate: Rate, colour: str) -> None:
    ax.plot([rate.low, rate.high], [y, y], color=colour, linewidth=4, alpha=0.35, solid_capstyle="butt", zorder=3)
    ax.plot([rate.value], [y], "o", color=colour, markersize=6, clip_on=False, zorder=4)
    words = f"{rate.value:.4f}  [{rate.low:.3f}, {rate.high:.3f}]  n = {rate.n:,}"
    _annotate(ax, words, (1, y), (10, 0), ("axes fraction", "data"), va="center")


def draw_rates(rows: Sequence[tuple[str, Metrics]], path: str | Path) -> Path:
    """Write `plot_rates` to `path` and return the path."""
    return write_figure(plot_rates(rows), path)
