"""The folder that a verb leaves behind: networks, tables, figures, and `run.json` with everything that it took."""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from goodnet.core.classifier import Classifier
from goodnet.core.errors import UnreadableData, UnreadableModel
from goodnet.core.results import Evaluation, Failure, Rate, Repair, RepairedNetwork, Run
from goodnet.evaluation.pruning_curve import PruningLevels
from goodnet.formats.files import output_folder, require_inside, sha256, write_text
from goodnet.formats.keras_weights import write_weights_alone
from goodnet.formats.networks import read_network
from goodnet.formats.seen_files import SeenFile, look_at
from goodnet.formats.shown_paths import show_path
from goodnet.pair.goodnet import GoodNet, is_goodnet
from goodnet.reports.figures import PruningCurve, draw_pruning_curves, draw_rates
from goodnet.reports.run_folders import read_run
from goodnet.reports.tables import evaluation_csv, pruning_csv

_PACKAGES = ("goodnet", "torch", "keras", "numpy", "h5py")


@dataclass
class Recorder:
    """Writes `run.json`: starts the clock when made, holds what is known, stops it when it writes.

    `inputs` are the files that went in; their hashes are written beside their names. It is made before they are read, and
    takes note of what they are: a hash of other bytes than were read is never written.
    """

    verb: str
    inputs: Mapping[str, str | Path]
    method: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    _clock: float = field(default_factory=time.perf_counter)
    _started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    _seen: dict[str, SeenFile] = field(init=False)

    def __post_init__(self) -> None:
        self._seen = {role: look_at(path) for role, path in self.inputs.items()}

    def run(
        self, result: Mapping[str, Any] | None = None, error: Exception | None = None, out: Path | None = None
    ) -> Run:
        """Return the record of the run with its result, or with the error that ended it.

        Raises:
            UnreadableData: there is a result, and a file that went in is not what it was when the run began. What lies
                around the folder `out`, which the run writes itself, may be.
        """
        return Run(
            verb=self.verb,
            method=self.method,
            options=dict(self.options),
            seed=self.seed,
            seconds=round(time.perf_counter() - self._clock, 3),
            started=self._started,
            versions={"python": platform.python_version()} | {name: metadata.version(name) for name in _PACKAGES},
            inputs=self._hash_inputs(out, strict=error is None),
            result=None if result is None else dict(result),
            error=None if error is None else Failure(kind=type(error).__name__, message=show_path(str(error))),
        )

    def write(self, out: Path, result: Mapping[str, Any] | None = None, error: Exception | None = None) -> Path:
        """Write `run.json` into the folder `out` and return its path; see `run`."""
        return write_text(out / "run.json", self.run(result, error, out).model_dump_json(indent=2) + "\n")

    def _hash_inputs(self, out: Path | None, *, strict: bool) -> dict[str, str]:
        """Return `role: path` -> SHA-256; what is missing or may not be read has none, and is left out.

        What has changed is an error where this is `strict`, and left out where it is not.
        """
        hashes = {}
        for role, seen in self._seen.items():
            with suppress(OSError) if strict else suppress(OSError, UnreadableData):
                if seen.path.exists():
                    own = out is not None and out.resolve().is_relative_to(seen.path.resolve())
                    hashes[f"{role}: {show_path(seen.path)}"] = sha256(seen.path) if own else seen.sha256()
        return hashes


def write_repair(
    out: str | Path,
    original: Classifier,
    repair: Repair,
    recorder: Recorder,
    *,
    targets: Sequence[int] = (),
    keep_all: bool = False,
    input_range_reason: str = "as given",
) -> Path:
    """Write repaired networks, the GoodNet of the recommended one, the method's tables and figures, and `run.json`.

    Where the repair was of suspected `targets`, the GoodNet refuses among their images alone; without, among all.
    With `keep_all` the networks on the way to them are written too, and beside each whole Keras model its weights alone.
    """
    out = output_folder(out)
    remove_previous(out)
    kept = (*repair.steps, *repair.networks) if keep_all else repair.networks
    stems = {network.name: "repaired" if len(kept) == 1 else f"repaired_{network.name}" for network in kept}
    entries = [_write_network(out, stems[network.name], network, weights_alone=keep_all) for network in kept]
    GoodNet(original, repair.classifier, targets=tuple(targets) or None).save(out / "goodnet")
    if "pruned_at_threshold" in repair.trace:
        _write_validation_sweep(out, repair)
    return recorder.write(
        out,
        {
            "input_range": original.input_range,
            "input_range_reason": input_range_reason,
            "accuracy_before": repair.accuracy_before.model_dump(),
            "networks": entries,
            "recommended": repair.recommended.name,
            "goodnet": "goodnet",
            "targets": list(targets),
            "trace": dict(repair.trace),
        },
    )


def _write_network(out: Path, stem: str, network: RepairedNetwork, *, weights_alone: bool) -> dict[str, Any]:
    """Write one network, on request its weights too, and return its entry in `run.json`."""
    file, weights = f"{stem}{network.classifier.suffix}", f"{stem}.weights.h5"
    network.classifier.save(out / file)
    extra = weights_alone and write_weights_alone(network.classifier, out / weights)
    entry = {"file": file, "name": network.name, "accuracy": network.accuracy.model_dump()}
    return entry | {"changes": dict(network.changes)} | ({"weights": weights} if extra else {})


def remove_previous(out: Path) -> None:
    """Remove the networks of an earlier repair from its folder, so that none of them lies beside another run's record."""
    try:
        previous = json.loads((out / "run.json").read_text(encoding="utf-8"))
        networks = previous["result"]["networks"]
        files = [Path(entry[key]).name for entry in networks for key in ("file", "weights") if key in entry]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name in files:
        (out / name).unlink(missing_ok=True)
    if is_goodnet(out):
        shutil.rmtree(out / "goodnet", ignore_errors=True)


def _write_validation_sweep(out: Path, repair: Repair) -> None:
    trace = repair.trace
    write_text(out / "pruning.csv", pruning_csv({"Validation accuracy": trace["accuracy"]}))
    curve = PruningCurve(
        title=f"{trace['layer']}, {trace['order']}, on the clean data given",
        channels=len(trace["channels"]),
        accuracy=trace["accuracy"],
        thresholds={float(x): k for x, k in trace["pruned_at_threshold"].items() if k is not None},
    )
    draw_pruning_curves([curve], out / "pruning.png")


@dataclass(frozen=True)
class RepairRun:
    """A repair run read back from its folder: its networks and, for pruning, the order in which channels went.

    `targets` were suspected; None: nothing was, or the method does not ask.
    """

    folder: Path
    networks: tuple[RepairedNetwork, ...]
    targets: tuple[int, ...] | None
    trace: Mapping[str, Any]


def read_repair(folder: str | Path, architecture: str | None, image_shape: tuple[int, int, int]) -> RepairRun:
    """Read the folder that `write_repair` wrote.

    Raises:
        UnreadableData: there is no `run.json` of a repair, or it is damaged.
        UnreadableModel: one of its networks cannot be read.
    """
    folder = Path(folder)
    path = folder / "run.json"
    run = read_run(path)
    try:
        result = run.result or {}
        networks = tuple(
            RepairedNetwork(
                entry["name"],
                read_network(
                    require_inside(folder / Path(entry["file"]).name, folder, UnreadableModel),
                    architecture,
                    image_shape,
                ),
                Rate(**entry["accuracy"]),
                entry["changes"],
            )
            for entry in result["networks"]
        )
        return RepairRun(folder, networks, tuple(map(int, result["targets"])) or None, dict(result["trace"]))
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableData(
            f"{path}: expected the record of a repair, but it is damaged or of another verb"
        ) from error


def _network_file(folder: Path, name: str) -> Path:
    """Return a network's file; a record names files of its own folder alone."""
    return require_inside(folder / Path(name).name, folder, UnreadableModel)


def write_evaluation(
    out: str | Path,
    evaluation: Evaluation,
    sweeps: Mapping[str, tuple[RepairRun, PruningLevels]],
    recorder: Recorder,
) -> Path:
    """Write the table (CSV, JSON), the figure of all rates, and for pruning runs the curves with attack success."""
    out = output_folder(out)
    write_text(out / "evaluation.csv", evaluation_csv(evaluation))
    draw_rates([(row.name, row.metrics) for row in evaluation.rows], out / "rates.png")
    for name, (_, levels) in sweeps.items():
        write_text(out / f"pruning_{name}.csv", pruning_csv(pruning_columns(levels)))
    if sweeps:
        draw_pruning_curves([pruning_curve(run.trace, levels) for run, levels in sweeps.values()], out / "pruning.png")
    return recorder.write(out, evaluation.model_dump())


def pruning_columns(levels: PruningLevels) -> dict[str, list[float]]:
    """Return the columns of a pruning table: Accuracy, and ASR of each poisoned set."""
    columns = {"Accuracy": [rate.value for rate in levels.clean_accuracy]} if levels.clean_accuracy else {}
    several = len(levels.attack_success_rate) > 1
    for name, rates in levels.attack_success_rate.items():
        columns[f"ASR {name}" if several else "ASR"] = [rate.value for rate in rates]
    return columns


def pruning_curve(trace: Mapping[str, Any], levels: PruningLevels) -> PruningCurve:
    """Return what to draw: the rates of every level, and where a repair with this `trace` stopped."""
    return PruningCurve(
        title=f"{levels.layer}, {trace['order']}",
        channels=len(levels.order),
        accuracy=[rate.value for rate in levels.clean_accuracy],
        attack_success_rates={name: [r.value for r in rates] for name, rates in levels.attack_success_rate.items()},
        thresholds={float(x): k for x, k in trace["pruned_at_threshold"].items() if k is not None},
    )
