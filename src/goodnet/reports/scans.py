"""What a scan leaves behind: `scan.json`, the scores of all classes, and the triggers as pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.results import Detection
from goodnet.formats.files import output_folder, remove, write_text
from goodnet.formats.triggers import SUSPECTED, read_backdoors, write_backdoors
from goodnet.reports.class_figures import draw_scores
from goodnet.reports.contact_sheets import draw_pairs
from goodnet.reports.records import read_record
from goodnet.reports.runs import Recorder, remove_record
from goodnet.reports.scan_examples import ScanExamples, ShownTrigger, make_examples, write_examples
from goodnet.reports.tables import to_csv

if TYPE_CHECKING:
    from rich.table import Table


def save_scan(folder: str | Path, detection: Detection) -> Path:
    """Write a detection as `scan.json`, and the suspected backdoors beside it; return the path of the first.

    Raises:
        UnwritableOutput: the folder cannot be written to.
    """
    folder = output_folder(folder)
    write_backdoors(folder / SUSPECTED, detection.suspected)
    return write_text(folder / _SCAN, detection.to_json() + "\n")


def read_scan(folder: str | Path) -> Detection:
    """Read what `save_scan` wrote; of the triggers those that are patches.

    Raises:
        UnreadableData: a file is missing or damaged.
    """
    detection = read_record(Path(folder) / _SCAN, Detection)
    return replace(detection, suspected=read_backdoors(Path(folder) / SUSPECTED))


_SCAN = "scan.json"


def write_scan(out: Path, detection: Detection, clean: Dataset, classifier: Classifier, recorder: Recorder) -> Path:
    """Write all that a person or a report wants to see of a scan and return the path of `run.json`.

    `scan.json`; `scores.csv` and `scores.png`, every class; `suspected.npz`, the suspected backdoors; `examples.npz`
    and `trigger_class_N.png` (`trigger_classes_all.png`: one trigger for several), clean images without and with each
    recovered trigger; `run.json`.
    """
    remove_record(out)
    save_scan(out, detection)
    write_text(out / "scores.csv", _scores_csv(detection))
    draw_scores(detection, out / "scores.png")
    examples = make_examples(classifier, clean, detection.suspected)
    write_examples(out, examples)
    for picture in out.glob("trigger_class*.png"):
        remove(picture)  # Of an earlier scan into this folder.
    names = ["classes_all" if len(shown.targets) > 1 else f"class_{shown.targets[0]}" for shown in examples.triggers]
    for position, shown in enumerate(examples.triggers):
        again = names[:position].count(names[position])
        number = f"_{again + 1}" if again else ""  # A further trigger for the same target.
        _draw_trigger(shown, examples, out / f"trigger_{names[position]}{number}.png")
    return recorder.run(result_file=_SCAN, out=out).save(out)


def _scores_csv(detection: Detection) -> str:
    columns = zip(detection.scores, *detection.evidence.values(), strict=True)
    return to_csv(["class", "score", *detection.evidence], ([label, *row] for label, row in enumerate(columns)))


def _draw_trigger(shown: ShownTrigger, examples: ScanExamples, path: Path) -> None:
    patch, images = shown.patch, examples.images
    columns = {
        "clean": images,
        "mask": patch.mask.expand(len(images), *images.shape[1:]),
        "trigger": (patch.mask * patch.pattern).expand_as(images),
        "stamped": patch(images),
    }
    draw_pairs(columns, path, title=f"trigger recovered for {examples.name_targets(shown)}")


def scan_table(detection: Detection) -> Table:
    """Return the highest scores for the terminal."""
    from rich.table import Table

    table = Table(title="highest scores", title_style="dim", title_justify="left")
    for column in ("class", "score", ""):
        table.add_column(column, justify="right")
    for label, score, mark in detection.table().rows:
        table.add_row(label, score, f"[bold red]{mark}[/]" if mark else "")
    return table
