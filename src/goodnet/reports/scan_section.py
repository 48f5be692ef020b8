"""A scan's part of a report: verdict, evidence per class, recovered triggers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from goodnet.reports.charts import Chart, Value, class_chart
from goodnet.reports.facts import as_rate, show_number
from goodnet.reports.inline_pictures import inline_image
from goodnet.reports.run_folders import RunFolder
from goodnet.reports.scan_examples import ScanExamples, ShownTrigger, read_examples
from goodnet.reports.verdicts import Statement, state

#: Rows of the table of the highest scores.
_ROWS = 8
#: Targets that the sentence names before it counts them.
_NAMED = 5


@dataclass(frozen=True)
class Picture:
    """An image as a `data:` address, and the lines under it."""

    address: str
    title: str
    text: str = ""


@dataclass(frozen=True)
class TriggerPictures:
    """One recovered trigger: how it looks, large, and further images without and with it."""

    name: str
    size: str
    large: tuple[Picture, ...]
    pairs: tuple[tuple[Picture, Picture], ...]


@dataclass(frozen=True)
class ScanSection:
    """What the page shows of one scan; `rows` are the highest scores: class, score, evidence, suspected."""

    folder: str
    model: str
    statement: Statement
    figures: tuple[tuple[str, str], ...] = ()
    charts: tuple[Chart, ...] = ()
    kinds: tuple[str, ...] = ()
    rows: tuple[tuple[str, tuple[str, ...], bool], ...] = ()
    triggers: tuple[TriggerPictures, ...] = ()
    without_trigger: tuple[str, ...] = ()


def scan_section(folder: RunFolder) -> ScanSection:
    """Return what to show of a scan.

    Raises:
        KeyError, TypeError, ValueError: the record is no scan's.
        UnreadableData: the example images are damaged.
    """
    run = folder.run
    if run is None or run.result is None:
        error = "" if run is None or run.error is None else f"{run.error.kind}: {run.error.message}"
        return ScanSection(folder.name, folder.model, state("failed", folder.model, reason=error))
    result = run.result
    examples = read_examples(folder.path)
    targets = [int(item["target"]) for item in result["suspected"]]
    names = [_name(examples, target) for target in dict.fromkeys(targets)]
    if len(targets) == len(result["scores"]) and all(item["sources"] is not None for item in result["suspected"]):
        names = ["every class, each from another: all to all"]
    elif len(names) > _NAMED:
        names = [*names[:_NAMED], f"{len(names) - _NAMED} more classes"]
    scores: list[Value] = list(result["scores"])
    evidence: dict[str, list[Value]] = dict(result.get("evidence", {}))
    triggers = () if examples is None else tuple(_show_trigger(shown, examples) for shown in examples.triggers)
    pictured = set() if examples is None else {target for shown in examples.triggers for target in shown.targets}
    return ScanSection(
        folder=folder.name,
        model=folder.model,
        statement=state(
            result["verdict"], folder.model, names, "; ".join([str(result["reason"]), *result.get("notes", ())])
        ),
        figures=tuple(_figures(result, scores)),
        charts=_charts(result, scores, evidence, targets),
        kinds=tuple(evidence),
        rows=_rows(scores, evidence, targets, examples),
        triggers=triggers,
        without_trigger=tuple(_name(examples, target) for target in dict.fromkeys(targets) if target not in pictured),
    )


def _name(examples: ScanExamples | None, target: int) -> str:
    return f"class {target}" if examples is None else examples.name_class(target)


def _figures(result: Mapping[str, Any], scores: list[Value]) -> list[tuple[str, str]]:
    """Return the numbers that the page shows first: (what, value)."""
    known = [score for score in scores if score is not None]
    unscanned = len(result["unscanned"])
    figures = [("classes scanned", f"{len(scores) - unscanned:,}" + (f" of {len(scores):,}" if unscanned else ""))]
    if known:
        figures.append(("highest score", f"{max(known):.1f}"))
    figures.append(("threshold", show_number(result["threshold"])))
    accuracy = as_rate(result.get("clean_accuracy"))
    if accuracy is not None:
        figures.append((f"clean accuracy, n = {accuracy.n:,}", f"{accuracy.value:.4f}"))
    return figures


def _charts(
    result: Mapping[str, Any], scores: list[Value], evidence: Mapping[str, list[Value]], targets: list[int]
) -> tuple[Chart, ...]:
    if not scores:
        return ()
    unscanned = [int(label) for label in result["unscanned"]]
    total = class_chart("score", scores, threshold=float(result["threshold"]), suspected=targets, unscanned=unscanned)
    kinds = (
        class_chart(kind, values, suspected=targets, unscanned=unscanned, small=True)
        for kind, values in evidence.items()
    )
    return (total, *kinds)


def _rows(
    scores: list[Value], evidence: Mapping[str, list[Value]], targets: list[int], examples: ScanExamples | None
) -> tuple[tuple[str, tuple[str, ...], bool], ...]:
    known = sorted(((score, -label) for label, score in enumerate(scores) if score is not None), reverse=True)
    labels = [-label for _, label in known[: max(_ROWS, min(len(targets) + 3, 4 * _ROWS))]]
    return tuple(
        (
            _name(examples, label),
            tuple(_show(values[label]) for values in (scores, *evidence.values())),
            label in targets,
        )
        for label in labels
    )


def _show(value: Value) -> str:
    return "" if value is None else f"{value:.2f}"


def _show_trigger(shown: ShownTrigger, examples: ScanExamples) -> TriggerPictures:
    patch, stamped = shown.patch, shown.patch(examples.images)
    before = [_answer(examples, label) for label in examples.answers]
    after = [_answer(examples, label) for label in shown.answers]
    mask, factor = _brighten(patch.mask)
    large = (
        Picture(inline_image(examples.images[0]), "clean image", before[0]),
        Picture(inline_image(stamped[0]), "with the trigger", after[0]),
        Picture(inline_image(patch.mask * patch.pattern), "the trigger", "what is painted over the image"),
        Picture(inline_image(mask), "its mask", f"white: fully covered{factor}"),
    )
    pairs = tuple(
        (
            Picture(inline_image(examples.images[k]), "clean", before[k]),
            Picture(inline_image(stamped[k]), "stamped", after[k]),
        )
        for k in range(1, len(examples.images))
    )
    height, width = patch.mask.shape[1:]
    size = f"covers {patch.size:.1f} of {height * width:,} pixels ({patch.size / (height * width):.1%})"
    return TriggerPictures(examples.name_targets(shown), size, large, pairs)


def _answer(examples: ScanExamples, label: int) -> str:
    return f"answer: {examples.name_class(label)}"


def _brighten(mask: Tensor) -> tuple[Tensor, str]:
    """Return a faint mask with its largest value at 1, and the words that say so."""
    largest = float(mask.max())
    if largest >= 0.5 or largest == 0:
        return mask, ""
    return mask / largest, f"; brightened {1 / largest:.1f} times"
