"""The folder of one network and its truth: the model, `backdoor.json`, its triggers, triggered test images.

Nothing in it tells when or where it was made: the same seed writes the same bytes on the same machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.errors import UnreadableData
from goodnet.core.results import SCHEMA_VERSION, Rate, Record
from goodnet.datasets.sources import Parts
from goodnet.evaluation.planting import Planted, group_backdoors
from goodnet.formats.arrays import write_hdf5
from goodnet.formats.files import remove, require_inside, sha256, write_text
from goodnet.formats.json_texts import read_json
from goodnet.formats.triggers import write_trigger
from goodnet.training import Training

TRUTH = "backdoor.json"


@dataclass(frozen=True)
class Origin:
    """Where the images came from, for the record: a name, and a hash of what they were read from."""

    data: str
    sha256: str


class ModelFile(Record):
    """The file of a network and what is needed to open it."""

    file: str
    sha256: str
    architecture: str | None
    classes: int
    image_shape: tuple[int, int, int]
    input_range: str


class TrainingData(Record):
    """The name of the training data, a hash of what it was read from, and how many images there were."""

    name: str
    sha256: str
    train_images: int


class AttackUsed(Record):
    """The attack with its options, and how many training images it poisoned."""

    name: str
    options: dict[str, Any]
    poisoned_images: int


class TrueBackdoor(Record):
    """One backdoor and the files of its trigger; `kind` is the trigger's class."""

    name: str
    target: int
    sources: tuple[int, ...] | None
    kind: str
    files: tuple[str, ...]


class TriggeredFile(Record):
    """Test images that carry a trigger."""

    file: str
    sha256: str


class PlantedMetrics(Record):
    """What a network does on its test images and on those that carry a trigger."""

    clean_accuracy: Rate | None
    attack_success_rate: dict[str, Rate]
    robust_accuracy: dict[str, Rate]


class Truth(Record):
    """What `backdoor.json` holds: the network, how it was made, and the backdoors that it has."""

    schema_version: int = SCHEMA_VERSION
    model: ModelFile
    data: TrainingData
    training: Training
    seed: int
    attack: AttackUsed | None
    backdoors: tuple[TrueBackdoor, ...]
    triggered: dict[str, TriggeredFile]
    metrics: PlantedMetrics
    versions: dict[str, str]


class AttackRecord(Record):
    """What `run.json` holds of an attack: the file of the truth beside it, and what the network does."""

    truth: str
    metrics: PlantedMetrics


def write_planted(folder: Path, planted: Planted, origin: Origin) -> Truth:
    """Write a network, its triggers and its triggered test images into a folder, `backdoor.json` last; return that.

    Raises:
        UnwritableOutput: the folder cannot be written to.
    """
    remove(folder / TRUTH)  # It would be about other files.
    sets = {name: write_hdf5(folder / triggered_file(name), data) for name, data in planted.triggered.items()}
    truth = Truth(
        model=_write_model(folder, planted.classifier),
        data=TrainingData(name=origin.data, sha256=origin.sha256, train_images=planted.train_images),
        training=planted.training,
        seed=planted.seed,
        attack=_describe_attack(planted),
        backdoors=_write_backdoors(folder, planted.backdoors),
        triggered={name: TriggeredFile(file=path.name, sha256=sha256(path)) for name, path in sets.items()},
        metrics=PlantedMetrics.model_validate(planted.metrics.model_dump(include=set(PlantedMetrics.model_fields))),
        versions={"torch": torch.__version__, "numpy": np.__version__},
    )
    write_text(folder / TRUTH, truth.model_dump_json(indent=2) + "\n")
    return truth


def _write_model(folder: Path, classifier: Classifier) -> ModelFile:
    model = classifier.save(folder / f"network{classifier.suffix}")
    return ModelFile(
        file=model.name,
        sha256=sha256(model),
        architecture=classifier.architecture,
        classes=classifier.classes,
        image_shape=classifier.image_shape,
        input_range=classifier.input_range,
    )


def triggered_file(name: str) -> str:
    """Return the name of the file of test images with the trigger `name`, as in the contest."""
    return f"{name}_poisoned_data.h5"


def _describe_attack(planted: Planted) -> AttackUsed | None:
    if planted.attack is None or planted.poisoned is None:
        return None
    return AttackUsed(
        name=planted.attack.name(),
        options=planted.attack.model_dump(mode="json"),
        poisoned_images=len(planted.poisoned.poisoned_positions),
    )


def _write_backdoors(folder: Path, backdoors: tuple[Backdoor, ...]) -> tuple[TrueBackdoor, ...]:
    """Write each trigger once; return target, sources and files of every backdoor."""
    entries = []
    for name, group in group_backdoors(backdoors).items():
        files = tuple(path.name for path in write_trigger(group[0].trigger, folder / f"trigger_{name}"))
        kind = type(group[0].trigger).__name__
        entries += [
            TrueBackdoor(name=name, target=item.target, sources=item.sources, kind=kind, files=files) for item in group
        ]
    return tuple(entries)


def write_clean_parts(folder: Path, parts: Parts) -> tuple[Path, Path]:
    """Write the defender's images and the test images under the contest's names; return the two files."""
    return (
        write_hdf5(folder / "clean_validation_data.h5", parts.validation),
        write_hdf5(folder / "clean_test_data.h5", parts.test),
    )


def read_truth(folder: Path) -> Truth:
    """Read the `backdoor.json` in a folder.

    Raises:
        UnreadableData: there is none, or it is damaged.
    """
    path = require_inside(folder / TRUTH, folder)
    try:
        text = path.read_bytes()
        read_json(text)
        return Truth.model_validate_json(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableData(
            f"{path}: expected the truth about a network (goodnet attack writes it), but the file is damaged"
        ) from error
