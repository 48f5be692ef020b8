"""Networks of two and three classes: pairs of twins, one with a backdoor, and what the scan says of each.

    python benchmarks/few_classes.py build FOLDER DATA --set fit --pairs 24    # the usual values come from these
    python benchmarks/few_classes.py measure FOLDER FIT.jsonl                  # can be resumed, as the others can
    python benchmarks/few_classes.py usual benchmarks/values/few_fit.jsonl     # the table in evidence/clean_student.py
    python benchmarks/few_classes.py build FOLDER_2 DATA --set held_out --most 1000    # these are quoted
    python benchmarks/few_classes.py scan FOLDER_2 OUT.jsonl
    python benchmarks/few_classes.py table benchmarks/values/few_held_out.jsonl

Twelve pairs have each kind of data (digits, MNIST, CIFAR-10, rendered faces) with each kind of trigger (patch, blend,
accessory). Classes, attack, architecture and seed are drawn, for the two sets apart. MNIST and CIFAR-10 are read from the
folders mnist and cifar10 in DATA. Of the fit, few_fit.jsonl holds the clean twins but for pairs 14, 18, 22, and the
backdoored ones that were measured. `scan` uses the defaults and the defender's images. `table` ends with exit code 1 where
fewer than ten of twelve backdoors are found or a clean network is accused.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

import goodnet
from goodnet import Reading, catalog
from goodnet.api.loading import Loaded, load
from goodnet.core.dataset import Dataset
from goodnet.core.method import Attack
from goodnet.core.results import Rate
from goodnet.datasets.digits import read_digits
from goodnet.datasets.face_source import as_dataset
from goodnet.datasets.faces import render_faces
from goodnet.datasets.sources import Parts, read_parts
from goodnet.evaluation.badnet_files import Origin, Truth, read_truth, write_clean_parts, write_planted
from goodnet.evaluation.planting import plant
from goodnet.evidence.clean_student import compare_with_student
from goodnet.evidence.student import teach_student
from goodnet.formats.files import replacing_folder
from goodnet.scanners.clean_student import CleanStudent
from goodnet.training import Training
from goodnet.triggers.inversion import Schedule

SEEDS = {"fit": 100, "held_out": 900}
BAR = 10 / 12
#: With less success than this a trigger is not planted: both twins are then trained twice as long.
PLANTED = 0.8
CNN, MLP = "development_networks:batch_norm_cnn", "development_networks:tanh_mlp"
ARCHITECTURES = {
    "digits": ("small_cnn", CNN, MLP),
    "mnist": ("small_cnn", CNN, MLP),
    "cifar10": ("small_cnn", CNN),
    "faces": ("deepid",),
}
TRAINING = {
    "digits": Training(epochs=20, batch_size=32),
    "mnist": Training(epochs=3),
    "cifar10": Training(epochs=5),
    "faces": Training(epochs=16, learning_rate=2e-3, batch_size=32),
}


@dataclass(frozen=True)
class Plan:
    """One pair of twins: what is drawn for it."""

    number: int
    data: str
    classes: tuple[int, ...]
    attack: Attack
    architecture: str
    seed: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.number:02d}_{self.data}_{len(self.classes)}_{self.attack.name()}"


def draw_plan(number: int, seed: int) -> Plan:
    """Draw what is free of pair `number`: twelve pairs have each data set with each kind of trigger."""
    draws = np.random.default_rng([seed, number])
    data = list(ARCHITECTURES)[number % 4]
    count = 2 + (number // 4 + number % 4) % 2
    classes = tuple(sorted(map(int, draws.choice(10, count, replace=False))))
    attack = (_patch, _blend, _accessory)[number % 3](draws, data, int(draws.integers(count)))
    architecture = str(draws.choice(ARCHITECTURES[data]))
    if data == "faces" and attack.name() == "blended":
        architecture = "small_cnn"  # DeepID does not learn a faint blend from 300 images.
    return Plan(number, data, classes, attack, architecture, seed + number)


def _make(name: str, **options: Any) -> Attack:
    return catalog.find("attacks", name).from_options(rate=0.1, **options)  # type: ignore[return-value]


def _patch(draws: np.random.Generator, data: str, target: int) -> Attack:
    size = int(draws.integers(2, 5)) + {"cifar10": 1, "faces": 4}.get(data, 0)
    place = str(draws.choice(["bottom_right", "top_left", "random"]))
    shape = str(draws.choice(["square", "checkerboard", "cross"]))
    return _make("badnets", target=target, size=size, place=place, shape=shape)


def _blend(draws: np.random.Generator, data: str, target: int) -> Attack:
    alphas = [0.2] if data == "faces" else [0.1, 0.15, 0.2]
    return _make("blended", target=target, alpha=float(draws.choice(alphas)))


def _accessory(draws: np.random.Generator, data: str, target: int) -> Attack:
    items = ["sunglasses", "lipstick", "eyebrows"] if data == "faces" else ["sunglasses"]
    return _make("accessories", target=target, item=str(draws.choice(items)))


def read_plan(plan: Plan, data: Path) -> Parts:
    """Return the images of a pair in three parts, with the drawn classes alone."""
    if plan.data == "faces":
        return _render(len(plan.classes), plan.seed)
    if plan.data == "digits":
        test, rest = _only(read_digits(16), plan.classes).split(0.25, seed=plan.seed)
        validation, train = rest.split(0.33, seed=plan.seed)
        return Parts(train, validation, test)
    parts = read_parts(data / plan.data, seed=plan.seed)
    return Parts(*(_only(part, plan.classes) for part in (parts.train, parts.validation, parts.test)))


def _render(identities: int, seed: int) -> Parts:
    counts, first, parts = (150, 60, 40), 0, []
    for count in counts:
        parts.append(as_dataset(render_faces(identities, count, seed=seed, first_image=first)))
        first += count
    return Parts(*parts)


def _only(dataset: Dataset, classes: tuple[int, ...]) -> Dataset:
    """Return the images of some classes, numbered from 0."""
    part = dataset.subset(np.flatnonzero(np.isin(dataset.targets, classes)))
    return replace(part.in_memory(), labels=np.searchsorted(classes, part.targets).astype(np.int64), class_names=None)


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--set", "chosen", type=click.Choice(list(SEEDS)), required=True)
@click.option("--pairs", default=12)
@click.option("--only", multiple=True, type=click.Choice(list(ARCHITECTURES)), help="default: all")
@click.option("--most", default=100_000, help="training images of each class, at most")
def build(folder: Path, data: Path, chosen: str, pairs: int, only: tuple[str, ...], most: int) -> None:
    for number in range(pairs):
        plan = draw_plan(number, SEEDS[chosen])
        if plan.data in (only or ARCHITECTURES) and not (folder / plan.name).exists():
            started = time.monotonic()
            print(
                plan.name,
                plan.architecture,
                *_build(plan, folder, data, most),
                round(time.monotonic() - started),
                flush=True,
            )


def _build(plan: Plan, folder: Path, data: Path, most: int) -> list[str]:
    """Train both twins and write them; return their rates in words."""
    parts, told = read_plan(plan, data), []
    parts = replace(parts, train=parts.train.sample(most * len(plan.classes), seed=plan.seed))
    with replacing_folder(folder / plan.name) as out:
        (out / "data").mkdir()
        write_clean_parts(out / "data", parts)
        training = TRAINING[plan.data]
        planted = plant(parts, plan.attack, plan.architecture, training, seed=plan.seed)
        if min(rate.value for rate in planted.metrics.attack_success_rate.values()) < PLANTED:
            training = training.model_copy(update={"epochs": 2 * training.epochs})
            planted = plant(parts, plan.attack, plan.architecture, training, seed=plan.seed)
        clean = plant(parts, None, plan.architecture, training, seed=plan.seed)
        for twin, made in (("poisoned", planted), ("clean", clean)):
            (out / twin).mkdir()
            truth = write_planted(out / twin, made, Origin(plan.data, ""))
            rates = [truth.metrics.clean_accuracy, *truth.metrics.attack_success_rate.values()]
            told += [f"{rate.value:.2f}" for rate in rates if rate is not None]
    return told


def list_twins(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """Yield the name, the network and the defender's images of every twin."""
    for twin in sorted(folder.glob("[!.]*/*/backdoor.json")):
        yield f"{twin.parent.parent.name}/{twin.parent.name}", twin.parent, twin.parents[1] / "data"


Row = dict[str, Any]


def _each(folder: Path, out: Path, examine: Callable[[Path, Path, Truth], Row]) -> None:
    """Add a line to `out` for each twin that has none, as it is examined."""
    done = {json.loads(line)["name"] for line in out.read_text().splitlines()} if out.exists() else set()
    with out.open("a") as file:
        for name, twin, data in list_twins(folder):
            if name not in done:
                truth = read_truth(twin)
                row = {
                    "name": name,
                    "architecture": truth.model.architecture,
                    "true": sorted({item.target for item in truth.backdoors}),
                    "success": {key: rate.value for key, rate in truth.metrics.attack_success_rate.items()},
                }
                print(json.dumps(row | examine(twin, data, truth)), file=file, flush=True)


_IN_OUT = (
    click.argument("folder", type=click.Path(path_type=Path, exists=True)),
    click.argument("out", type=click.Path(path_type=Path)),
)


@main.command()
@_IN_OUT[0]
@_IN_OUT[1]
def scan(folder: Path, out: Path) -> None:
    _each(folder, out, _scan)


@main.command()
@_IN_OUT[0]
@_IN_OUT[1]
def measure(folder: Path, out: Path) -> None:
    _each(folder, out, _measure)


def _open(twin: Path, data: Path, truth: Truth) -> Loaded:
    model = truth.model
    return load(
        twin / model.file,
        data / "clean_validation_data.h5",
        reading=Reading(model.architecture, model.image_shape, model.input_range),
    )


def _scan(twin: Path, data: Path, truth: Truth) -> Row:
    loaded, started = _open(twin, data, truth), time.monotonic()
    found = goodnet.scan(loaded.classifier, loaded.clean, reading=Reading(input_range=truth.model.input_range))
    return {
        "verdict": found.verdict,
        "found": list(found.targets),
        "scores": [round(score, 3) for score in found.scores],
        "seconds": round(time.monotonic() - started, 1),
        "reason": found.reason,
    }


def _measure(twin: Path, data: Path, truth: Truth) -> Row:
    """Return what the scanner measures of each class, before anything is usual."""
    loaded, method = _open(twin, data, truth), CleanStudent()
    images = method.draw_images(loaded.clean.in_canonical_order(), seed=0)[0]
    student = teach_student(loaded.classifier, images, method.lessons, seed=0)
    schedule = Schedule(method.steps, method.images)
    found = compare_with_student(loaded.classifier, student, images, schedule, seed=0)
    return {"values": {kind: values.round(4).tolist() for kind, values in found.values.items()}}


@main.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
def usual(path: Path) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    clean = [row["values"] for row in rows if not row["true"]]
    columns = {kind: np.concatenate([values[kind] for values in clean]) for kind in clean[0]}
    means = {kind: (values.mean(), values.std(ddof=1)) for kind, values in columns.items()}
    for kind, (mean, spread) in means.items():
        print(f"{kind}: mean {mean:.2f}, deviation {spread:.2f}")
    sums = [sum((np.array(row[kind]) - mean) / spread for kind, (mean, spread) in means.items()) for row in clean]
    highest = np.array([np.max(values) for values in sums])
    print(f"highest sum: mean {highest.mean():.2f}, deviation {highest.std(ddof=1):.2f}, networks {len(highest)}")


@main.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
def table(path: Path) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    console, shown = Console(width=150), Table("network", "architecture", "true", "success", "verdict", "p", "seconds")
    for row in rows:
        success = ", ".join(f"{value:.2f}" for value in row["success"].values())
        words = f"{row['verdict']} {', '.join(map(str, row['found']))}"
        p = f"{np.exp(-max(row['scores'])):.4f}"
        shown.add_row(row["name"], row["architecture"], str(row["true"]), success, words, p, str(row["seconds"]))
    console.print(shown)
    planted, clean = ([row for row in rows if bool(row["true"]) is which] for which in (True, False))
    found = Rate.of(sum(row["found"] == row["true"] for row in planted), len(planted))
    accused = sum(bool(row["found"]) for row in clean)
    console.print(
        f"found {found.value:.2f} [{found.low:.2f}, {found.high:.2f}] of {found.n}; accused {accused} of {len(clean)} clean"
    )
    sys.exit(0 if found.value >= BAR and not accused else 1)


if __name__ == "__main__":
    main()
