"""What a scan suspects: read from its folder, given as objects, or found by a scan on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from goodnet.core.backdoor import Backdoor, Patch
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import WrongShape
from goodnet.core.method import Progress
from goodnet.core.results import Detection
from goodnet.execution import Engine, Execution
from goodnet.formats.triggers import SUSPECTED, read_backdoors
from goodnet.pipelines.scan_ensemble import ScanEnsemble
from goodnet.shards import Shards

#: The folder of a scan, or the backdoors themselves.
Suspects = Sequence[Backdoor] | str | Path
#: With more classes than this a scan is spread over the cores.
_MANY_CLASSES = 200


def read_suspects(suspected: Suspects, classifier: Classifier) -> tuple[Backdoor, ...]:
    """Return what is suspected of `classifier`; backdoors of a folder that `scan` wrote are read from it.

    Raises:
        UnreadableData: the folder is not that of a scan, or its file is damaged.
        WrongShape: a target or source is none of the network's classes, or a trigger is not of its images' size.
    """
    given = read_backdoors(Path(suspected) / SUSPECTED) if isinstance(suspected, str | Path) else tuple(suspected)
    for item in given:
        for label in (item.target, *(item.sources or ())):
            if not 0 <= label < classifier.classes:
                doubt = "; is it the scan of another network?" if isinstance(suspected, str | Path) else ""
                raise WrongShape(
                    f"{classifier.name}: expected suspected classes from 0 to {classifier.classes - 1}, got {label}{doubt}"
                )
        if isinstance(item.trigger, Patch) and item.trigger.pattern.shape != classifier.image_shape:
            raise WrongShape(
                f"the trigger suspected for class {item.target} is for images {tuple(item.trigger.pattern.shape)}, "
                f"{classifier.name} takes {classifier.image_shape}; is it the scan of another network?"
            )
    return given


def told_targets(suspected: Suspects | None) -> dict[str, list[int]]:
    """Return what a run's record says of suspects that are no folder, which it names among its inputs."""
    if suspected is None or isinstance(suspected, str | Path):
        return {}
    return {"suspected_targets": [backdoor.target for backdoor in suspected]}


def beyond_targets(suspected: Suspects | None) -> Suspects | None:
    """Return suspects of which their targets do not say everything, such as triggers; None of others."""
    if suspected is None or isinstance(suspected, str | Path):
        return suspected
    told = all(backdoor.trigger is None and backdoor.sources is None for backdoor in suspected)
    return None if told else suspected


def look_for_suspects(
    classifier: Classifier, clean: Dataset, *, seed: int, where: Execution, progress: Progress
) -> Detection:
    """Scan `classifier` as `goodnet scan` does by default."""
    shards = Shards(choose_engine(classifier, where), seconds=where.budget)
    return ScanEnsemble().scan(classifier, clean, seed=seed, run_parts=shards, progress=progress)


def choose_engine(classifier: Classifier, where: Execution) -> Engine:
    """Return what runs a scan's parts: what was given, else this process, or for many classes one process per core.

    A pool of processes costs seconds to start.
    """
    few = classifier.classes <= _MANY_CLASSES or classifier.device.type != "cpu"
    if where.workers is None and where.cluster is None and few:
        return Engine(threads=torch.get_num_threads())
    return where.engine()
