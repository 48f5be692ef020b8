"""Results as tables: for the terminal (rich) and for spreadsheets (CSV)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.markup import escape

from goodnet.core.results import Evaluation, Rate, Row, named_rates

if TYPE_CHECKING:
    from rich.table import Table

    from goodnet.core.classifier import Classifier
    from goodnet.core.dataset import Dataset
    from goodnet.core.repairs import Repair


def pruning_csv(columns: Mapping[str, Sequence[float]]) -> str:
    """Return a pruning sweep as CSV: `Neurons Pruned`, then one column of rates per entry of `columns`."""
    levels = len(next(iter(columns.values())))
    rows = [[level, *(values[level] for values in columns.values())] for level in range(levels)]
    return to_csv(["Neurons Pruned", *columns], rows)


def to_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as CSV text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _columns(evaluation: Evaluation) -> list[str]:
    names: dict[str, None] = {}
    for row in reversed(evaluation.rows):
        names |= {name: None for name, rate in named_rates(row.metrics).items() if rate is not None}
    return list(names)


def evaluation_csv(evaluation: Evaluation) -> str:
    """Return an evaluation as CSV: one line per network, value, n, low and high of every rate."""
    columns = _columns(evaluation)
    header = ["network", "order", "threshold", "channels pruned", "channels"]
    header += [f"{name}{part}" for name in columns for part in ("", " n", " low", " high")]
    return to_csv(header, ([*_how(row), *_numbers(row, columns)] for row in evaluation.rows))


def _how(row: Row) -> list[object]:
    return [row.name, row.order or "", row.threshold or "", _blank(row.channels_pruned), _blank(row.channels)]


def _blank(value: int | None) -> object:
    return "" if value is None else value


def _numbers(row: Row, columns: Sequence[str]) -> list[object]:
    rates = named_rates(row.metrics)
    numbers: list[object] = []
    for name in columns:
        rate = rates.get(name)
        numbers += ["", "", "", ""] if rate is None else [rate.value, rate.n, rate.low, rate.high]
    return numbers


def evaluation_tables(evaluation: Evaluation, width: int) -> list[Table]:
    """Return an evaluation for a terminal of `width` columns, each rate with its 95 % interval.

    Up to three networks stand side by side. More of them stand one below the other where that fits, else they come
    in tables of two, so that nothing is ever cut off.
    """
    rows = evaluation.rows
    if len(rows) <= _SIDE_BY_SIDE:
        return [_side_by_side(rows, _columns(evaluation))]
    stacked, needed = _stacked(rows, _columns(evaluation))
    if needed <= width:
        return [stacked]
    # The original by itself, then each repaired network beside its GoodNet.
    groups = [rows[:1], *(rows[start : start + 2] for start in range(1, len(rows), 2))]
    return [_side_by_side(group, _columns(evaluation)) for group in groups]


#: Networks that one table shows as columns.
_SIDE_BY_SIDE = 3
_TITLE = "fractions in [0, 1], in brackets the 95 % Wilson interval"


def _side_by_side(rows: Sequence[Row], columns: Sequence[str]) -> Table:
    from rich.table import Table

    rates = [named_rates(row.metrics) for row in rows]
    cells = dict(_facts(rows)) | {name: [show_rate(item.get(name)) for item in rates] for name in columns}
    table = Table(title=_TITLE, title_style="dim", title_justify="left")
    table.add_column("", overflow="fold")
    for row in rows:
        table.add_column(escape(row.name), overflow="fold")
    for name, values in cells.items():
        table.add_row(escape(name), *values)
    return table


def _stacked(rows: Sequence[Row], columns: Sequence[str]) -> tuple[Table, int]:
    """Return the table with one network per line, and the width below which it would be cut off."""
    from rich.table import Table

    facts = dict(_facts(rows))
    rates = [named_rates(row.metrics) for row in rows]
    table = Table(title=f"{_TITLE}, {_counts(rows)}", title_style="dim", title_justify="left")
    table.add_column("", no_wrap=True)
    widths = [max(len(row.name) for row in rows)]
    for name in (*facts, *columns):
        title = name.replace(", ", ",\n") if "," in name else name.replace(" ", "\n")
        widths.append(max(13 if name in columns else 0, *map(len, (*title.split("\n"), *facts.get(name, [])))))
        table.add_column(escape(title), no_wrap=True)
    for position, row in enumerate(rows):
        numbers = [_compact(rates[position].get(name)) for name in columns]
        known = [values[position] for values in facts.values()]
        table.add_row(escape(row.name), *known, *numbers, end_section=row is rows[0])
    return table, sum(widths) + 3 * len(widths) + 1


def _compact(rate: Rate | None) -> str:
    """Return a rate for a narrow column: its value, and its interval below it."""
    return "" if rate is None else f"[b]{rate.value:.4f}[/b]\n\\[{rate.low:.3f} {rate.high:.3f}]"


def _counts(rows: Sequence[Row]) -> str:
    """Return how many images the rates are of, the same for all networks of a table."""
    metrics = rows[0].metrics
    counts = {} if metrics.clean_accuracy is None else {"clean": metrics.clean_accuracy.n}
    counts |= {name: rate.n for name, rate in metrics.attack_success_rate.items()}
    return "n = " + ", ".join(f"{n} ({escape(name)})" for name, n in counts.items())


def _facts(rows: Sequence[Row]) -> list[tuple[str, list[str]]]:
    facts = [
        ("pruned", ["" if r.channels_pruned is None else f"{r.channels_pruned}/{r.channels}" for r in rows]),
        ("order", [r.order or "" for r in rows]),
        ("threshold", ["" if r.threshold is None else f"{r.threshold:g}" for r in rows]),
    ]
    return [(name, cells) for name, cells in facts if any(cells)]


def show_rate(rate: Rate | None) -> str:
    """Return a rate for a table: value, interval, n."""
    if rate is None:
        return ""
    return f"[b]{rate.value:.4f}[/b] \\[{rate.low:.3f}, {rate.high:.3f}] n={rate.n}"


def repair_table(repair: Repair, files: Mapping[str, str]) -> Table:
    """Return a repair for the terminal: what was changed in each network and what that cost on the clean data given."""
    from rich.table import Table

    table = Table(title="measured on the clean data given", title_style="dim", title_justify="left")
    for column in ("network", "accuracy", "change", "written to"):
        table.add_column(column)
    table.add_row("original", show_rate(repair.accuracy_before), "", "")
    for network in (*repair.steps, *repair.networks):
        file = files.get(network.name, "")
        table.add_row(escape(network.name), show_rate(network.accuracy), escape(str(network.changes)), escape(file))
    return table


def layer_table(classifier: Classifier) -> Table:
    """Return the layers of a network for the terminal."""
    from rich.table import Table

    table = Table()
    for column, justify in (
        ("layer", "left"),
        ("kind", "left"),
        ("output", "left"),
        ("parameters", "right"),
        ("can be pruned", "left"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for layer in classifier.layers():
        shape = " x ".join(map(str, layer.output_shape))
        table.add_row(
            escape(layer.name),
            escape(layer.kind),
            shape,
            f"{layer.parameters:,}" if layer.parameters else "",
            "yes" if layer.prunable else "",
        )
    return table


def data_table(dataset: Dataset) -> Table:
    """Return what a data set holds for the terminal; goes through all images once."""
    from rich.table import Table

    low, high = pixel_range(dataset)
    table = Table(show_header=False, title=escape(dataset.name), title_justify="left", title_style="bold")
    table.add_row("images", f"{len(dataset):,}")
    table.add_row("shape", " x ".join(map(str, dataset.image_shape)) + "  (channels x height x width)")
    table.add_row("pixels", f"{low * 255:.0f} to {high * 255:.0f} of 0..255")
    if dataset.labels is None:
        table.add_row("labels", "none")
        return table
    classes, counts = np.unique(dataset.targets, return_counts=True)
    table.add_row("classes", f"{len(classes):,}  (labels {classes.min()} to {classes.max()})")
    table.add_row("images per class", f"{counts.min()} to {counts.max()}, median {np.median(counts):g}")
    if dataset.true_targets is not None:
        table.add_row("true labels", "known: the set is poisoned, its labels are targets")
    return table


def class_table(dataset: Dataset) -> Table:
    """Return which name, of data in class folders that of the folder, is which class, for the terminal.

    Classes without images are shown, too; numbers that no folder has are not.

    Raises:
        UnreadableData: the data has no labels.
    """
    from rich.table import Table

    names = dataset.class_names or ()
    counts = np.bincount(dataset.targets, minlength=len(names))
    table = Table()
    for column, justify in (("class", "right"), ("folder", "left"), ("images", "right")):
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for number, name in enumerate(names):
        if name:
            table.add_row(str(number), escape(name), f"{counts[number]:,}")
    return table


def pixel_range(dataset: Dataset) -> tuple[float, float]:
    """Return the smallest and the largest pixel, in [0, 1]."""
    ranges = [(float(batch.images.min()), float(batch.images.max())) for batch in dataset.batches()]
    return min(low for low, _ in ranges), max(high for _, high in ranges)
