"""`repair`: a network and clean images -> repaired networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from goodnet import catalog
from goodnet.algorithms.input_range import RangeOption
from goodnet.api.loading import DataLike, ModelLike, Shape, load, named_paths
from goodnet.core.backdoor import Backdoor
from goodnet.core.errors import MethodFailed
from goodnet.core.method import Progress, Repairer, no_progress
from goodnet.core.results import Repair
from goodnet.formats.files import output_folder
from goodnet.pipelines.scan_ensemble import ScanEnsemble
from goodnet.report.runs import Recorder, remove_previous, write_repair


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
    options = repairer.model_dump(mode="json") | {"input_range": input_range, "architecture": architecture}
    recorder = Recorder("repair", named_paths(model=model, clean=clean), repairer.name(), options, seed)
    loaded = load(model, clean, architecture=architecture, image_shape=image_shape, input_range=input_range)
    if out is not None:
        out = output_folder(out)
    try:
        suspected: tuple[Backdoor, ...] = ()
        if repairer.needs_suspects:
            suspected = ScanEnsemble().scan(loaded.classifier, loaded.clean, seed=seed, progress=progress).suspected
        result = repairer.repair(loaded.classifier, loaded.clean, suspected=suspected, seed=seed, progress=progress)
    except MethodFailed as error:
        if out is not None:
            remove_previous(out)
            recorder.write(out, error=error)
        raise
    if out is not None:
        write_repair(out, loaded.classifier, result, recorder, input_range_reason=loaded.reason)
    return result
