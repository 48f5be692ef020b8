"""A scan's part of a report: verdict, evidence per class, recovered triggers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from goodnet.core.results import Detection
from goodnet.reports.class_figures import plot_scores
from goodnet.reports.facts import show_number
from goodnet.reports.figures import NARROW
from goodnet.reports.inline_pictures import Chart, inline_figure, inline_image
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
        UnreadableData: the example images are damaged.
    """
    found = folder.result
    if not isinstance(found, Detection):
        return ScanSection(folder.name, folder.model, state("failed", folder.model, reasons=(folder.failure,)))
    examples = read_examples(folder.path)
    targets = list(dict.fromkeys(item.target for item in found.suspected))
    names = [_name_suspect(examples, found, target) for target in targets]
    if targets and found.all_to_all:
        names = ["every class, each from another: all to all"]
    elif len(names) > _NAMED:
        names = [*names[:_NAMED], f"{len(names) - _NAMED} more classes"]
    triggers = () if examples is None else tuple(_show_trigger(shown, examples) for shown in examples.triggers)
    pictured = set() if examples is None else {target for shown in examples.triggers for target in shown.targets}
    return ScanSection(
        folder=folder.name,
        model=folder.model,
        statement=state(found.verdict, folder.model, names, (*filter(None, found.reason.split("; ")), *found.notes)),
        figures=tuple(_figures(found)),
        charts=(_chart(found, len(targets), str(folder.path)),) if found.scores else (),
        kinds=tuple(found.evidence),
        rows=_rows(found, targets, examples),
        triggers=triggers,
        without_trigger=tuple(_name(examples, target) for target in targets if target not in pictured),
    )


def _name(examples: ScanExamples | None, target: int) -> str:
    return f"class {target}" if examples is None else examples.name_class(target)


def _name_suspect(examples: ScanExamples | None, found: Detection, target: int) -> str:
    """Return a target's name, and from which classes it is reached where these are not all."""
    suspected = [item.sources for item in found.suspected if item.target == target]
    if any(sources is None for sources in suspected):
        return _name(examples, target)
    sources = sorted({label for some in suspected for label in some or ()})
    return f"{_name(examples, target)} (from {', '.join(_name(examples, label) for label in sources)} alone)"


def _figures(found: Detection) -> list[tuple[str, str]]:
    """Return the numbers that the page shows first: (what, value)."""
    scores, unscanned = found.scores, len(found.unscanned)
    figures = [("classes scanned", f"{len(scores) - unscanned:,}" + (f" of {len(scores):,}" if unscanned else ""))]
    if known := list(filter(math.isfinite, scores)):
        figures.append(("highest score", f"{max(known):.1f}"))
    figures.append(("threshold", show_number(found.threshold)))
    if (accuracy := found.clean_accuracy) is not None:
        figures.append((f"clean accuracy, n = {accuracy.n:,}", f"{accuracy.value:.4f}"))
    return figures


def _chart(found: Detection, suspected: int, key: str) -> Chart:
    figure = plot_scores(found, width=NARROW)
    figure.axes[0].set_title("", loc="left")  # The page's verdict says it.
    top = max(filter(math.isfinite, found.scores), default=0.0)
    summary = f"score of {len(found.scores)} classes, the highest {top:.1f}, {suspected} suspected"
    return Chart("The score of each class, and each kind of evidence", inline_figure(figure, summary, key))


def _rows(
    found: Detection, targets: list[int], examples: ScanExamples | None
) -> tuple[tuple[str, tuple[str, ...], bool], ...]:
    known = sorted(((score, -label) for label, score in enumerate(found.scores) if math.isfinite(score)), reverse=True)
    labels = [-label for _, label in known[: max(_ROWS, min(len(targets) + 3, 4 * _ROWS))]]
    return tuple(
        (
            _name(examples, label),
            tuple(_show(values[label]) for values in (found.scores, *found.evidence.values())),
            label in targets,
        )
        for label in labels
    )


def _show(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else ""


def _show_trigger(shown: ShownTrigger, examples: ScanExamples) -> TriggerPictures:
    patch, stamped = shown.patch, shown.patch(examples.images)
    before = [_caption(examples, label) for label in examples.predictions]
    after = [_caption(examples, label) for label in shown.predictions]
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


def _caption(examples: ScanExamples, label: int) -> str:
    return f"prediction: {examples.name_class(label)}"


def _brighten(mask: Tensor) -> tuple[Tensor, str]:
    """Return a faint mask with its largest value at 1, and the words that say so."""
    largest = float(mask.max())
    if largest >= 0.5 or largest == 0:
        return mask, ""
    return mask / largest, f"; brightened {1 / largest:.1f} times"
