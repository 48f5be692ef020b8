"""Folders that verbs left behind, found and read: what a report is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from goodnet.core.errors import UnreadableData
from goodnet.core.results import Detection, Record, Run
from goodnet.formats.shown_paths import show_path
from goodnet.reports.records import read_run

#: Pictures that `inspect` writes, and what they show.
INSPECTED = {
    "architecture.png": "the network's layers",
    "class_distribution.png": "images per class",
    "samples.png": "images drawn at random",
}

#: How deep below a given folder runs are looked for.
_DEPTH = 2


@dataclass(frozen=True)
class RunFolder:
    """A folder with the record of a run, or with pictures of `inspect`, which keeps no record (`run` is None)."""

    path: Path
    run: Run | None = None

    @property
    def name(self) -> str:
        """The folder's own name, as it can be printed."""
        return show_path(self.path.resolve().name)

    @property
    def result(self) -> Record | Detection | None:
        """The result of the run; None where there is none."""
        return None if self.run is None else self.run.result

    @property
    def failure(self) -> str:
        """The error that ended the run, in words."""
        error = None if self.run is None else self.run.error
        return "no result" if error is None else f"{error.kind}: {error.message}"

    @property
    def pictures(self) -> dict[Path, str]:
        """The pictures of `inspect` in the folder, and what they show."""
        return {self.path / name: shows for name, shows in INSPECTED.items() if (self.path / name).is_file()}

    @property
    def model(self) -> str:
        """The file name of the network that the run was about, "the network" where the record does not say."""
        for given in () if self.run is None else self.run.inputs:
            role, _, path = given.partition(": ")
            if role == "model":
                return Path(path).name
        return "the network"

    def failed(self, what: str) -> str:
        """Return the sentence that says of a run without a result what failed, and why."""
        return f"The {what} of {self.model} failed: {self.failure}"


def find_runs(folders: Sequence[str | Path]) -> tuple[RunFolder, ...]:
    """Return the run folders among `folders` and up to two levels below them, each once, in the order given.

    Raises:
        UnreadableData: a folder is missing or holds no run, or a record is damaged.
    """
    found: dict[Path, RunFolder] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise UnreadableData(
                f"{folder}: expected the folder of a run, found {'a file' if folder.exists() else 'nothing'}"
            )
        runs = list(_search(folder, _DEPTH))
        if not runs:
            raise UnreadableData(
                f"{folder}: no run in this folder; give the --out folder of scan, repair, guard, evaluate or inspect, or a "
                "folder that holds some of them"
            )
        found |= {run.path.resolve(): run for run in runs if run.path.resolve() not in found}
    return tuple(found.values())


def _search(folder: Path, depth: int) -> Iterator[RunFolder]:
    record = folder / "run.json"
    if record.is_file():
        yield RunFolder(folder, read_run(record))
    elif RunFolder(folder).pictures:
        yield RunFolder(folder)
    if depth:
        for below in sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()):
            yield from _search(below, depth - 1)
