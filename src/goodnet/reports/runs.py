"""The folder that a verb leaves behind: networks, tables, figures, and `run.json` with everything that it took."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TypeAlias

import torch

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnreadableData, UnreadableModel
from goodnet.core.method import Method
from goodnet.core.reading import Reading
from goodnet.core.repairs import NetworkRecord, PruningSweep, Repair, RepairedNetwork, RepairRecord
from goodnet.core.results import Detection, Evaluation, Failure, Record, Run
from goodnet.evaluation.pruning_curve import PruningLevels
from goodnet.formats.files import output_folder, remove, require_inside, sha256, write_text
from goodnet.formats.keras_weights import has_weights_alone, write_weights_alone
from goodnet.formats.live_data import LiveData
from goodnet.formats.live_networks import ModelLike
from goodnet.formats.networks import read_network
from goodnet.formats.seen_files import SeenFile, look_at
from goodnet.formats.shown_paths import show_path
from goodnet.pair.goodnet import GoodNet, is_goodnet
from goodnet.pair.onnx import OnnxGoodNet
from goodnet.reports.figures import PruningCurve, draw_pruning_curves, draw_rates
from goodnet.reports.records import read_run
from goodnet.reports.tables import evaluation_csv, pruning_csv

#: What a verb is given: a file or folder, or a live object.
Given: TypeAlias = ModelLike | GoodNet | OnnxGoodNet | Dataset | LiveData | Sequence[Backdoor] | None
_PACKAGES = ("goodnet", "torch", "keras", "numpy", "h5py")


@dataclass
class Recorder:
    """Writes `run.json`: starts the clock when made, holds what is known, stops it when it writes.

    `inputs` are what went in, by role. The hashes of files are written beside their names. It is made before they are read,
    and takes note of what they are: a hash of other bytes than were read is never written. `threads` are those of torch.
    """

    verb: str
    inputs: Mapping[str, Given]
    method: str | None = None
    options: dict[str, object] = field(default_factory=dict)
    seed: int | None = None
    threads: int = field(default_factory=torch.get_num_threads)
    _read: dict[str, str] = field(default_factory=dict)
    _clock: float = field(default_factory=time.perf_counter)
    _started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    _seen: dict[str, SeenFile] = field(init=False)
    _hashes: dict[str, str] | None = None

    def __post_init__(self) -> None:
        self._seen = {role: look_at(item) for role, item in self.inputs.items() if isinstance(item, str | Path)}

    def note(self, method: Method | None, reading: Reading, **further: object) -> None:
        """Take note of what is asked for: the method with its options, how inputs are read, and what else was given.

        `live` are the roles of inputs that are no files: no record can lead back to them.
        """
        live = [role for role, item in self.inputs.items() if item is not None and role not in self._seen]
        own = {} if method is None else method.model_dump(mode="json")
        read = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(reading).items()}
        self.method = self.method if method is None else method.name()
        self.options = own | read | further | {"live": live}

    def know(self, role: str, network: Classifier) -> None:
        """Take the hash of the bytes that a network was read from, where it has it, instead of reading its file again."""
        if network.sha256 is not None:
            self._read[role] = network.sha256

    def run(
        self,
        result: Record | Detection | None = None,
        *,
        result_file: str | None = None,
        error: Exception | None = None,
        out: Path | None = None,
    ) -> Run:
        """Return the record of the run with its result, or the file that holds it, or the error that ended it.

        Raises:
            UnreadableData: there is a result, and a file that went in is not what it was when the run began. What lies
                around the folder `out`, which the run writes itself, may be.
        """
        if self._hashes is None:
            self._hashes = self._hash_inputs(out, strict=error is None)
        return Run(
            verb=self.verb,
            method=self.method,
            options=dict(self.options),
            seed=self.seed,
            seconds=round(time.perf_counter() - self._clock, 3),
            started=self._started,
            versions={"python": platform.python_version()} | {name: metadata.version(name) for name in _PACKAGES},
            inputs=self._hashes,
            result=result,
            threads=self.threads,
            result_file=result_file,
            error=None if error is None else Failure.of(error, show_path(str(error))),
        )

    def _hash_inputs(self, out: Path | None, *, strict: bool) -> dict[str, str]:
        """Return `role: path` -> SHA-256; what is missing or may not be read has none, and is left out.

        What has changed is an error where this is `strict`, and left out where it is not.
        """
        hashes = {}
        for role, seen in self._seen.items():
            with suppress(OSError) if strict else suppress(OSError, UnreadableData):
                if seen.path.exists():
                    own = out is not None and out.resolve().is_relative_to(seen.path.resolve())
                    digest = self._read.get(role) or (sha256(seen.path) if own else seen.sha256())
                    hashes[f"{role}: {show_path(seen.path)}"] = digest
        return hashes


def record_repair(
    original: Classifier,
    repair: Repair,
    recorder: Recorder,
    *,
    targets: Sequence[int] = (),
    keep_all: bool = False,
    input_range_reason: str = "as given",
    out: Path | None = None,
) -> Repair:
    """Return the repair with its original and the record of its run; `write_repair` writes what that names, into `out`.

    With `keep_all` the networks on the way belong to it too, and beside each whole Keras model its weights alone.
    """
    kept = (*repair.steps, *repair.networks) if keep_all else repair.networks
    record = RepairRecord(
        input_range=original.input_range,
        input_range_reason=input_range_reason,
        accuracy_before=repair.accuracy_before,
        networks=tuple(_record_network(item, alone=len(kept) == 1, weights_alone=keep_all) for item in kept),
        recommended=repair.recommended.name,
        goodnet="goodnet",
        targets=tuple(targets),
        trace=repair.trace,
    )
    return replace(repair, original=original, run=recorder.run(record, out=out))


def _record_network(network: RepairedNetwork, *, alone: bool, weights_alone: bool) -> NetworkRecord:
    stem = "repaired" if alone else f"repaired_{network.name}"
    return NetworkRecord(
        file=f"{stem}{network.classifier.suffix}",
        name=network.name,
        accuracy=network.accuracy,
        changes=network.changes,
        weights=f"{stem}.weights.h5" if weights_alone and has_weights_alone(network.classifier) else None,
    )


def write_repair(out: str | Path, repair: Repair) -> Path:
    """Write repaired networks, the GoodNet of the recommended one, the pruning sweep and its figure, and `run.json`.

    Where the repair was of suspected targets, the GoodNet refuses among their images alone; without, among all.

    Raises:
        InvalidOption: a method made the repair by itself.
        UnwritableOutput: the folder cannot be written to, or a network has no file format that can hold it.
    """
    run, record, original = repair.require_run()
    out = output_folder(out)
    remove_previous(out)
    networks = {item.name: item.classifier for item in (*repair.steps, *repair.networks)}
    for entry in record.networks:
        networks[entry.name].save(out / entry.file)
        if entry.weights is not None:
            write_weights_alone(networks[entry.name], out / entry.weights)
    GoodNet(original, repair.classifier, targets=record.targets or None).save(out / "goodnet")
    if (sweep := repair.trace.sweep) is not None:
        write_text(out / "pruning.csv", pruning_csv({"Validation accuracy": sweep.accuracy}))
        draw_pruning_curves([validation_curve(sweep)], out / "pruning.png")
    return run.save(out)


def remove_previous(out: Path) -> None:
    """Remove the networks of an earlier repair from its folder, so that none of them lies beside another run's record."""
    try:
        result = read_run(out / "run.json").result
    except UnreadableData:
        result = None
    remove_record(out)
    if not isinstance(result, RepairRecord):
        return
    for name in (name for entry in result.networks for name in (entry.file, entry.weights) if name is not None):
        remove(out / Path(name).name)
    if is_goodnet(out):
        remove(out / "goodnet")


def remove_record(out: Path) -> None:
    """Remove the record of an earlier run before its files are replaced: a folder with a `run.json` is whole."""
    remove(out / "run.json")


def read_repair(
    folder: str | Path,
    architecture: str | None = None,
    original: Classifier | None = None,
    *,
    confine: bool = True,
) -> Repair:
    """Read the folder that `write_repair` wrote; the `original`, where it is not given, from the GoodNet in it.

    Raises:
        UnreadableData: there is no `run.json` of a repair, or it is damaged.
        UnreadableModel: one of its networks cannot be read.
    """
    folder = Path(folder)
    run = read_run(folder / "run.json")
    if not isinstance(run.result, RepairRecord):
        raise UnreadableData(f"{folder / 'run.json'}: expected the record of a repair, found that of {run.verb}")
    if original is None:
        original = GoodNet.load(folder / "goodnet", architecture=architecture, confine=confine).original
    record, shape = run.result, original.image_shape
    networks = tuple(
        RepairedNetwork(
            entry.name,
            read_network(_network_file(folder, entry.file), architecture, shape, confine=confine).with_input_range(
                record.input_range
            ),
            entry.accuracy,
            entry.changes,
        )
        for entry in record.networks
    )
    return Repair(networks, record.accuracy_before, record.trace, original=original, run=run)


def _network_file(folder: Path, name: str) -> Path:
    """Return a network's file; a record names files of its own folder alone."""
    return require_inside(folder / Path(name).name, folder, UnreadableModel)


def write_evaluation(
    out: str | Path,
    evaluation: Evaluation,
    sweeps: Mapping[str, tuple[PruningSweep, PruningLevels]],
    recorder: Recorder,
) -> Path:
    """Write the table (CSV), the figure of all rates, for pruning runs the curves with attack success, and `run.json`."""
    out = output_folder(out)
    remove_record(out)
    write_text(out / "evaluation.csv", evaluation_csv(evaluation))
    draw_rates([(row.name, row.metrics) for row in evaluation.rows], out / "rates.png")
    for name, (_, levels) in sweeps.items():
        write_text(out / f"pruning_{name}.csv", pruning_csv(pruning_columns(levels)))
    if sweeps:
        draw_pruning_curves([pruning_curve(sweep, levels) for sweep, levels in sweeps.values()], out / "pruning.png")
    return recorder.run(evaluation, out=out).save(out)


def pruning_columns(levels: PruningLevels) -> dict[str, list[float]]:
    """Return the columns of a pruning table: Accuracy, and ASR of each poisoned set."""
    columns = {"Accuracy": [rate.value for rate in levels.clean_accuracy]} if levels.clean_accuracy else {}
    several = len(levels.attack_success_rate) > 1
    for name, rates in levels.attack_success_rate.items():
        columns[f"ASR {name}" if several else "ASR"] = [rate.value for rate in rates]
    return columns


def validation_curve(sweep: PruningSweep) -> PruningCurve:
    """Return what to draw of a sweep: accuracy on the clean data given, and where each threshold stopped."""
    return PruningCurve(
        title=f"{sweep.layer}, {sweep.order}, on the clean data given",
        channels=len(sweep.channels),
        accuracy=sweep.accuracy,
        thresholds=_reached(sweep),
    )


def pruning_curve(sweep: PruningSweep, levels: PruningLevels) -> PruningCurve:
    """Return what to draw: the rates of every level on an evaluation's data, and where the `sweep` stopped."""
    return PruningCurve(
        title=f"{levels.layer}, {sweep.order}",
        channels=len(levels.order),
        accuracy=[rate.value for rate in levels.clean_accuracy],
        attack_success_rates={name: [r.value for r in rates] for name, rates in levels.attack_success_rate.items()},
        thresholds=_reached(sweep),
    )


def _reached(sweep: PruningSweep) -> dict[float, int]:
    return {threshold: count for threshold, count in sweep.pruned_at_threshold.items() if count is not None}
