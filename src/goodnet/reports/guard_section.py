"""A guard's part of a report: what it is expected to refuse, of clean inputs and of triggered ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from goodnet.core.results import Rate
from goodnet.reports.evaluation_section import MeasuredSection
from goodnet.reports.facts import show_number
from goodnet.reports.measures import Measure
from goodnet.reports.records import GoodNetRecord, GuardRecord
from goodnet.reports.run_folders import RunFolder


def guard_section(folder: RunFolder) -> MeasuredSection:
    """Return what to show of a guard."""
    found = folder.result
    if not isinstance(found, GuardRecord):
        return MeasuredSection(folder.name, folder.model, folder.failed("guard"))
    method = found.method.replace("_", " ")
    targets = ", ".join(map(str, found.targets))
    named = f"suspected target {targets}" if targets else "no target is suspected"
    kinds: dict[str, GuardRecord | GoodNetRecord] = {method: found}
    kinds |= {} if found.goodnet is None else {"GoodNet": found.goodnet}
    return MeasuredSection(
        folder=folder.name,
        model=folder.model,
        sentence=f"{folder.model} is guarded by {method}; {named}.",
        figures=tuple(_figures(found)),
        measures=(_refused_clean(kinds), *_refused_triggered(kinds)),
    )


def _figures(found: GuardRecord) -> list[tuple[str, str]]:
    figures = [("threshold", show_number(found.threshold))]
    goodnet = None if found.goodnet is None else found.goodnet.false_refusals
    for whose, expected in (("", found.false_refusals), (" by the GoodNet", goodnet)):
        if expected is not None:
            figures.append((f"clean inputs refused{whose}, expected", f"{expected.expected:.3f}"))
            figures.append((f"at most, with 95 % confidence, n = {expected.n:,}", f"{expected.bound:.3f}"))
    return figures


def _refused_clean(kinds: Mapping[str, GuardRecord | GoodNetRecord]) -> Measure:
    rows = tuple((name, item.refused_clean) for name, item in kinds.items())
    return Measure("clean images refused", "of those given, lower is better", rows)


def _refused_triggered(kinds: Mapping[str, GuardRecord | GoodNetRecord]) -> Sequence[Measure]:
    """Return a measure for each trigger like the recovered ones: what each guard refuses of the images that carry it."""
    found: dict[str, list[tuple[str, Rate]]] = {}
    for name, item in kinds.items():
        for surrogate in item.surrogates:
            works = surrogate.success.value
            what = f"a trigger of class {surrogate.target} refused: {surrogate.surrogate} (works on {works:.2f})"
            if surrogate.refused is not None:
                found.setdefault(what, []).append((name, surrogate.refused))
    return [Measure(what, "higher is better", tuple(rows)) for what, rows in found.items()]
