"""`evaluate`: what networks and GoodNets do on clean and poisoned data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from goodnet.api.loading import (
    DataLike,
    fit_data,
    holds_goodnet,
    load_dataset,
    networks_of,
    open_alike,
    open_goodnet,
    open_network,
    read_stored,
    refuse_device,
    tell,
)
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import InvalidOption, UnreadableData, WrongShape
from goodnet.core.given import refuse_given
from goodnet.core.method import Progress, no_progress
from goodnet.core.preprocessing import RangeOption
from goodnet.core.reading import Reading
from goodnet.core.repairs import PruningSweep, RepairedNetwork
from goodnet.core.results import Evaluation
from goodnet.devices import CPU, on_device
from goodnet.evaluation.comparison import evaluate_goodnet, evaluate_network
from goodnet.evaluation.pruning_curve import PruningLevels, measure_pruning
from goodnet.execution import Execution
from goodnet.formats.files import output_folder
from goodnet.formats.images import other_order
from goodnet.formats.live_networks import ModelLike
from goodnet.formats.shown_paths import show_path
from goodnet.inference.class_order import choose_class_order, relabel
from goodnet.inference.input_range import choose_input_range
from goodnet.pair.goodnet import GoodNet, goodnet_folder, is_goodnet
from goodnet.pair.onnx import OnnxGoodNet
from goodnet.reports.runs import Recorder, read_repair, write_evaluation


def evaluate(
    model: ModelLike | GoodNet | OnnxGoodNet,
    clean: DataLike | None = None,
    poisoned: Sequence[DataLike] = (),
    *,
    repaired: Sequence[ModelLike] = (),
    true_labels: DataLike | None = None,
    target: int | None = None,
    out: str | Path | None = None,
    reading: Reading = Reading(),
    where: Execution = Execution(),
    progress: Progress = no_progress,
) -> Evaluation:
    """Measure networks and GoodNets on clean and poisoned data; the only verb that may see the truth.

    Args:
        model: the original network (see `load_classifier`), or a GoodNet: an object, the folder that `repair` wrote,
            or the ONNX file that `export` wrote. Of a file that does not ask B' of every image, B' gets no row.
        clean: clean images with labels, see `load_dataset`.
        poisoned: sets of triggered images; their labels are the attack's targets.
        repaired: repaired networks to compare with the original, each a file, a live object, the folder of a
            repair, or that of a GoodNet.
        true_labels: data whose labels are the true classes of the poisoned images, in their order.
        target: says that the poisoned sets' labels are the true classes, and the attack's target is this class.
        out: folder for tables, figures and `run.json`.
        reading: how to read networks and pictures; `key` is of the original.
        where: the device alone; an ONNX file runs on the CPU.
        progress: called with the number of images of the set at hand that are done.

    Raises:
        InputError: something that came in cannot be used.
    """
    refuse_given(where, "evaluate", "workers", "cluster", "budget")
    place = where.place()
    paths = {f"poisoned {i}": data for i, data in enumerate(poisoned)} | {
        f"repaired {i}": r for i, r in enumerate(repaired)
    }
    recorder = Recorder("evaluate", {"model": model, "clean": clean, "true_labels": true_labels, **paths})
    recorder.note(None, reading, target=target)
    out = None if out is None else output_folder(out)
    loaded, clean_data, sets = _read(model, clean, poisoned, reading)
    if isinstance(loaded, Classifier):
        recorder.know("model", loaded)
    sets = [_with_truth(data, true_labels, target) for data in sets]
    refuse_device(where, loaded)
    sweeps: dict[str, tuple[PruningSweep, PruningLevels]] = {}
    # Networks of files are read to the CPU; live ones are put together with them there.
    with on_device(CPU, *(network for item in (loaded, *repaired) for network in networks_of(item))):
        if isinstance(loaded, OnnxGoodNet):
            evaluation = _evaluate_file(loaded, clean_data, sets, repaired, reading, progress)
        else:
            opened = _open(loaded, clean_data, reading.input_range, range_known=isinstance(model, Classifier))
            runs = [_open_repaired(item, opened.original, reading.confine) for item in repaired]
            evaluation, sweeps = _measure(opened, runs, clean_data, sets, place, progress, swept=out is not None)
    if out is not None:
        write_evaluation(out, evaluation, sweeps, recorder)
    return evaluation


def _measure(
    opened: _Opened,
    runs: Sequence[_OpenedRun],
    clean: Dataset | None,
    poisoned: Sequence[Dataset],
    place: torch.device,
    progress: Progress,
    *,
    swept: bool,
) -> tuple[Evaluation, dict[str, tuple[PruningSweep, PruningLevels]]]:
    """Measure all networks on the device `place`, with `swept` the levels of pruning too."""
    more = [pair for _, found in runs for pair in found]
    networks = [network for _, goodnet, _ in (*opened.pairs, *more) for network in networks_of(goodnet)]
    with on_device(place, opened.original, *networks):
        evaluation = _evaluate_pairs(opened, more, clean, poisoned, progress)
        pruned = [(name, sweep) for (name, sweep), _ in runs if sweep is not None and swept]
        return evaluation, _sweep_runs(pruned, opened.original, clean, poisoned, progress)


def _evaluate_file(
    file: OnnxGoodNet,
    clean: Dataset | None,
    poisoned: Sequence[Dataset],
    repaired: Sequence[ModelLike],
    reading: Reading,
    progress: Progress,
) -> Evaluation:
    if repaired:
        raise InvalidOption(
            f"{file.path}: an ONNX file cannot be taken apart to compare its original with a repaired network; give the "
            "GoodNet's folder, or the original, beside --repaired"
        )
    if reading.input_range not in ("auto", file.card.input_range):
        raise InvalidOption(
            f"{file.path}: the file was written for images in {file.card.input_range}, not {reading.input_range}; leave out "
            "--input-range, or export it again"
        )
    rows = evaluate_goodnet(file, clean, poisoned, progress=progress)
    return Evaluation(rows=rows, input_range=file.card.input_range, input_range_reason="as written in the ONNX file")


def _evaluate_pairs(
    opened: _Opened, more: Sequence[Pair], clean: Dataset | None, poisoned: Sequence[Dataset], progress: Progress
) -> Evaluation:
    """Evaluate the network that was opened, with its own repaired one and `more`; alone where there is none."""
    pairs = [*opened.pairs, *more]
    rows = [evaluate_network(opened.original, clean, poisoned, progress=progress)] if not pairs else []
    labels = _number_repeated([label for label, _, _ in pairs])
    for label, (_, goodnet, network) in zip(labels, pairs, strict=True):
        original, *both = evaluate_goodnet(goodnet, clean, poisoned, repaired=network, label=label, progress=progress)
        rows = [*(rows or [original]), *both]
    return Evaluation(rows=tuple(rows), input_range=opened.original.input_range, input_range_reason=opened.reason)


def _number_repeated(names: Sequence[str]) -> list[str]:
    """Return the names, each of them once: the second of a name gets a number."""
    return [name if n == 1 else f"{name} ({n})" for i, name in enumerate(names) for n in [names[: i + 1].count(name)]]


def _read(
    model: ModelLike | GoodNet | OnnxGoodNet,
    clean: DataLike | None,
    poisoned: Sequence[DataLike],
    reading: Reading,
) -> tuple[Classifier | GoodNet | OnnxGoodNet, Dataset | None, list[Dataset]]:
    """Return the network, the clean set and the poisoned ones, pictures as the network takes them."""
    given = {"clean": [] if clean is None else [clean], "poisoned": poisoned}
    found = [(read_stored(item, name, reading), item) for name, items in given.items() for item in items]
    if isinstance(model, GoodNet | OnnxGoodNet) or (isinstance(model, str | Path) and holds_goodnet(model)):
        model = open_goodnet(model, reading)
    else:
        shape = reading.image_shape or next((data.image_shape for data, _ in found if data is not None), None)
        model = open_network(model, replace(reading, image_shape=shape))
    fitting = [fit_data(model, data, item, reading) for data, item in found]
    network = model.original if isinstance(model, GoodNet) else model
    if isinstance(network, Classifier):
        fitting = _in_class_order(network, fitting) if clean is not None else fitting
    if isinstance(network, Classifier | OnnxGoodNet):
        tell(*network.notes)
    tell(*(note for data in fitting for note in data.notes))
    return (model, None, fitting) if clean is None else (model, fitting[0], fitting[1:])


def _in_class_order(model: Classifier, sets: list[Dataset]) -> list[Dataset]:
    """Return the sets; class folders are numbered in the order that fits the network on the first set, the clean one."""
    first = choose_class_order(model, sets[0], other_order(sets[0]))
    return sets if first is sets[0] else [first, *(relabel(data, sets[0], first) for data in sets[1:])]


Pair = tuple[str, GoodNet, RepairedNetwork | None]
#: The name and the pruning sweep of a repair, and a GoodNet for each repaired network in it.
_OpenedRun = tuple[tuple[str, PruningSweep | None], list[Pair]]


@dataclass(frozen=True)
class _Opened:
    """The network to evaluate, why it is fed as it is, and the GoodNet if one was given."""

    original: Classifier
    reason: str
    pairs: list[Pair]


def _open(
    model: Classifier | GoodNet, clean: Dataset | None, input_range: RangeOption, *, range_known: bool
) -> _Opened:
    if isinstance(model, GoodNet):
        if input_range == "auto" and not model.range_known and clean is not None:
            choice = choose_input_range(model.original, clean)
            model = model.with_original(choice.classifier)
            return _Opened(model.original, choice.reason, [("repaired", model, None)])
        if input_range == "auto":
            return _Opened(model.original, "as saved with the GoodNet", [("repaired", model, None)])
        model = model.with_original(model.original, input_range=input_range)
        return _Opened(model.original, "as given", [("repaired", model, None)])
    if clean is None and input_range == "auto" and not range_known:
        raise InvalidOption("the input range cannot be found without clean data: give --clean or --input-range")
    if clean is None or (range_known and input_range == "auto"):
        option = model.input_range if input_range == "auto" else input_range
        return _Opened(model.with_input_range(option), "as given", [])
    choice = choose_input_range(model, clean, input_range)
    return _Opened(choice.classifier, choice.reason, [])


def _open_repaired(item: ModelLike, original: Classifier, confine: bool) -> _OpenedRun:
    """Return the name and the pruning sweep of a repair, and a GoodNet for each repaired network in it."""
    if isinstance(item, str | Path) and Path(item).is_dir():
        if is_goodnet(item) and goodnet_folder(item) == Path(item):
            return ("", None), [_open_goodnet(Path(item).resolve(), original, confine)]
        repair = read_repair(item, original.architecture, original, confine=confine)
        targets = repair.require_run()[1].targets or None
        name = show_path(Path(item).resolve().name)
        return (name, repair.trace.sweep), [
            (f"{name}/{n.name}", GoodNet(original, n.classifier, targets=targets), n) for n in repair.networks
        ]
    network = open_alike(item, original, confine=confine)
    return ("", None), [(Path(network.name).stem, GoodNet(original, network), None)]


def _open_goodnet(folder: Path, original: Classifier, confine: bool) -> Pair:
    """Return the GoodNet of `original` and the repaired network in a GoodNet's folder."""
    saved = GoodNet.load(folder, architecture=original.architecture, confine=confine)
    label = f"{folder.parent.name}/{folder.name}"
    return label, saved.with_original(original), None


def _sweep_runs(
    pruned: Sequence[tuple[str, PruningSweep]],
    original: Classifier,
    clean: Dataset | None,
    poisoned: Sequence[Dataset],
    progress: Progress,
) -> dict[str, tuple[PruningSweep, PruningLevels]]:
    """Return, for each repair that pruned, what every level of its order does on the evaluation's data."""
    names = _number_repeated([name for name, _ in pruned])
    return {
        name: (sweep, measure_pruning(original, sweep.layer, sweep.channels, clean, poisoned, progress=progress))
        for name, (_, sweep) in zip(names, pruned, strict=True)
    }


def _with_truth(poisoned: Dataset, true_labels: DataLike | None, target: int | None) -> Dataset:
    """Return a poisoned set whose labels are targets, with the true classes beside them where they are known."""
    if target is not None and target < 0:
        raise InvalidOption(f"--target: expected a class number, 0 or more, got {target}")
    if target is not None and true_labels is not None:
        raise InvalidOption(
            "--target and --true-labels exclude each other: with --target the labels of the poisoned set are the true classes "
            "already; leave one out"
        )
    if target is not None:
        if poisoned.labels is None:
            raise UnreadableData(f"{poisoned.name}: --target needs the true classes as labels, and there are none")
        return replace(poisoned, labels=np.full_like(poisoned.labels, target), true_labels=poisoned.labels)
    if true_labels is None:
        return poisoned
    truth = load_dataset(true_labels, name="true labels")
    if len(truth) != len(poisoned):
        raise WrongShape(
            f"{poisoned.name}: expected one true label per image, got {len(truth)} in {truth.name} for {len(poisoned)} images"
        )
    known = np.full(poisoned.source.shape[0], -1, dtype=np.int64)
    known[poisoned.positions] = truth.targets
    return replace(poisoned, true_labels=known)
