"""The bench: networks x scanners, repairers, guards -> one record per cell, and tables of them.

::

    OUT/cells/HASH/cell.json       one cell: what was run on what, and the result or the error
    OUT/cells/HASH/...             what later cells use: a scan's suspects, a repair's network
    OUT/cells.json                 all cells of this bench in order, without times
    OUT/seconds.csv                how long each cell took

A cell's folder is named by the hash of all that the cell depends on: files, method, options, seed, source code. What
is there is not run again; a cell that failed is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

from goodnet.core.errors import GoodnetError, MethodFailed, UnwritableOutput
from goodnet.core.method import Progress, no_progress
from goodnet.core.results import SCHEMA_VERSION, Failure
from goodnet.devices import choose_device
from goodnet.evaluation.bench_cells import Cell, measure_cell
from goodnet.evaluation.bench_records import CellFamily, CellRecord, TimedCell
from goodnet.evaluation.bench_spec import BenchSpec, MethodSpec, Subject, list_subjects
from goodnet.evaluation.failures import note_failure
from goodnet.evaluation.provenance import hash_files, hash_json, hash_source
from goodnet.execution import Execution, Task, run_tasks
from goodnet.formats.files import output_folder, remove, replacing_folder, write_text

_CELL = "cell.json"


@dataclass(frozen=True)
class Bench:
    """Every cell of a bench, in the order of the spec, each with its result or its error, and how long it took."""

    name: str
    records: tuple[CellRecord, ...]
    seconds: tuple[float | None, ...]

    def of(self, family: CellFamily) -> list[CellRecord]:
        """Return the records of one family."""
        return [record for record in self.records if record.family == family]


def run_bench(
    spec: BenchSpec,
    out: str | Path,
    *,
    zoo: str | Path | None = None,
    where: Execution = Execution(),
    progress: Progress = no_progress,
) -> Bench:
    """Run what is missing of a bench and return all of it.

    Args:
        spec: methods, seeds, and networks besides the zoo's.
        out: folder for the cells.
        zoo: folder of a zoo.
        where: where cells run; each is one task.
        progress: called with the number of cells that are done.

    Raises:
        InputError: something in the spec or its files cannot work; nothing has been run.
        UnwritableOutput: the disk is full, or `out` may no longer be written to; what was finished is kept.
    """
    where.require_place()
    spec.check_methods()
    subjects = list_subjects(spec, zoo)
    out = output_folder(out).resolve()
    for left in out.glob("cells/.*"):
        remove(left)
    stages = _list_stages(spec, subjects, out)
    total, failures = sum(map(len, stages)), dict[str, Failure]()
    engine = where.engine(spec.cell_seconds)
    done = 0
    for stage in stages:
        missing = [cell for cell in stage if _read_done(out / "cells" / cell.key) is None]
        done += len(stage) - len(missing)
        tasks = [Task(cell.key, run_cell, (cell, out, where.device)) for cell in missing]
        for outcome in run_tasks(tasks, engine):
            note_failure(outcome, failures)
            done += 1
            progress(done, total)
    cells = [cell for stage in stages for cell in stage]
    return _collect(spec, cells, out, failures)


def _list_stages(spec: BenchSpec, subjects: Sequence[Subject], out: Path) -> list[list[Cell]]:
    """Return the cells of scanners, of repairers (which may use scans), of guards (which may use both)."""
    hashes = {subject.name: hash_files(subject.files) for subject in subjects}
    keys: dict[tuple[str, str, str, int], str] = {}
    stages: list[list[Cell]] = []
    families: list[tuple[CellFamily, Sequence[MethodSpec]]] = [
        ("scanners", spec.scanners),
        ("repairers", spec.repairers),
        ("guards", spec.guards),
    ]
    for family, methods in families:
        stage = []
        for method in methods:
            for subject in subjects:
                for seed in spec.seeds:
                    scan = keys.get(("scanners", method.suspected_by or "", subject.name, seed))
                    repair = keys.get(("repairers", method.repaired_by or "", subject.name, seed))
                    files = [hashes[subject.name], scan, repair]
                    key = _hash_cell(family, method, subject, files, seed, spec.clean_images)
                    keys[family, method.name, subject.name, seed] = key
                    places = (None if needed is None else out / "cells" / needed for needed in (scan, repair))
                    stage.append(Cell(family, method, subject, seed, spec.clean_images, key, *places))
        stages.append(stage)
    return stages


def _hash_cell(
    family: CellFamily,
    method: MethodSpec,
    subject: Subject,
    files: Sequence[str | None],
    seed: int,
    clean_images: int | None,
) -> str:
    # The spec knows all pipelines by name; of what it says, the cell's own part is hashed below.
    spec = "goodnet.evaluation.bench_spec"
    code = hash_source(method.module(family), "goodnet.evaluation.bench_cells", without=(spec,))
    what = {"family": family, "method": method.method, "options": method.options, "seed": seed}
    what |= {"clean_images": clean_images, "files": files, "code": code, "torch": torch.__version__}
    what |= {
        "subject": subject.model_dump(
            mode="json", exclude={"name", "model", "clean", "test", "true_labels", "triggered"}
        )
    }
    what |= {"triggers": list(subject.triggered), "numpy": np.__version__}
    return hash_json(what)


def run_cell(cell: Cell, out: Path, device: str) -> None:
    """Run one cell and put its folder in place; an error of ours is a record too.

    Raises:
        Exception: what the method raised that is no error of ours; `run_tasks` records it.
    """
    started = time.perf_counter()
    with replacing_folder(out / "cells" / cell.key) as temporary:
        record = _describe(cell)
        try:
            _require_needed(cell)
            record = record.model_copy(update={"result": measure_cell(cell, temporary, choose_device(device))})
        except UnwritableOutput:  # Says nothing of the method.
            raise
        except GoodnetError as error:
            failure = Failure(kind=type(error).__name__, message=str(error))
            record = record.model_copy(update={"error": failure})
        timed = TimedCell(seconds=round(time.perf_counter() - started, 2), record=record)
        write_text(temporary / _CELL, timed.model_dump_json(indent=1) + "\n")


def _require_needed(cell: Cell) -> None:
    for folder, label in ((cell.scan, cell.method.suspected_by), (cell.repair, cell.method.repaired_by)):
        if folder is not None and _read_done(folder) is None:
            raise MethodFailed(f"it needs what '{label}' makes of this network, and that failed")


def _describe(cell: Cell) -> CellRecord:
    return CellRecord(
        family=cell.family,
        label=cell.method.name,
        method=cell.method.method,
        options=cell.method.options,
        seed=cell.seed,
        network=cell.subject.name,
        attack=cell.subject.attack,
        backdoored=cell.subject.has_backdoor,
        depends=cell.key,
    )


def _read_cell(folder: Path) -> TimedCell | None:
    """Return what a cell left in its folder, None where that is missing or damaged."""
    try:
        return TimedCell.model_validate_json((folder / _CELL).read_bytes())
    except (OSError, ValidationError):
        return None


def _read_done(folder: Path) -> TimedCell | None:
    """Return what a cell left in its folder, None where it failed too."""
    content = _read_cell(folder)
    return content if content is not None and content.record.error is None else None


def _collect(spec: BenchSpec, cells: Sequence[Cell], out: Path, failures: dict[str, Failure]) -> Bench:
    """Write all cells in one file, and the seconds in another; return both."""
    records: list[CellRecord] = []
    seconds: list[float | None] = []
    for cell in cells:
        content = None if cell.key in failures else _read_cell(out / "cells" / cell.key)
        if content is None:
            error = failures.get(cell.key) or Failure(kind="WorkerLost", message="the cell left no record")
            records.append(_describe(cell).model_copy(update={"error": error}))
            seconds.append(None)
            continue
        # A cell that is shared by two benches may have been run under another name.
        own = {"result": content.record.result, "error": content.record.error}
        records.append(_describe(cell).model_copy(update=own))
        seconds.append(content.seconds)
    listed = [record.model_dump(mode="json") for record in records]
    whole = {"schema_version": SCHEMA_VERSION, "name": spec.name, "cells": listed}
    write_text(out / "cells.json", json.dumps(whole, indent=1) + "\n")
    return Bench(spec.name, tuple(records), tuple(seconds))
