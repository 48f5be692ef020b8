"""An evaluation's part of a report: every rate of every network with its interval, and pruning curves with the ASR."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from goodnet.core.results import Evaluation, Rate
from goodnet.reports.figures import PruningCurve
from goodnet.reports.inline_pictures import Chart, pruning_chart
from goodnet.reports.measures import Measure, list_measures
from goodnet.reports.run_folders import RunFolder


@dataclass(frozen=True)
class MeasuredSection:
    """What the page shows of one evaluation or guard; `figures` are the numbers that a reader looks for first: (what, value)."""

    folder: str
    model: str
    sentence: str
    figures: tuple[tuple[str, str], ...] = ()
    measures: tuple[Measure, ...] = ()
    charts: tuple[Chart, ...] = ()


def evaluation_section(folder: RunFolder) -> MeasuredSection:
    """Return what to show of an evaluation.

    Raises:
        KeyError, ValueError: a table of a pruning curve is damaged.
    """
    evaluation = folder.result
    if not isinstance(evaluation, Evaluation):
        return MeasuredSection(folder.name, folder.model, folder.failed("evaluation"))
    curves = [curve for path in sorted(folder.path.glob("pruning_*.csv")) for curve in _read_curve(path, evaluation)]
    return MeasuredSection(
        folder=folder.name,
        model=folder.model,
        sentence=_describe_subject(evaluation, folder.model),
        figures=tuple(_figures(evaluation)),
        measures=tuple(list_measures([(row.name, row.metrics) for row in evaluation.rows])),
        charts=tuple(pruning_chart(curve, str(folder.path)) for curve in curves),
    )


def _describe_subject(evaluation: Evaluation, model: str) -> str:
    first, last = evaluation.rows[0], evaluation.subject
    return f"Measured: {model}" if last is first else f"Measured: {last.name}, and before it {model}"


def _figures(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """Yield what the last network does and, before an arrow, what the original did."""
    first, last = evaluation.rows[0].metrics, evaluation.subject.metrics
    yield from _figure("clean accuracy", first.clean_accuracy, last.clean_accuracy)
    yield from _figure("clean images of the target classified correctly", first.target_recall, last.target_recall)
    if last.worst_class_drop is not None:
        drop = last.worst_class_drop
        yield f"class {drop.label}, which lost most", f"{drop.before.value:.3f} → {drop.after.value:.3f}"
    several = len(last.attack_success_rate) > 1
    for name, rate in last.attack_success_rate.items():
        what = f"attack success, {name}" if several else "attack success"
        yield from _figure(what, first.attack_success_rate.get(name), rate)
    yield from _figure("clean images refused", None, last.refused_clean)
    yield from _figure("clean images of the target refused", None, last.refused_clean_of_target)
    for name, rate in last.refused_poisoned.items():
        yield from _figure(f"triggered refused, {name}" if several else "triggered refused", None, rate)


def _figure(what: str, before: Rate | None, after: Rate | None) -> Iterator[tuple[str, str]]:
    if after is not None:
        earlier = "" if before is None or before is after else f"{before.value:.3f} → "
        yield what, f"{earlier}{after.value:.3f}"


def _read_curve(path: Path, evaluation: Evaluation) -> list[PruningCurve]:
    """Return the curve in a table that `evaluate` wrote for a pruning repair; none where accuracy was not measured."""
    with path.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    if not table or "Accuracy" not in table[0]:
        return []
    run = path.stem.removeprefix("pruning_")
    rows = [row for row in evaluation.rows if row.name.startswith(f"{run}/") and row.channels]
    pruned = {row.threshold: row.channels_pruned for row in rows}
    asr = [name for name in table[0] if name.startswith("ASR")]
    return [
        PruningCurve(
            title=f"{run}: on the evaluation's data",
            channels=max([len(table) - 1, *(row.channels or 0 for row in rows)]),
            accuracy=[float(line["Accuracy"]) for line in table],
            attack_success_rates={
                name.removeprefix("ASR").strip(): [float(line[name]) for line in table] for name in asr
            },
            thresholds={drop: k for drop, k in pruned.items() if drop is not None and k is not None and k < len(table)},
        )
    ]
