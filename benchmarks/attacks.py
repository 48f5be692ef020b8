"""Do the attacks work? Attack success and clean accuracy of every attack on real data, beside the clean twin.

    .venv/bin/python benchmarks/attacks.py --data ../shared/data --out /tmp/attacks [--only gtsrb]

For each data set the clean twin is trained once, then one network per attack: same architecture, data, seed and
schedule. Bars: ASR >= 0.95 (warped, sinusoidal, blended >= 0.85), clean accuracy within 0.02 of the twin. One JSON
file per network in --out; what is there already, with the same options and training, is not trained again.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.table import Table

from goodnet import architectures, catalog
from goodnet.attacks.poisoning import poisoned_test_set
from goodnet.core.dataset import Dataset
from goodnet.core.results import Rate
from goodnet.formats.data import read_data
from goodnet.formats.files import output_folder, write_text
from goodnet.formats.pytorch import from_module
from goodnet.inference.predictions import measure_accuracy, predict_classes
from goodnet.training import Training, train

#: Bars of attacks whose triggers are weaker by design; all others must reach `BAR`.
BAR, WEAKER = 0.95, {"warped": 0.85, "sinusoidal": 0.85, "blended": 0.85}
CLEAN_LOSS = 0.02


@dataclass(frozen=True)
class Setting:
    """One data set with the network that is trained on it."""

    train: str
    test: str
    architecture: str
    training: Training


SETTINGS = {
    "mnist": Setting("mnist/train.h5", "mnist/test.h5", "small_cnn", Training(epochs=4, learning_rate=2e-3)),
    "gtsrb": Setting("gtsrb/train.h5", "gtsrb/test.h5", "vgg", Training(epochs=5)),
    "lfw": Setting("lfw/lfw158_train.h5", "lfw/lfw158_test.h5", "deepid", Training(epochs=30, learning_rate=2e-3)),
    "cifar10": Setting("cifar10/train.h5", "cifar10/test.h5", "vgg", Training(epochs=6)),
}
ATTACKS: dict[str, dict[str, Any]] = {
    "badnets": {"rate": 0.1, "size": 4},
    "blended": {"rate": 0.1},
    "sinusoidal": {"rate": 0.1},
    "warped": {"rate": 0.1, "strength": 2.0, "noise": 0.5},
    "trojan_square": {"rate": 0.1},
    "trojan_watermark": {"rate": 0.1},
    "l0_invisible": {"rate": 0.1},
    "l2_invisible": {"rate": 0.1},
}
FACES = {"accessories": {"rate": 0.1, "item": "sunglasses"}}


def run_cell(setting: Setting, sets: tuple[Dataset, Dataset], attack: str, options: dict[str, Any]) -> dict[str, Any]:
    """Train one network; return its clean accuracy, its ASR (None for the twin) and the seconds it took."""
    training, test = sets
    start, backdoors, data = time.perf_counter(), (), training
    if attack != "none":
        poisoned = catalog.find("attacks", attack).from_options(target=1, **options).poison(training, seed=0)
        data, backdoors = poisoned.dataset, poisoned.backdoors
    classes = int(training.targets.max()) + 1
    torch.manual_seed(0)
    module = architectures.find(setting.architecture).build(classes=classes, image_shape=training.image_shape)
    network = from_module(module, training.image_shape)
    train(network, data, setting.training, seed=0)
    result = {"clean_accuracy": measure_accuracy(network, test).model_dump(), "attack_success_rate": None}
    if backdoors:
        triggered = poisoned_test_set(test, backdoors)
        hits = int((predict_classes(network, triggered) == triggered.targets).sum())
        result["attack_success_rate"] = Rate.of(hits, len(triggered)).model_dump()
    return result | {"attack": attack, "seconds": round(time.perf_counter() - start, 1)}


def run_setting(name: str, setting: Setting, data: Path, out: Path) -> list[dict[str, Any]]:
    """Return the cells of one data set, training those that are not in `out` yet."""
    sets: tuple[Dataset, Dataset] | None = None
    cells = []
    for attack, options in {"none": {}, **ATTACKS, **(FACES if name == "lfw" else {})}.items():
        file = out / f"{name}_{attack}.json"
        made = {"options": options, "architecture": setting.architecture, "training": setting.training.model_dump()}
        kept = json.loads(file.read_text()) if file.exists() else {}
        if {key: kept.get(key) for key in made} != made:
            sets = sets or (read_data(data / setting.train).in_memory(), read_data(data / setting.test).in_memory())
            write_text(file, json.dumps(run_cell(setting, sets, attack, options) | made, indent=2))
        cells.append(json.loads(file.read_text()))
    return cells


def judge(cell: dict[str, Any], twin: dict[str, Any]) -> tuple[bool, float]:
    """Return whether a cell keeps its bars, and its loss of clean accuracy against the twin."""
    loss = twin["clean_accuracy"]["value"] - cell["clean_accuracy"]["value"]
    success = cell["attack_success_rate"]
    return loss <= CLEAN_LOSS and (success is None or success["value"] >= WEAKER.get(cell["attack"], BAR)), loss


@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True), required=True, help="Folder with gtsrb/, mnist/, ..."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where the cells are kept.")
@click.option("--only", multiple=True, type=click.Choice(list(SETTINGS)), help="Data sets to run; default: all.")
def main(data: Path, out: Path, only: tuple[str, ...]) -> None:
    output_folder(out)
    table = Table(title="attacks on real data, n and 95 % Wilson intervals in the JSON files")
    for column in ("data", "attack", "clean accuracy", "loss against twin", "ASR", "seconds", "bars"):
        table.add_column(column)
    kept = True
    for name in only or SETTINGS:
        cells = run_setting(name, SETTINGS[name], data, out)
        for cell in cells:
            good, loss = judge(cell, cells[0])
            kept &= good
            success = cell["attack_success_rate"]
            rates = (
                f"{cell['clean_accuracy']['value']:.4f}",
                f"{loss:+.4f}",
                f"{success['value']:.4f}" if success else "",
            )
            table.add_row(name, cell["attack"], *rates, f"{cell['seconds']:.0f}", "kept" if good else "MISSED")
    Console(width=120).print(table)
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
