"""How deep did a repair go? What a few poisoned images bring back, and whether a new trigger is found as easily.

    .venv/bin/python benchmarks/repair_depth.py --data ../shared/data --out /tmp/depth [--only digits --repairer auto]

Two BadNets: `digits`, the planted twin of tests/data, with its clean twin beside it (what poisoned images teach a network
that never had a backdoor), and `contest`, csaw/sunglasses_bd_net.h5 with the contest's overlay as its trigger. Each is
scanned and repaired from its clean images alone; then the attacker is let in, which no repairer may see:

* *re-tuning*: n images that carry the true trigger, labelled with the target, and n clean ones with their labels; 10
  epochs of Adam (digits 1e-3, contest 1e-4) in batches of 10; ASR on other images after it, the mean of three draws.
* *search*: `inversion` for the target on 40 clean images; its success on test images, and its size as a share of the
  median size for five other classes: well below 1 is a way in that only the target has.

One JSON file per network and repairer in --out; what is there already is not measured again. A folder `scan_NAME` there
that `goodnet scan` wrote is taken instead of a new scan.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from goodnet import api
from goodnet.attacks.poisoning import poisoned_test_set
from goodnet.core.backdoor import Backdoor, Patch
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.datasets.sources import read_parts
from goodnet.evaluation.metrics import measure_attack, measure_robust
from goodnet.formats.data import read_data
from goodnet.formats.files import output_folder, write_text
from goodnet.formats.networks import read_network
from goodnet.inference.input_range import choose_input_range
from goodnet.inference.predictions import measure_accuracy, predict_classes
from goodnet.training import Training, train
from goodnet.triggers.inversion import Schedule, invert_triggers, measure_success

ROOT = Path(__file__).resolve().parents[1]
COUNTS, DRAWS, EPOCHS, BATCH = (5, 10, 20, 50), 3, 10, 10
SEARCH, SEARCHED, OTHERS = Schedule(100, 16), 40, 5
NONE, NEVER = "none", "never backdoored"
REPAIRERS = (NONE, "quarantine", "fine_tuning", "unlearning", "auto")


@dataclass(frozen=True)
class Subject:
    """A BadNet and its world: `clean` is all that a repairer gets, `attacker` the clean images of the other side.

    `rate` is the learning rate of the attacker's training.
    """

    network: Classifier
    clean: Dataset
    attacker: Dataset
    test: Dataset
    backdoor: Backdoor
    rate: float
    twin: Classifier | None = None

    @property
    def trigger(self) -> Patch:
        """The true trigger."""
        if not isinstance(self.backdoor.trigger, Patch):
            raise TypeError("both subjects have a patch for a trigger")
        return self.backdoor.trigger


def load_digits(data: Path | None = None) -> Subject:
    """Return the planted twin that the tests use; the digits are those of scikit-learn, so `data` is not needed."""
    sys.path.insert(0, str(ROOT))
    from tests.data.make_twins import ATTACK, FOLDER, SEED

    parts = read_parts("digits", seed=SEED)
    if parts.validation is None:
        raise click.ClickException("expected digits to be split three ways")
    backdoor = Backdoor(ATTACK.make_trigger(parts.test.image_shape, seed=SEED), ATTACK.target)
    planted, twin = (
        read_network(FOLDER / f"{name}.safetensors", "tests.data.twin_network:build", (1, 16, 16))
        for name in ("planted", "clean_twin")
    )
    return Subject(planted, parts.validation, parts.train, parts.test, backdoor, 1e-3, twin)


def load_contest(data: Path) -> Subject:
    """Return the contest's network; the attacker has the defender's 50 images too, for there are no others."""
    folder = data / "csaw"
    overlay = torch.from_numpy(np.array(Image.open(folder / "sunglasses_overlay_rgba.png"))).permute(2, 0, 1) / 255
    clean = read_data(folder / "clean_validation_data.h5").in_memory()
    network = choose_input_range(read_network(folder / "sunglasses_bd_net.h5"), clean).classifier
    backdoor = Backdoor(Patch(overlay[3:], overlay[:3]), 0)
    return Subject(network, clean, clean, read_data(folder / "clean_test_data.h5").in_memory(), backdoor, 1e-4)


SUBJECTS = {"digits": load_digits, "contest": load_contest}


def repair(subject: Subject, name: str, scan: Path) -> Classifier:
    """Return the network as `name` repairs it from its clean images and what a scan in the folder `scan` suspects."""
    if name == NONE:
        return subject.network
    if name == NEVER and subject.twin is not None:
        return subject.twin
    return api.repair(subject.network, subject.clean, method=name, suspected=scan_once(subject, scan)).classifier


def scan_once(subject: Subject, folder: Path) -> Path:
    """Return the folder of the scan of a network, which is made where it does not exist."""
    if not (folder / "run.json").exists():
        api.scan(subject.network, subject.clean, out=folder)
    return folder


def retune(network: Classifier, subject: Subject, count: int, draw: int) -> Classifier:
    """Return a copy, trained on `count` triggered images with the target's label and as many clean ones."""
    order = np.random.default_rng(draw).permutation(len(subject.attacker))
    labels = subject.attacker.targets[order]
    poisoned = subject.attacker.subset(order[labels != subject.backdoor.target][:count])
    clean = subject.attacker.subset(order[::-1][: len(poisoned)])
    images = torch.cat([subject.trigger(poisoned.images()), clean.images()])
    targets = np.concatenate([np.full(len(poisoned), subject.backdoor.target), clean.targets])
    training = Training(epochs=EPOCHS, learning_rate=subject.rate, batch_size=BATCH)
    tuned = network.copy()
    train(tuned, Dataset.from_arrays(images.numpy(), targets), training, seed=draw)
    return tuned


def search(network: Classifier, subject: Subject) -> dict[str, float]:
    """Return the success on test images of a trigger searched for the target, and its size next to others' triggers."""
    target = subject.backdoor.target
    rest = [label for label in range(network.classes) if label != target]
    others = [int(label) for label in np.random.default_rng(0).permutation(rest)[:OTHERS]]
    images = subject.attacker.sample(SEARCHED, seed=0).images()
    found = invert_triggers(network, images, [target, *others], SEARCH, seed=0)
    test = subject.test.subset(np.flatnonzero(subject.test.targets != target)).images()
    size = float(found.sizes[0] / found.sizes[1:].median())
    success = measure_success(network, test, found.patch(0), target)
    # Where the network calls all of them the target anyway, every trigger works.
    return {"success": 1.0 if success is None else success.value, "size": size}


def attack_success(network: Classifier, triggered: Dataset) -> float:
    """Return the share of triggered images that get the target."""
    return measure_attack(predict_classes(network, triggered), triggered).value


def measure_depth(subject: Subject, name: str, scan: Path) -> dict[str, Any]:
    """Return what the repair reached at first, and what is left of it once the attacker has been there."""
    start = time.perf_counter()
    network = repair(subject, name, scan)
    seconds = time.perf_counter() - start
    triggered = poisoned_test_set(subject.test, subject.backdoor)
    predictions = predict_classes(network, triggered)
    robust = measure_robust(predictions, triggered)
    tuned = {str(count): [retune(network, subject, count, draw) for draw in range(DRAWS)] for count in COUNTS}
    return {
        "repairer": name,
        "seconds": round(seconds, 1),
        "clean_accuracy": measure_accuracy(network, subject.test).value,
        "attack_success_rate": measure_attack(predictions, triggered).model_dump(),
        "robust_accuracy": None if robust is None else robust.value,
        "retuned": {key: [attack_success(item, triggered) for item in items] for key, items in tuned.items()},
        "clean_after": [measure_accuracy(item, subject.test).value for item in tuned[str(COUNTS[-1])]],
        "search": search(network, subject),
    }


def run_subject(subject: Subject, name: str, out: Path, repairers: Sequence[str]) -> list[dict[str, Any]]:
    """Return the cells of one network, measuring those that are not in `out` yet."""
    cells = []
    for repairer in [*([NEVER] if subject.twin else []), *repairers]:
        file = out / f"{name}_{repairer.replace(' ', '_')}_{subject.rate:g}.json"
        if not file.exists():
            cell = measure_depth(subject, repairer, out / f"scan_{name}")
            write_text(file, json.dumps(cell, indent=2))
        cells.append(json.loads(file.read_text()))
    return cells


def show(name: str, cell: dict[str, Any]) -> list[str]:
    """Return one row of the table."""
    at_first = [f"{cell['clean_accuracy']:.3f}", f"{cell['attack_success_rate']['value']:.3f}"]
    tuned = [f"{np.mean(values):.2f}" for values in cell["retuned"].values()]
    searched = [f"{cell['search']['success']:.2f}", f"{cell['search']['size']:.2f}"]
    first = [name, cell["repairer"], *at_first, f"{cell['robust_accuracy']:.3f}"]
    return [*first, *tuned, f"{np.mean(cell['clean_after']):.3f}", *searched]


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Folder with csaw/.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where scans and cells are kept.")
@click.option("--only", multiple=True, type=click.Choice(list(SUBJECTS)), help="Networks; default: all.")
@click.option("--repairer", multiple=True, type=click.Choice(REPAIRERS), help="Repairers; default: all.")
@click.option("--rate", type=float, help="Learning rate of the attacker; default: digits 1e-3, contest 1e-4.")
def main(data: Path, out: Path, only: tuple[str, ...], repairer: tuple[str, ...], rate: float | None) -> None:
    output_folder(out)
    table = Table(title=f"{EPOCHS} epochs of Adam, mean of {DRAWS} draws; n in the JSON files")
    columns = ["network", "repairer", "clean", "ASR", "RA", *(f"ASR after {count}" for count in COUNTS)]
    for column in (*columns, f"clean after {COUNTS[-1]}", "search: success", "search: size"):
        table.add_column(column)
    for name in only or SUBJECTS:
        subject = SUBJECTS[name](data)
        subject = subject if rate is None else replace(subject, rate=rate)
        for cell in run_subject(subject, name, out, repairer or REPAIRERS):
            table.add_row(*show(name, cell))
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
