"""The tables of a bench and of a zoo: CSV for spreadsheets, rich for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goodnet.evaluation.badnet_files import Truth
from goodnet.evaluation.bench import Bench
from goodnet.evaluation.bench_records import CellFamily, CellRecord
from goodnet.evaluation.bench_summary import Number, SummaryRow, summarise
from goodnet.evaluation.zoo import BrokenTwin, Manifest
from goodnet.formats.files import write_text
from goodnet.reports.tables import to_csv

if TYPE_CHECKING:
    from rich.table import Table

#: Table of each family: its file name and what it says.
_TABLES: dict[CellFamily, tuple[str, str]] = {
    "scanners": ("detection", "detection: a scan that failed or could not tell counts as a miss"),
    "repairers": ("repair", "repair: means over networks"),
    "guards": ("guards", "guards: means over networks"),
}


def write_bench(out: Path, bench: Bench) -> None:
    """Write the tables of a bench (without times) and, in `seconds.csv`, the times."""
    for family, (name, _) in _TABLES.items():
        records = bench.of(family)
        if records:
            write_text(out / f"{name}.csv", summary_csv(summarise(family, records)))
            write_text(out / f"{name}_cells.csv", cells_csv(records))
    rows = [
        [record.label, record.network, record.seed, "" if seconds is None else seconds]
        for record, seconds in zip(bench.records, bench.seconds, strict=True)
    ]
    write_text(out / "seconds.csv", to_csv(["method", "network", "seed", "seconds"], rows))


def summary_csv(rows: Sequence[SummaryRow]) -> str:
    """Return the rows as CSV: value, n, low and high of every number."""
    names = list(rows[0].numbers)
    header = [
        "method",
        "attack",
        "cells",
        "failed",
        *(f"{name}{part}" for name in names for part in ("", " n", " low", " high")),
    ]
    return to_csv(header, ([r.label, r.attack, r.cells, r.failed, *_numbers(r, names)] for r in rows))


def _numbers(row: SummaryRow, names: Sequence[str]) -> list[object]:
    numbers: list[object] = []
    for name in names:
        number = row.numbers[name]
        if number is None:
            numbers += ["", 0, "", ""]
        else:
            numbers += [number.value, number.n, *("" if end is None else end for end in (number.low, number.high))]
    return numbers


def cells_csv(records: Sequence[CellRecord]) -> str:
    """Return single cells as CSV: every number of every cell, or its error."""
    flat = [{} if record.result is None else _flatten(record.result.model_dump(mode="json")) for record in records]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    header = ["method", "network", "attack", "backdoored", "seed", "error", *columns]
    rows = [
        [
            *(record.label, record.network, record.attack, record.backdoored, record.seed),
            "" if record.error is None else f"{record.error.kind}: {record.error.message}",
            *(row.get(name, "") for name in columns),
        ]
        for record, row in zip(records, flat, strict=True)
    ]
    return to_csv(header, rows)


def _flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Return nested records as one level: `after.attack_success_rate.badnets.value`."""
    flat: dict[str, object] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = " ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return flat


def bench_tables(bench: Bench) -> list[Table]:
    """Return the tables for the terminal, with the mean seconds of a cell."""
    return [_table(bench, family, title) for family, (_, title) in _TABLES.items() if bench.of(family)]


def _table(bench: Bench, family: CellFamily, title: str) -> Table:
    from rich.table import Table

    rows = summarise(family, bench.of(family))
    table = Table(title=f"{title}; in brackets 95 % intervals", title_style="dim", title_justify="left")
    for column in ("method", "attack", "cells", "failed", *rows[0].numbers, "seconds"):
        table.add_column(column, overflow="fold")
    for row in rows:
        cells = [show_number(number) for number in row.numbers.values()]
        seconds = _mean_seconds(bench, family, row)
        failed = f"[red]{row.failed}[/red]" if row.failed else "0"
        table.add_row(row.label, row.attack, str(row.cells), failed, *cells, seconds, end_section=row.attack == "all")
    return table


def show_number(number: Number) -> str:
    """Return a number for a narrow column: its value, its interval below it, and its n."""
    if number is None:
        return "-"
    if number.low is None or number.high is None:
        return f"[b]{number.value:.3f}[/b]\nn={number.n}"
    return f"[b]{number.value:.3f}[/b]\n\\[{number.low:.2f} {number.high:.2f}]\nn={number.n}"


def _mean_seconds(bench: Bench, family: CellFamily, row: SummaryRow) -> str:
    times = [
        seconds
        for record, seconds in zip(bench.records, bench.seconds, strict=True)
        if seconds is not None
        and (record.family, record.label) == (family, row.label)
        and row.attack in ("all", record.attack)
    ]
    return f"{sum(times) / len(times):.1f}" if times else "-"


def zoo_table(manifest: Manifest) -> Table:
    """Return the pairs of a zoo for the terminal: accuracy of both twins and the success of the attack."""
    from rich.table import Table

    table = Table(title="clean accuracy and ASR on test images", title_style="dim", title_justify="left")
    for column in ("pair", "network", "accuracy", "clean twin", "ASR", "n"):
        table.add_column(column)
    for pair in manifest.pairs:
        table.add_row(pair.name, pair.architecture, *_pair_cells(pair.poisoned, pair.clean))
    return table


def _pair_cells(poisoned: Truth | BrokenTwin, clean: Truth | BrokenTwin) -> list[str]:
    twins = [
        f"[red]{twin.error.kind}[/red]"
        if isinstance(twin, BrokenTwin)
        else "-"
        if twin.metrics.clean_accuracy is None
        else f"{twin.metrics.clean_accuracy.value:.3f}"
        for twin in (poisoned, clean)
    ]
    rates = list(poisoned.metrics.attack_success_rate.values()) if isinstance(poisoned, Truth) else []
    return [*twins, ", ".join(f"{rate.value:.3f}" for rate in rates), ", ".join(str(rate.n) for rate in rates)]
