"""What `guard` leaves behind: `guard.json`, the GoodNet, and the table of what is to be expected."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from goodnet.core.results import Rate
from goodnet.formats.files import write_text
from goodnet.pipelines.guard_outcome import GuardOutcome
from goodnet.reports.records import FalseRefusals, GoodNetRecord, GuardRecord
from goodnet.reports.runs import Recorder

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
            surrogates=outcome.goodnet_surrogates,
        )
    return GuardRecord(
        method=outcome.method,
        threshold=outcome.guard.threshold,
        targets=outcome.targets,
        false_refusals=FalseRefusals.of(outcome.false_refusals),
        refused_clean=outcome.refused_clean,
        surrogates=outcome.surrogates,
        goodnet=goodnet,
    )


def write_guard(out: Path, outcome: GuardOutcome, recorder: Recorder) -> Path:
    """Write the GoodNet, `guard.json` and `run.json`, and return the last one's path."""
    remove_previous_guard(out)
    if outcome.goodnet is not None:
        outcome.goodnet.save(out / "goodnet")
    write_text(out / _GUARD, guard_record(outcome).model_dump_json(indent=2) + "\n")
    return recorder.run(result_file=_GUARD).save(out)


def remove_previous_guard(out: Path) -> None:
    """Remove what an earlier `guard` wrote, so that none of it lies beside another run's record."""
    if (out / _GUARD).exists():
        (out / _GUARD).unlink()
        shutil.rmtree(out / "goodnet", ignore_errors=True)


def guard_table(outcome: GuardOutcome) -> Table:
    """Return what is to be expected of the guard, and of the GoodNet, for the terminal."""
    from rich.table import Table

    table = Table(title="share of inputs refused", title_style="dim", title_justify="left")
    table.add_column("inputs")
    table.add_column(outcome.method, justify="right")
    if outcome.goodnet is not None:
        table.add_column("GoodNet", justify="right")
    table.add_row("the clean images given", *map(_show, _both(outcome, outcome.refused_clean, outcome.goodnet_refused)))
    pairs = zip(outcome.surrogates, outcome.goodnet_surrogates or outcome.surrogates, strict=True)
    for own, other in pairs:
        name = f"trigger of class {own.target}, {own.surrogate} (works on {own.success.value:.2f})"
        table.add_row(name, *map(_show, _both(outcome, own.refused, other.refused)))
    return table


def _both(outcome: GuardOutcome, own: Rate | None, other: Rate | None) -> Sequence[Rate | None]:
    return [own] if outcome.goodnet is None else [own, other]


def _show(rate: Rate | None) -> str:
    return "-" if rate is None else f"{rate.value:.3f} [{rate.low:.2f}, {rate.high:.2f}] n={rate.n}"
