"""What `guard` leaves behind: `guard.json`, the GoodNet, and the table of what is to be expected."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from goodnet.formats.files import remove, write_text
from goodnet.pipelines.guard_outcome import GuardOutcome
from goodnet.reports.records import FalseRefusals, GoodNetRecord, GuardRecord
from goodnet.reports.runs import Recorder, remove_record

_GUARD = "guard.json"

if TYPE_CHECKING:
    from rich.table import Table


def guard_record(outcome: GuardOutcome) -> GuardRecord:
    """Return what `guard.json` holds of an outcome."""
    goodnet = None
    if outcome.goodnet is not None and outcome.goodnet_refused is not None:
        goodnet = GoodNetRecord(
            folder="goodnet",
            targets=outcome.goodnet.targets,
            tolerance=outcome.goodnet.tolerance,
            false_refusals=FalseRefusals.of(outcome.goodnet_false_refusals),
            refused_clean=outcome.goodnet_refused,
            of_targets=outcome.goodnet_of_targets,
            surrogates=outcome.goodnet_surrogates,
        )
    return GuardRecord(
        method=outcome.method,
        threshold=outcome.guard.threshold,
        targets=outcome.targets,
        false_refusals=FalseRefusals.of(outcome.false_refusals),
        refused_clean=outcome.refused_clean,
        of_targets=outcome.of_targets,
        surrogates=outcome.surrogates,
        goodnet=goodnet,
        warnings=outcome.warnings,
    )


def write_guard(out: Path, outcome: GuardOutcome, recorder: Recorder) -> Path:
    """Write the GoodNet, `guard.json` and `run.json`, and return the last one's path."""
    remove_previous_guard(out)
    if outcome.goodnet is not None:
        outcome.goodnet.save(out / "goodnet")
    write_text(out / _GUARD, guard_record(outcome).model_dump_json(indent=2) + "\n")
    return recorder.run(result_file=_GUARD, out=out).save(out)


def remove_previous_guard(out: Path) -> None:
    """Remove what an earlier `guard` wrote, so that none of it lies beside another run's record."""
    remove_record(out)
    if (out / _GUARD).exists():
        remove(out / _GUARD)
        remove(out / "goodnet")


def guard_table(outcome: GuardOutcome) -> Table:
    """Return what is to be expected of the guard, and of the GoodNet, for the terminal."""
    from rich.table import Table

    shown = outcome.table()
    table = Table(title=shown.title, title_style="dim", title_justify="left")
    for place, column in enumerate(shown.columns):
        table.add_column(column, justify="right" if place else "left")
    for row in shown.rows:
        table.add_row(*row)
    return table
