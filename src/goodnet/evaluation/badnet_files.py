"""The folder of one network and its truth: the model, `backdoor.json`, its triggers, triggered test images.

Nothing in it tells when or where it was made: the same seed writes the same bytes on the same machine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from goodnet.core.backdoor import Backdoor
from goodnet.core.errors import UnreadableData
from goodnet.core.results import SCHEMA_VERSION
from goodnet.datasets.sources import Parts
from goodnet.evaluation.planting import Planted, group_backdoors
from goodnet.formats.arrays import write_hdf5
from goodnet.formats.files import require_inside, sha256, write_text
from goodnet.formats.json_texts import read_json
from goodnet.formats.triggers import write_trigger

TRUTH = "backdoor.json"


@dataclass(frozen=True)
class Origin:
    """Where the images came from, for the record: a name, and a hash of what they were read from."""

    data: str
    sha256: str


def write_planted(folder: Path, planted: Planted, origin: Origin) -> dict[str, Any]:
    """Write a network, its triggers and its triggered test images into a folder, `backdoor.json` last; return that.

    Raises:
        UnwritableOutput: the folder cannot be written to.
    """
    classifier = planted.classifier
    model = classifier.save(folder / f"network{classifier.suffix}")
    sets = {name: write_hdf5(folder / triggered_file(name), data) for name, data in planted.triggered.items()}
    truth = {
        "schema_version": SCHEMA_VERSION,
        "model": {
            "file": model.name,
            "sha256": sha256(model),
            "architecture": classifier.architecture,
            "classes": classifier.classes,
            "image_shape": list(classifier.image_shape),
            "input_range": classifier.input_range,
        },
        "data": {"name": origin.data, "sha256": origin.sha256, "train_images": planted.train_images},
        "training": planted.training.model_dump(mode="json"),
        "seed": planted.seed,
        "attack": _describe_attack(planted),
        "backdoors": _write_backdoors(folder, planted.backdoors),
        "triggered": {name: {"file": path.name, "sha256": sha256(path)} for name, path in sets.items()},
        "metrics": planted.metrics.model_dump(include={"clean_accuracy", "attack_success_rate", "robust_accuracy"}),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
    write_text(folder / TRUTH, json.dumps(truth, indent=2) + "\n")
    return truth


def triggered_file(name: str) -> str:
    """Return the name of the file of test images with the trigger `name`, as in the contest."""
    return f"{name}_poisoned_data.h5"


def _describe_attack(planted: Planted) -> dict[str, Any] | None:
    if planted.attack is None or planted.poisoned is None:
        return None
    return {
        "name": planted.attack.name(),
        "options": planted.attack.model_dump(mode="json"),
        "poisoned_images": len(planted.poisoned.poisoned_positions),
    }


def _write_backdoors(folder: Path, backdoors: tuple[Backdoor, ...]) -> list[dict[str, Any]]:
    """Write each trigger once; return target, sources and files of every backdoor."""
    entries: list[dict[str, Any]] = []
    for name, group in group_backdoors(backdoors).items():
        files = [path.name for path in write_trigger(group[0].trigger, folder / f"trigger_{name}")]
        kind = type(group[0].trigger).__name__
        for item in group:
            sources = None if item.sources is None else list(item.sources)
            entries.append({"name": name, "target": item.target, "sources": sources, "kind": kind, "files": files})
    return entries


def write_clean_parts(folder: Path, parts: Parts) -> tuple[Path, Path]:
    """Write the defender's images and the test images under the contest's names; return the two files."""
    return (
        write_hdf5(folder / "clean_validation_data.h5", parts.validation),
        write_hdf5(folder / "clean_test_data.h5", parts.test),
    )


def read_truth(folder: Path) -> dict[str, Any]:
    """Read the `backdoor.json` in a folder.

    Raises:
        UnreadableData: there is none, or it is damaged.
    """
    path = require_inside(folder / TRUTH, folder)
    try:
        truth = read_json(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UnreadableData(f"{path}: expected the truth about a network, but the file is damaged") from error
    if not isinstance(truth, dict) or "model" not in truth:
        raise UnreadableData(f"{path}: expected the truth about a network (goodnet attack writes it)")
    return truth
