"""The verb `scan`: is this network backdoored, and how."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from goodnet import catalog
from goodnet.algorithms.input_range import RangeOption, choose_input_range, choose_unlabelled_range
from goodnet.api.loading import DataLike, Loaded, ModelLike, Shape, load_classifier, load_dataset
from goodnet.core.errors import ImplausibleLabels
from goodnet.core.method import Progress, Scanner, no_progress
from goodnet.core.results import Detection
from goodnet.formats.files import output_folder
from goodnet.pipelines.scan_ensemble import ScanEnsemble
from goodnet.report.runs import Recorder
from goodnet.report.scans import write_scan


def find_scanner(method: str) -> type[Scanner]:
    """Return the scanner called `method`; "ensemble" is the pipeline of several.

    Raises:
        UnknownMethod: there is none.
    """
    return ScanEnsemble if method == "ensemble" else cast(type[Scanner], catalog.find("scanners", method))


def scan(
    model: ModelLike,
    clean: DataLike,
    *,
    method: str = "ensemble",
    out: str | Path | None = None,
    architecture: str | None = None,
    image_shape: Shape | None = None,
    input_range: RangeOption = "auto",
    seed: int = 0,
    progress: Progress = no_progress,
    **options: Any,
) -> Detection:
    """Decide whether a network carries a backdoor, from clean images alone.

    Args:
        model: the network, a file or a `Classifier`.
        clean: clean images with labels, a file, a folder or a `Dataset`.
        method: the scanner's name, or "ensemble"; its `options` are its fields.
        out: folder for `scan.json`, the table of scores and pictures of the triggers; None writes nothing.
        architecture, image_shape, input_range: how to read the network, see `load`.
        seed: of whatever the method draws at random.
        progress: is told the classes done.

    Raises:
        InputError: something that came in cannot be used.
    """
    scanner = find_scanner(method).from_options(**options)
    loaded = _load(model, clean, architecture, image_shape, input_range)
    inputs = {role: value for role, value in (("model", model), ("clean", clean)) if isinstance(value, str | Path)}
    recorder = Recorder("scan", inputs, scanner.name(), scanner.model_dump(mode="json"), seed)
    folder = None if out is None else output_folder(out)
    detection = scanner.scan(loaded.classifier, loaded.clean, seed=seed, progress=progress)
    if folder is not None:
        write_scan(folder, detection, loaded.clean, recorder)
    return detection


def _load(
    model: ModelLike, clean: DataLike, architecture: str | None, image_shape: Shape | None, input_range: RangeOption
) -> Loaded:
    """Return network and images; labels that the network plainly does not know are left out: scanners do not use them."""
    data = load_dataset(clean)
    classifier = load_classifier(model, architecture=architecture, image_shape=image_shape or data.image_shape)
    if data.labels is not None:
        try:
            choice = choose_input_range(classifier, data, input_range)
            return Loaded(choice.classifier, data, choice.reason)
        except ImplausibleLabels:
            data = replace(data, labels=None)
    choice = choose_unlabelled_range(classifier, data, input_range)
    return Loaded(choice.classifier, data, choice.reason)
