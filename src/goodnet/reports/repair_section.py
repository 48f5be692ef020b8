"""A repair's part of a report: the networks it made, what was changed, and what that cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from goodnet.core.repairs import Change, ClassAccuracy, Difference, RepairRecord
from goodnet.core.results import Rate
from goodnet.reports.class_figures import plot_changes
from goodnet.reports.facts import Fact, list_facts, show_number
from goodnet.reports.inline_pictures import Chart, inline_figure, pruning_chart
from goodnet.reports.run_folders import RunFolder
from goodnet.reports.runs import validation_curve

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
class RepairSection:
    """What the page shows of one repair, its original first among the rows."""

    folder: str
    model: str
    method: str
    sentence: str
    rows: tuple[RepairedRow, ...] = ()
    charts: tuple[Chart, ...] = ()
    classes: tuple[ClassAccuracy, ...] = ()
    checks: tuple[Fact, ...] = ()


def repair_section(folder: RunFolder) -> RepairSection:
    """Return what to show of a repair."""
    found = folder.result
    method = "" if folder.run is None else folder.run.method or ""
    if not isinstance(found, RepairRecord):
        return RepairSection(folder.name, folder.model, method, folder.failed("repair"))
    rows = tuple(
        RepairedRow(item.name, item.accuracy, _describe(item.changes), item.name == found.recommended)
        for item in found.networks
    )
    diff = found.trace.diff
    classes = () if diff is None else diff.per_class
    return RepairSection(
        folder=folder.name,
        model=folder.model,
        method=method,
        sentence=_sentence(folder.model, method, found),
        rows=(RepairedRow("original", found.accuracy_before), *rows),
        charts=tuple(_charts(found, str(folder.path))),
        classes=_most_changed(classes),
        checks=() if diff is None else _checks(diff),
    )


def _sentence(model: str, method: str, found: RepairRecord) -> str:
    if found.chosen.changes.why is not None:
        return f"{model} was not repaired and is as it was: {found.chosen.changes.why}."
    before, after = found.accuracy_before.value, found.chosen.accuracy.value
    words = f"{model} was repaired by {method.replace('_', ' ')}: accuracy on the clean data given"
    late = f" Its budget did not suffice: {found.trace.out_of_time}." if found.trace.out_of_time else ""
    return f"{words} {before:.4f} before, {after:.4f} after.{late}"


def _checks(diff: Difference) -> tuple[Fact, ...]:
    facts = [Fact("same predictions as the original", show_number(diff.agreement.value), diff.agreement)]
    if (success := diff.surrogate_attack_success) is not None:
        facts.append(Fact("attack success, before", show_number(success.before)))
        facts.append(Fact("attack success, after", show_number(success.after)))
    return tuple(facts)


def _describe(changes: Change) -> str:
    if changes.channels_pruned is not None:
        return str(changes)
    return ", ".join(f"{fact.name} {fact.text}" for fact in list_facts(changes.model_dump()))


def _charts(found: RepairRecord, key: str) -> Iterator[Chart]:
    if (sweep := found.trace.sweep) is not None:
        yield pruning_chart(validation_curve(sweep), key)
    if (diff := found.trace.diff) is not None and diff.per_class:
        title = "accuracy after minus before, per class"
        most = max(abs(row.after - row.before) for row in diff.per_class)
        summary = f"{title}, of {len(diff.per_class)} classes; the largest change is {most:.3f}"
        yield Chart(title, inline_figure(plot_changes(diff.per_class), summary, f"{key} changes"))


def _most_changed(rows: Sequence[ClassAccuracy]) -> tuple[ClassAccuracy, ...]:
    changed = [row for row in rows if row.after != row.before]
    return tuple(sorted(changed, key=lambda row: row.after - row.before)[:_ROWS])
