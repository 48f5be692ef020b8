"""What a scan leaves behind: `scan.json`, the scores of all classes, and the triggers as pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from goodnet.core.backdoor import Backdoor, Patch
from goodnet.core.dataset import Dataset
from goodnet.core.results import Detection
from goodnet.formats.files import write_text
from goodnet.report.contact_sheets import draw_pairs
from goodnet.report.runs import Recorder
from goodnet.report.tables import to_csv

if TYPE_CHECKING:
    from rich.table import Table

#: Clean images on which a recovered trigger is shown.
_EXAMPLES = 4


def scan_record(detection: Detection) -> dict[str, Any]:
    """Return a detection ready for JSON: `verdict` and `suspected` first."""
    return {
        "verdict": detection.verdict,
        "suspected": [_describe(backdoor, detection) for backdoor in detection.suspected],
        "reason": detection.reason,
        "threshold": detection.threshold,
        "unscanned": list(detection.unscanned),
        "scores": [score if np.isfinite(score) else None for score in detection.scores],
    }


def _describe(backdoor: Backdoor, detection: Detection) -> dict[str, Any]:
    size = backdoor.trigger.size if isinstance(backdoor.trigger, Patch) else None
    return {"target": backdoor.target, "score": detection.scores[backdoor.target], "trigger_size": size}


def write_scan(out: Path, detection: Detection, clean: Dataset, recorder: Recorder) -> Path:
    """Write `scan.json`, `scores.csv`, a picture of each recovered trigger, and `run.json`; return its path."""
    record = scan_record(detection)
    write_text(out / "scan.json", json.dumps(record, indent=2) + "\n")
    write_text(out / "scores.csv", to_csv(["class", "score"], enumerate(detection.scores)))
    examples = clean.sample(_EXAMPLES, seed=0).images()
    for backdoor in detection.suspected:
        if isinstance(backdoor.trigger, Patch):
            _draw_trigger(backdoor.trigger, examples, backdoor.target, out)
    return recorder.write(out, record)


def _draw_trigger(patch: Patch, examples: Any, target: int, out: Path) -> None:
    masks = patch.mask.expand(len(examples), *examples.shape[1:])
    visible = (patch.mask * patch.pattern).expand_as(examples)
    columns = {"clean": examples, "mask": masks, "trigger": visible, "stamped": patch(examples)}
    draw_pairs(columns, out / f"trigger_class_{target}.png", title=f"trigger recovered for class {target}")


def scan_table(detection: Detection, most: int = 5) -> Table:
    """Return the highest scores for the terminal."""
    from rich.table import Table

    suspected = {backdoor.target for backdoor in detection.suspected}
    table = Table(title="highest scores, higher is more suspicious", title_style="dim", title_justify="left")
    for column in ("class", "score", ""):
        table.add_column(column, justify="right")
    for label in np.argsort(-np.asarray(detection.scores))[: max(most, len(suspected) + 2)]:
        score = detection.scores[int(label)]
        mark = "[bold red]suspected[/]" if int(label) in suspected else ""
        table.add_row(str(label), f"{score:.1f}", mark)
    return table
