"""A repair's part of a report: the networks it made, what was changed, and what that cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goodnet.core.results import Rate
from goodnet.reports.charts import Chart, class_chart, pruning_chart
from goodnet.reports.facts import Fact, list_facts
from goodnet.reports.figures import PruningCurve
from goodnet.reports.run_folders import RunFolder
from goodnet.reports.tables import describe_changes

#: Rows of the table of the classes that changed most.
_ROWS = 10


@dataclass(frozen=True)
class RepairedRow:
    """One network of a repair: accuracy on the clean data given, what was changed, whether it is the one to use."""

    name: str
    accuracy: Rate
    change: str = ""
    recommended: bool = False


@dataclass(frozen=True)
class ClassRow:
    """Accuracy on `n` images of one class before and after the repair."""

    label: int
    before: float
    after: float
    n: int


@dataclass(frozen=True)
class RepairSection:
    """What the page shows of one repair, its original first among the rows."""

    folder: str
    model: str
    method: str
    sentence: str
    rows: tuple[RepairedRow, ...] = ()
    charts: tuple[Chart, ...] = ()
    classes: tuple[ClassRow, ...] = ()
    checks: tuple[Fact, ...] = ()


def repair_section(folder: RunFolder) -> RepairSection:
    """Return what to show of a repair.

    Raises:
        KeyError, TypeError, ValueError: the record is no repair's.
    """
    run = folder.run
    method = "" if run is None else run.method or ""
    if run is None or run.result is None:
        return RepairSection(folder.name, folder.model, method, folder.failed("repair"))
    result, trace = run.result, run.result["trace"]
    before = Rate.model_validate(result["accuracy_before"])
    rows = tuple(
        RepairedRow(
            str(item["name"]),
            Rate.model_validate(item["accuracy"]),
            _describe(item["changes"]),
            item["name"] == result["recommended"],
        )
        for item in result["networks"]
    )
    chosen = next(row for row in rows if row.recommended)
    diff = trace.get("diff") or {}
    changed = [_class_row(item) for item in diff.get("per_class", ())]
    return RepairSection(
        folder=folder.name,
        model=folder.model,
        method=method,
        sentence=_sentence(folder.model, method, result, before, chosen.accuracy),
        rows=(RepairedRow("original", before), *rows),
        charts=(*_pruning_charts(trace), *_class_charts(changed)),
        classes=_most_changed(changed),
        checks=_checks(diff),
    )


def _sentence(model: str, method: str, result: Mapping[str, Any], before: Rate, after: Rate) -> str:
    changes = result["networks"][-1]["changes"]
    if changes.get("method") == "none":
        return f"{model} was not repaired and is as it was: {changes['why']}."
    words = f"{model} was repaired by {method.replace('_', ' ')}: accuracy on the clean data given"
    return f"{words} {before.value:.4f} before, {after.value:.4f} after."


def _checks(diff: Mapping[str, Any]) -> tuple[Fact, ...]:
    agreement = {"answers as the original gives them": diff.get("agreement")}
    return (*list_facts(agreement), *list_facts(diff.get("surrogate_attack_success") or {}, "attack success, "))


def _describe(changes: Mapping[str, Any]) -> str:
    if "channels_pruned" in changes:
        return describe_changes(changes)
    return ", ".join(f"{fact.name} {fact.text}" for fact in list_facts(changes))


def _pruning_charts(trace: Mapping[str, Any]) -> tuple[Chart, ...]:
    if "pruned_at_threshold" not in trace:
        return ()
    curve = PruningCurve(
        title=f"{trace['layer']}, {trace['order']}, on the clean data given",
        channels=len(trace["channels"]),
        accuracy=trace["accuracy"],
        thresholds={float(x): k for x, k in trace["pruned_at_threshold"].items() if k is not None},
    )
    return (pruning_chart(curve),)


def _class_row(item: Mapping[str, Any]) -> ClassRow:
    return ClassRow(int(item["class"]), _share(item["before"]), _share(item["after"]), int(item["n"]))


def _share(value: Any) -> float:
    return float(value["value"] if isinstance(value, Mapping) else value)


def _class_charts(rows: Sequence[ClassRow]) -> tuple[Chart, ...]:
    if not rows:
        return ()
    changes = {row.label: row.after - row.before for row in rows}
    values = [changes.get(label) for label in range(max(changes) + 1)]
    return (class_chart("accuracy after minus before, per class", values),)


def _most_changed(rows: Sequence[ClassRow]) -> tuple[ClassRow, ...]:
    changed = [row for row in rows if row.after != row.before]
    return tuple(sorted(changed, key=lambda row: row.after - row.before)[:_ROWS])
