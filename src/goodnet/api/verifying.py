"""The verb `verify`: does a run, done again from its record, give the same result?"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import BaseModel, ValidationError

from goodnet import catalog
from goodnet.api.evaluating import evaluate
from goodnet.api.guarding import guard
from goodnet.api.repairing import repair
from goodnet.api.scanning import scan
from goodnet.architectures.libraries import is_library
from goodnet.catalog import Family
from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.errors import MethodFailed, UnreadableData, UnreadableModel
from goodnet.core.method import Guard, Progress, Repairer, Scanner, no_progress
from goodnet.core.reading import Reading
from goodnet.core.results import Run
from goodnet.core.verification import Comparison, Verification
from goodnet.execution import Execution, torch_threads
from goodnet.formats.files import require_file, sha256
from goodnet.formats.shown_paths import show_path
from goodnet.reports.records import read_run
from goodnet.reports.run_comparison import compare_runs, compare_versions, other_files


def verify(
    run: str | Path,
    *,
    search: str | Path | None = None,
    architecture: str | None = None,
    confine: bool = True,
    progress: Progress = no_progress,
) -> Verification:
    """Run scan, repair, guard or evaluate again from the record of a run, with as many threads, and compare.

    The input files must have the SHA-256 that the record names. Compared are the results, field by field, all files that
    the verb writes, by their bytes, and networks whose bytes differ by their weights; not times, versions and paths.

    Args:
        run: the folder of a run, with its `run.json`; it is only read.
        search: a folder in which input files that are not where they were are looked for, by their hash.
        architecture: the architecture that the record names, where that is code outside goodnet (`package.module:factory`):
            a record does not run code unasked.
        confine: let a process of its own, which can reach nothing, read the bytes of model files (docs/threat-model.md),
            whatever the record says.
        progress: called with the number of steps that are done.

    Returns:
        What was compared; `equal` is True where nothing differs.

    Raises:
        UnreadableData: the record is missing, damaged, of a verb that cannot be repeated, or does not say all that a
            repetition needs; or an input file is missing or has another hash.
        UnreadableModel: the record names code as its architecture.
        InputError: an input cannot be used.
    """
    folder = Path(run)
    recorded = read_run(folder / "run.json")
    asked = _read_asked(folder, recorded, architecture, confine=confine)
    paths = _find_inputs(recorded, None if search is None else Path(search))
    with tempfile.TemporaryDirectory(prefix="goodnet-verify-") as name:
        out = Path(name) / "run"
        inputs = {role: _under_its_name(path, role, recorded, Path(name)) for role, path in paths.items()}
        again = _Again(recorded, asked, inputs, out, progress)
        original = None
        try:
            with torch_threads(recorded.threads or torch.get_num_threads()):
                original = _VERBS[recorded.verb](again)
        except MethodFailed:  # That is a result too, where it is on record.
            if not (out / "run.json").is_file():
                raise
        repeated = read_run(out / "run.json")
        _refuse_changed(recorded, repeated)
        compared = compare_runs(folder, out, original, confine=confine)
        left = other_files(folder, out)
    notes = [*compare_versions(recorded, repeated), *_budget(asked), *([left] if left else [])]
    hashed = (Comparison(what=f"input {given}") for given in recorded.inputs)
    return Verification(verb=recorded.verb, comparisons=(*hashed, *compared), notes=tuple(notes))


class _Asked(BaseModel):
    """What a run was asked for besides the options of its method, as its record says; a method's own are left aside."""

    reading: Reading
    live: tuple[str, ...]
    keep_all: bool = False
    suspected_targets: tuple[int, ...] | None = None
    target: int | None = None
    device: str = "auto"
    budget: float | None = None


@dataclass(frozen=True)
class _Again:
    """A run that is to be repeated: its record, its inputs by role, and where the repetition goes."""

    run: Run
    asked: _Asked
    inputs: Mapping[str, Path]
    out: Path
    progress: Progress

    def method(self, family: Family) -> object:
        """Return the method with its recorded options."""
        kind = catalog.find(family, self.run.method or "")
        own = {name: value for name, value in self.run.options.items() if name in kind.model_fields}
        return kind.from_options(**own)

    def networks(self) -> dict[str, Any]:
        """Return the arguments of all verbs."""
        return {"reading": self.asked.reading, "out": self.out, "progress": self.progress}

    def defence(self) -> dict[str, Any]:
        """Return the arguments of scan, repair and guard."""
        return self.networks() | {"seed": self.run.seed or 0}

    def suspected(self) -> Path | list[Backdoor] | None:
        """Return what was suspected: the folder of a scan, targets, or nothing."""
        if self.asked.suspected_targets is None:
            return self.inputs.get("suspected")
        return [Backdoor(None, target) for target in self.asked.suspected_targets]

    def several(self, role: str) -> list[Path]:
        """Return the inputs of a role that is numbered, in their order."""
        count = sum(name.startswith(f"{role} ") for name in self.inputs)
        return [self.inputs[f"{role} {number}"] for number in range(count)]


def _scan(again: _Again) -> Classifier | None:
    method = cast(Scanner, again.method("scanners"))
    where = Execution(again.asked.device)
    scan(again.inputs["model"], again.inputs["clean"], method=method, where=where, **again.defence())
    return None  # It writes no network.


def _repair(again: _Again) -> Classifier | None:
    done = repair(
        again.inputs["model"],
        again.inputs["clean"],
        method=cast(Repairer, again.method("repairers")),
        suspected=again.suspected(),
        unlabelled=again.inputs.get("unlabelled"),
        keep_all=again.asked.keep_all,
        **again.defence(),
    )
    return done.original


def _guard(again: _Again) -> Classifier | None:
    done = guard(
        again.inputs["model"],
        again.inputs["clean"],
        method=cast(Guard, again.method("guards")),
        repaired=again.inputs.get("repaired"),
        suspected=again.suspected(),
        **again.defence(),
    )
    return None if done.goodnet is None else done.goodnet.original


def _evaluate(again: _Again) -> Classifier | None:
    evaluate(
        again.inputs["model"],
        again.inputs.get("clean"),
        again.several("poisoned"),
        repaired=again.several("repaired"),
        true_labels=again.inputs.get("true_labels"),
        target=again.asked.target,
        **again.networks(),
    )
    return None  # It writes no network.


#: Each runs its verb, and returns the original where networks like it were written.
_VERBS: dict[str, Callable[[_Again], Classifier | None]] = {
    "scan": _scan,
    "repair": _repair,
    "guard": _guard,
    "evaluate": _evaluate,
}
#: Inputs without which none of the verbs begins.
_NEEDED = {
    "scan": ("model", "clean"),
    "repair": ("model", "clean"),
    "guard": ("model", "clean"),
    "evaluate": ("model",),
}


def _read_asked(folder: Path, run: Run, architecture: str | None, *, confine: bool) -> _Asked:
    """Return what a run was asked for, `confine` aside.

    Raises:
        UnreadableData: the run cannot be repeated.
        UnreadableModel: it needs code that the user has not named.
    """
    path = show_path(folder / "run.json")
    if run.verb not in _VERBS:
        raise UnreadableData(
            f"{path}: expected a run of {', '.join(_VERBS)}, found one of {run.verb}; give the folder of such a run"
        )
    if run.result is None and run.error is None:
        raise UnreadableData(f"{path}: expected a result or an error, found neither; run {run.verb} again")
    if "live" not in run.options:
        raise UnreadableData(
            f"{path}: this record does not say all that a repetition needs: an older goodnet wrote it; run {run.verb} anew"
        )
    try:
        reading = {field.name: run.options[field.name] for field in fields(Reading) if field.name in run.options}
        asked = _Asked.model_validate(run.options | {"reading": reading | {"confine": confine}})
    except ValidationError as error:
        raise UnreadableData(
            f"{path}: expected the options of a run of {run.verb}, but they are damaged; run {run.verb} again"
        ) from error
    missing = [role for role in _NEEDED[run.verb] if role not in {given.partition(": ")[0] for given in run.inputs}]
    if asked.live or missing:
        raise UnreadableData(
            f"{path}: the run was given live objects ({', '.join(asked.live or missing)}), which the record cannot name; only "
            "runs whose inputs were files can be verified"
        )
    named = asked.reading.architecture
    if named is not None and ":" in named and not is_library(named) and named != architecture:
        raise UnreadableModel(
            f"{path}: refused, it names code outside goodnet as its architecture; if it is yours, say so: --architecture {named}"
        )
    return asked


def _find_inputs(run: Run, search: Path | None) -> dict[str, Path]:
    """Return the input files by role, each with the recorded hash.

    Raises:
        UnreadableData: some are missing or have another hash.
    """
    found, wrong = {}, []
    for given, digest in run.inputs.items():
        role, _, text = given.partition(": ")
        path = Path(text)
        there = path.is_file() or path.is_dir()
        if there and _hash(path) == digest:
            found[role] = path
        elif (elsewhere := None if search is None else _search(search, path.name, digest)) is not None:
            found[role] = elsewhere
        else:
            short = f"{digest[:12]}..."
            differs, gone = (
                f"its SHA-256 differs from the recorded {short}",
                f"there is no such file (recorded SHA-256 {short})",
            )
            wrong.append(f"{role} {show_path(path)}: {differs if there else gone}")
    if wrong:
        nowhere = "give the folder where it may be: --search FOLDER"
        if search is not None:
            nowhere = f"no file in {show_path(search)} has the recorded hash"
        raise UnreadableData(f"{'; '.join(wrong)}; {nowhere}")
    return found


def _hash(path: Path) -> str | None:
    """Return the SHA-256 of a file or folder, None where it may not be read."""
    try:
        return sha256(path)
    except OSError:
        return None


def _search(folder: Path, name: str, digest: str) -> Path | None:
    """Return the file with this hash, or the folder of this name with it; files of the name come first."""
    if not folder.is_dir():
        require_file(folder)
        raise UnreadableData(f"{show_path(folder)}: expected a folder to search, found a file")
    below = [folder, *sorted(folder.rglob("*"))]
    candidates = [path for path in below if path.is_file() or (path.name == name and path.is_dir())]
    candidates.sort(key=lambda path: path.name != name)
    return next((path for path in candidates if _hash(path) == digest), None)


def _under_its_name(path: Path, role: str, run: Run, folder: Path) -> Path:
    """Return a path to an input under the name that it had: results name files."""
    given = next(text for text in run.inputs if text.partition(": ")[0] == role)
    name = Path(given.partition(": ")[2]).name
    if name in ("", "..", path.name):
        return path
    link = folder / "inputs" / role / name
    link.parent.mkdir(parents=True)
    os.symlink(path.resolve(), link)
    return link


def _refuse_changed(recorded: Run, repeated: Run) -> None:
    """Make sure that the repetition has read the recorded bytes.

    Raises:
        UnreadableData: an input was changed meanwhile.
    """
    hashes = [
        {given.partition(": ")[0]: digest for given, digest in run.inputs.items()} for run in (recorded, repeated)
    ]
    changed = sorted(role for role in {*hashes[0], *hashes[1]} if hashes[0].get(role) != hashes[1].get(role))
    if changed:
        raise UnreadableData(
            f"inputs were changed while they were in use: {', '.join(changed)}; leave them alone and run this again"
        )


def _budget(asked: _Asked) -> list[str]:
    if asked.budget is None:
        return []
    return [f"the run had {asked.budget:g} s and may have left work undone; its repetition had no limit"]
