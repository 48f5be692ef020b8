"""The verbs: what the command line does, as Python functions on files or on live objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from goodnet import catalog
from goodnet.algorithms.input_range import RangeOption, choose_input_range
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import InvalidOption, MethodFailed, UnreadableData, WrongShape
from goodnet.core.method import Progress, Repairer, no_progress
from goodnet.core.results import Evaluation, Repair, RepairedNetwork
from goodnet.evaluation.comparison import evaluate_goodnet, evaluate_network
from goodnet.evaluation.pruning_curve import PruningLevels, measure_pruning
from goodnet.formats.data import read_data
from goodnet.formats.files import output_folder
from goodnet.formats.images import read_pictures
from goodnet.formats.networks import is_network, read_network
from goodnet.guards.disagreement import GoodNet, is_goodnet
from goodnet.report.runs import Recorder, RepairRun, read_repair, write_evaluation, write_repair

ModelLike = Classifier | str | Path
DataLike = Dataset | str | Path
Shape = tuple[int, int, int]


def load_classifier(
    model: ModelLike, *, architecture: str | None = None, image_shape: Shape | None = None
) -> Classifier:
    """Return a model file as a `Classifier`; a `Classifier` comes back as it is.

    Args:
        model: `.h5`, `.keras`, `.pt`, `.pth`, `.safetensors`.
        architecture: for files that hold weights alone, a name or `package.module:factory`.
        image_shape: (C, H, W), for architectures that do not know theirs.

    Raises:
        UnreadableModel: the file cannot be read, is hostile, or does not fit the architecture.
    """
    return model if isinstance(model, Classifier) else read_network(model, architecture, image_shape)


def load_dataset(data: DataLike, *, channels: int = 3) -> Dataset:
    """Return a data file or folder as a `Dataset`; a `Dataset` comes back as it is.

    Args:
        data: `.h5`, `.npz`, a folder of class folders, a picture.
        channels: 1 reads pictures as grey, 3 as RGB.

    Raises:
        UnreadableData: the data cannot be read.
    """
    return data if isinstance(data, Dataset) else read_data(data, channels)


def open_path(
    path: str | Path, *, architecture: str | None = None, image_shape: Shape | None = None
) -> Classifier | Dataset:
    """Return what lies at `path`: a network (of a GoodNet the original) or a data set.

    Raises:
        InputError: there is nothing that can be read.
    """
    path = Path(path)
    if path.is_dir() and is_goodnet(path):
        return GoodNet.load(path).original
    if path.is_file() and is_network(path):
        return read_network(path, architecture, image_shape)
    return read_data(path)


@dataclass(frozen=True)
class Loaded:
    """A network and the clean data that it is read with, in an input range that fits."""

    classifier: Classifier
    clean: Dataset
    reason: str


def load(
    model: ModelLike,
    clean: DataLike,
    *,
    architecture: str | None = None,
    image_shape: Shape | None = None,
    input_range: RangeOption = "auto",
) -> Loaded:
    """Return network and clean data, the network in the input range in which it answers them.

    Raises:
        InputError: one of them cannot be read, or they do not fit each other.
    """
    data = load_dataset(clean)
    classifier = load_classifier(model, architecture=architecture, image_shape=image_shape or data.image_shape)
    if classifier.image_shape[0] != data.image_shape[0] and not isinstance(clean, Dataset):
        data = load_dataset(clean, channels=classifier.image_shape[0])
    choice = choose_input_range(classifier, data, input_range)
    return Loaded(choice.classifier, data, choice.reason)


def repair(
    model: ModelLike,
    clean: DataLike,
    *,
    method: str = "pruning",
    out: str | Path | None = None,
    architecture: str | None = None,
    image_shape: Shape | None = None,
    input_range: RangeOption = "auto",
    seed: int = 0,
    progress: Progress = no_progress,
    **options: Any,
) -> Repair:
    """Repair a network with clean images alone.

    Args:
        model: the network, a file or a `Classifier`.
        clean: clean images with labels, a file, a folder or a `Dataset`.
        method: the repairer's name; its `options` are its fields.
        out: folder for the repaired networks, the GoodNet, tables, figures and `run.json`; None writes nothing.
        architecture, image_shape, input_range: how to read the network, see `load`.
        seed: seed of whatever the method draws at random.
        progress: is told the steps done.

    Raises:
        InputError: something that came in cannot be used; nothing has been written.
        MethodFailed: the method reached no result; `run.json` in `out` says why.
    """
    repairer = cast(type[Repairer], catalog.find("repairers", method)).from_options(**options)
    loaded = load(model, clean, architecture=architecture, image_shape=image_shape, input_range=input_range)
    inputs = _paths(model=model, clean=clean)
    recorder = Recorder("repair", inputs, repairer.name(), repairer.model_dump(mode="json"), seed)
    if out is not None:
        out = output_folder(out)
    try:
        result = repairer.repair(loaded.classifier, loaded.clean, seed=seed, progress=progress)
    except MethodFailed as error:
        if out is not None:
            recorder.write(out, error=error)
        raise
    if out is not None:
        write_repair(out, loaded.classifier, result, recorder)
    return result


def evaluate(
    model: ModelLike | GoodNet,
    clean: DataLike | None = None,
    poisoned: Sequence[DataLike] = (),
    *,
    repaired: Sequence[ModelLike] = (),
    true_labels: DataLike | None = None,
    target: int | None = None,
    out: str | Path | None = None,
    architecture: str | None = None,
    image_shape: Shape | None = None,
    input_range: RangeOption = "auto",
    progress: Progress = no_progress,
) -> Evaluation:
    """Measure networks and GoodNets on clean and poisoned data; the only verb that may see the truth.

    Args:
        model: the original network, or a GoodNet (object, or the folder that `repair` wrote).
        clean: clean images with labels.
        poisoned: sets of triggered images; their labels are the attack's targets.
        repaired: repaired networks to compare with the original, each a file, a `Classifier`, or the folder of a repair.
        true_labels: data whose labels are the true classes of the poisoned images, in their order.
        target: says that the poisoned sets' labels are the true classes, and the attack's target is this class.
        out: folder for tables, figures and `run.json`.
        architecture, image_shape, input_range: how to read the networks, see `load`.
        progress: is told the images done of the set at hand.

    Raises:
        InputError: something that came in cannot be used.
    """
    paths = {f"poisoned {i}": data for i, data in enumerate(poisoned)} | {
        f"repaired {i}": r for i, r in enumerate(repaired)
    }
    recorder = Recorder("evaluate", _paths(model=model, clean=clean, **paths))
    out = None if out is None else output_folder(out)
    clean_data = None if clean is None else load_dataset(clean)
    sets = [_with_truth(load_dataset(data), true_labels, target) for data in poisoned]
    opened = _open(model, clean_data, sets, architecture, image_shape, input_range)
    runs = [_open_repaired(item, opened.original) for item in repaired]
    pairs = opened.pairs + [pair for _, found in runs for pair in found]
    rows = [evaluate_network(opened.original, clean_data, sets, progress=progress)] if not pairs else []
    for label, goodnet, network in pairs:
        original, *both = evaluate_goodnet(goodnet, clean_data, sets, repaired=network, label=label, progress=progress)
        rows = [*(rows or [original]), *both]
    evaluation = Evaluation(rows=tuple(rows), input_range=opened.original.input_range, input_range_reason=opened.reason)
    if out is not None:
        sweeps = _sweep_runs([run for run, _ in runs if run], opened.original, clean_data, sets, progress)
        write_evaluation(out, evaluation, sweeps, recorder)
    return evaluation


Pair = tuple[str, GoodNet, RepairedNetwork | None]


@dataclass(frozen=True)
class _Opened:
    """The network to evaluate, why it is fed as it is, and the GoodNet if one was given."""

    original: Classifier
    reason: str
    pairs: list[Pair]


def _open(
    model: ModelLike | GoodNet,
    clean: Dataset | None,
    poisoned: Sequence[Dataset],
    architecture: str | None,
    image_shape: Shape | None,
    input_range: RangeOption,
) -> _Opened:
    if isinstance(model, str | Path) and Path(model).is_dir():
        model = GoodNet.load(model)
    if isinstance(model, GoodNet):
        return _Opened(model.original, "as saved with the GoodNet", [("repaired", model, None)])
    if clean is None and input_range == "auto" and not isinstance(model, Classifier):
        raise InvalidOption("the input range cannot be found without clean data: give --clean or --input-range")
    data = clean or (poisoned[0] if poisoned else None)
    shape = data.image_shape if image_shape is None and data is not None else image_shape
    classifier = load_classifier(model, architecture=architecture, image_shape=shape)
    if clean is None or (isinstance(model, Classifier) and input_range == "auto"):
        option = classifier.input_range if input_range == "auto" else input_range
        return _Opened(classifier.with_input_range(option), "as given", [])
    choice = choose_input_range(classifier, clean, input_range)
    return _Opened(choice.classifier, choice.reason, [])


def _open_repaired(item: ModelLike, original: Classifier) -> tuple[RepairRun | None, list[Pair]]:
    """Return the repair run (None for a single network) and a GoodNet for each repaired network in it."""
    if isinstance(item, str | Path) and Path(item).is_dir():
        run = read_repair(item, original.architecture, original.image_shape)
        name = Path(item).name
        return run, [(f"{name}/{n.name}", GoodNet(original, n.classifier), n) for n in run.networks]
    network = load_classifier(item, architecture=original.architecture, image_shape=original.image_shape)
    return None, [(Path(network.name).stem, GoodNet(original, network), None)]


def _sweep_runs(
    runs: Sequence[RepairRun],
    original: Classifier,
    clean: Dataset | None,
    poisoned: Sequence[Dataset],
    progress: Progress,
) -> dict[str, tuple[RepairRun, PruningLevels]]:
    """Return, for each run that pruned, what every level of its order does on the evaluation's data."""
    pruned = [run for run in runs if "pruned_at_threshold" in run.trace]
    return {
        run.folder.name: (
            run,
            measure_pruning(original, run.trace["layer"], run.trace["channels"], clean, poisoned, progress=progress),
        )
        for run in pruned
    }


def _with_truth(poisoned: Dataset, true_labels: DataLike | None, target: int | None) -> Dataset:
    """Return a poisoned set whose labels are targets, with the true classes beside them where they are known."""
    if target is not None:
        if poisoned.labels is None:
            raise UnreadableData(f"{poisoned.name}: --target needs the true classes as labels, and there are none")
        return replace(poisoned, labels=np.full_like(poisoned.labels, target), true_labels=poisoned.labels)
    if true_labels is None:
        return poisoned
    truth = load_dataset(true_labels)
    if len(truth) != len(poisoned):
        raise WrongShape(
            f"{poisoned.name}: expected one true label per image, got {len(truth)} in {truth.name} for {len(poisoned)} images"
        )
    return replace(poisoned, true_labels=truth.targets)


def predict(goodnet: GoodNet | str | Path, images: Sequence[str | Path] | DataLike) -> list[int]:
    """Return the class of every image: N ("one more than the last") where the GoodNet says backdoored.

    Args:
        goodnet: a `GoodNet`, or the folder that holds one.
        images: picture files, or a data set.

    Raises:
        UnreadableModel: there is no GoodNet in the folder.
        UnreadableData: a picture cannot be read.
        WrongShape: a picture has another size than the network takes.
    """
    guard = goodnet if isinstance(goodnet, GoodNet) else GoodNet.load(goodnet)
    channels = guard.original.image_shape[0]
    if isinstance(images, Dataset | str | Path):
        dataset = load_dataset(images, channels=channels)
    else:
        dataset = read_pictures(images, channels)
    return [int(label) for label in guard.answers(dataset).goodnet]


def _paths(**inputs: object) -> dict[str, str | Path]:
    return {role: value for role, value in inputs.items() if isinstance(value, str | Path)}
