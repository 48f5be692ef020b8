"""The verb `scan`: is this network backdoored, and how."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import torch

from goodnet import catalog
from goodnet.api.loading import DataLike, Loaded, choose_range, load_both
from goodnet.api.suspects import choose_engine
from goodnet.core.errors import ImplausibleLabels, InvalidOption
from goodnet.core.method import Progress, Scanner, no_progress
from goodnet.core.reading import Reading
from goodnet.core.results import Detection, Rate
from goodnet.devices import CPU, on_device
from goodnet.execution import Execution
from goodnet.formats.files import output_folder
from goodnet.formats.live_networks import ModelLike
from goodnet.inference.input_range import choose_unlabelled_range
from goodnet.inference.predictions import measure_accuracy
from goodnet.reports.runs import Recorder
from goodnet.reports.scans import write_scan
from goodnet.shards import Shards
from goodnet.time_limits import Clock

#: Clean images that the accuracy is measured on, at most: half a percent is its standard error then.
_MEASURED = 2000
#: Clean images that tell one data set from another.
_MARKED = 100


def scan(
    model: ModelLike,
    clean: DataLike,
    *,
    method: str | Scanner = "ensemble",
    out: str | Path | None = None,
    reading: Reading = Reading(),
    where: Execution = Execution(),
    seed: int = 0,
    resume: bool = False,
    recorder: Recorder | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Detection:
    """Decide whether a network carries a backdoor, from clean images alone.

    Args:
        model: the network, a file or a live object, see `load_classifier`.
        clean: clean images, with labels or without, a file, a folder or a live object, see `load_dataset`.
        method: a scanner, or its name; the `options` are the fields of the one named.
        out: folder for `scan.json`, table and plot of the scores, pictures of the triggers; None writes nothing.
        reading: how to read network and pictures.
        where: the device, and processes or a Ray cluster: without either, one process per core where there are many
            classes, else this process. Of a scan that ends with its `budget`, what was not finished is said.
        seed: of whatever the method draws at random.
        resume: go on from what an interrupted scan left in `out`; the result is that of an undisturbed one.
        recorder: is told what is scanned and how, for who writes the record of the run elsewhere too; None: a new one.
        progress: called with the number of classes that are done.

    Raises:
        InputError: something that came in cannot be used.
        MethodFailed: the method reached no result.
    """
    clock = Clock(where.budget)
    place = where.place()
    scanner = cast(Scanner, catalog.make("scanners", method, options))
    recorder = recorder or Recorder("scan", {"model": model, "clean": clean}, seed=seed)
    recorder.note(scanner, reading, budget=where.budget, device=str(place))
    loaded = _load(model, clean, reading)
    network = loaded.classifier
    recorder.options["found"] = {"input_range": network.input_range, "resize": network.resizing}
    recorder.know("model", network)
    folder = None if out is None else output_folder(out)
    if resume and folder is None:
        raise InvalidOption("resume: expected the folder (out) of the scan that was interrupted")
    with on_device(place, network):
        shards = Shards(choose_engine(network, where), seconds=clock.share(1.0))
        if folder is not None:
            shards.open_memory(folder / "unfinished", _mark(loaded, scanner, seed), resume=resume)
        detection = scanner.scan(network, loaded.clean, seed=seed, run_parts=shards, progress=progress)
        detection = replace(detection, clean_accuracy=_accuracy(loaded), notes=loaded.notes)
    if folder is not None:
        with on_device(CPU, network):
            write_scan(folder, detection, loaded.clean, network, recorder)
    shards.close_memory()
    return detection


def _mark(loaded: Loaded, scanner: Scanner, seed: int) -> str:
    """Return a hash of all that a scan's parts depend on: weights, images, options, seed, and the versions."""
    digest = hashlib.sha256()
    for name, value in loaded.classifier.network.state_dict().items():
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    images = loaded.clean.sample(_MARKED, seed=seed).images()
    what = [scanner.name(), scanner.model_dump_json(), seed, loaded.classifier.input_range, metadata.version("goodnet")]
    digest.update(images.numpy().tobytes() + repr([*what, torch.__version__]).encode())
    return digest.hexdigest()


def _accuracy(loaded: Loaded) -> Rate | None:
    """Return the accuracy on the clean images (a sample, where there are many), None where their labels are unknown."""
    if loaded.clean.labels is None:
        return None
    return measure_accuracy(loaded.classifier, loaded.clean.sample(_MEASURED, seed=0))


def _load(model: ModelLike, clean: DataLike, reading: Reading) -> Loaded:
    """Return network and images, in an order that depends only on the images.

    Where the network does not know the labels in any range, the images decide: the scan then says that it does not do its
    task.
    """
    classifier, data = load_both(model, clean, reading)
    data = data.in_canonical_order()
    try:
        choice = choose_range(classifier, data, reading.input_range)
    except ImplausibleLabels:
        choice = choose_unlabelled_range(classifier, data, reading.input_range)
    return Loaded(choice.classifier, data, choice.reason)
