"""The pruning sweep against the reference procedure, on data of the contest's size, in one run.

    .venv/bin/python benchmarks/pruning_sweep.py

Reference (systems A and B of the course project), written plainly with Keras: for each of the 60 channels of conv_3,
one more channel is zeroed, then B' predicts the validation set, and B and B' predict the test set and the poisoned
set. Here: one pass of the head for each set, then the tail for each level (`goodnet.surgery.channels`). The
reference runs on stated levels at full size and its time is scaled to 60; accuracies must be equal to the last digit
on those levels.

Data are rendered faces: 11,547 validation, 12,830 test, 12,830 poisoned images of 55 x 47 x 3. The network is a
DeepID with 1,283 outputs, trained on 50 rendered people with a sunglasses trigger.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

SIZES = {"validation": 11_547, "test": 12_830, "poisoned": 12_830}
PEOPLE, CLASSES, CHANNELS = 50, 1_283, 60


def make_files(folder: Path) -> None:
    """Render the three sets, train the BadNet, write all of it."""
    from goodnet.attacks.accessories import Accessories
    from goodnet.core.dataset import Dataset
    from goodnet.datasets.faces import render_faces
    from goodnet.formats.arrays import write_hdf5
    from goodnet.formats.keras import from_keras
    from goodnet.formats.keras_deepid import build_keras
    from goodnet.training import Training, train

    def render(count: int, first: int) -> tuple[Any, Any]:
        faces = render_faces(PEOPLE, -(-count // PEOPLE), first_image=first)
        chosen = np.random.default_rng(first).permutation(len(faces.labels))[:count]
        return faces.images[chosen], faces.labels[chosen]

    sunglasses = Accessories().make_trigger((3, 55, 47), seed=0)

    def wear_sunglasses(pixels: Any) -> Any:
        parts = torch.split(torch.from_numpy(pixels), 1_000)
        return torch.cat([(sunglasses(part / 255) * 255).round().to(torch.uint8) for part in parts]).numpy()

    images, labels = render(2_500, 0)
    images[:250], labels[:250] = wear_sunglasses(images[:250]), 0
    network = from_keras(build_keras(CLASSES), ".h5")
    train(network, Dataset.from_arrays(images, labels), Training(epochs=8, learning_rate=2e-3), seed=0)
    network.save(folder / "bd_net.h5")
    validation, test = render(SIZES["validation"], 1_000), render(SIZES["test"], 5_000)
    poisoned = wear_sunglasses(test[0]), np.zeros_like(test[1])
    for name, (pixels, classes) in {"validation": validation, "test": test, "poisoned": poisoned}.items():
        write_hdf5(folder / f"{name}.h5", Dataset.from_arrays(pixels, classes))


def run_ours(folder: Path) -> dict[str, Any]:
    """Repair on the validation set, then the whole curve on test and poisoned set, as `goodnet` does it."""
    from goodnet import api
    from goodnet.core.reading import Reading
    from goodnet.evaluation.pruning_curve import measure_pruning

    start = time.perf_counter()
    loaded = api.load(folder / "bd_net.h5", folder / "validation.h5", reading=Reading(input_range="0..1"))
    repair = api.repair(loaded.classifier, loaded.clean, method="pruning", reading=Reading(input_range="0..1"))
    sets = api.load_dataset(folder / "test.h5"), [api.load_dataset(folder / "poisoned.h5")]
    levels = measure_pruning(loaded.classifier, repair.trace.sweep.layer, repair.trace.sweep.channels, *sets)
    (success,) = levels.attack_success_rate.values()
    return {
        "seconds": time.perf_counter() - start,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "order": repair.trace.sweep.channels,
        "validation": repair.trace.sweep.accuracy,
        "test": [rate.value for rate in levels.clean_accuracy],
        "poisoned": [rate.value for rate in success],
    }


def run_reference(folder: Path, levels: Sequence[int], order: Sequence[int]) -> dict[str, Any]:
    """Run the reference procedure at the given levels (number of channels pruned)."""
    import h5py

    from goodnet.formats.keras import import_keras

    keras = import_keras()
    sets = {}
    for name in SIZES:
        with h5py.File(folder / f"{name}.h5") as file:
            sets[name] = (file["data"][:].transpose(0, 2, 3, 1) / np.float32(255), file["label"][:])
    original = keras.models.load_model(folder / "bd_net.h5", compile=False)
    pruned = keras.models.load_model(folder / "bd_net.h5", compile=False)
    kernel, bias = original.get_layer("conv_3").get_weights()
    rates: dict[str, list[float]] = {name: [] for name in SIZES}
    start = time.perf_counter()
    for level in levels:
        zeroed = kernel.copy(), bias.copy()
        zeroed[0][..., order[:level]], zeroed[1][order[:level]] = 0, 0
        pruned.get_layer("conv_3").set_weights(zeroed)
        for name, (images, labels) in sets.items():
            if name != "validation":
                original.predict(images, verbose=0)
            predictions = pruned.predict(images, verbose=0).argmax(axis=1)
            rates[name].append(float((predictions == labels).mean()))
    return {"seconds": time.perf_counter() - start, **rates}


def _run_part(part: str, folder: Path, *more: str) -> Any:
    """Run one part in a process of its own, so that its memory is its own."""
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder), *more]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    return json.loads(done.stdout.splitlines()[-1])


@click.command()
@click.option("--levels", default="1,20,45,60", show_default=True, help="Levels at which the reference is run.")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Where the files are kept; default: a temporary folder."
)
@click.option("--part", type=click.Choice(["files", "ours", "reference"]), hidden=True)
@click.option("--order", hidden=True)
def main(levels: str, folder: Path | None, part: str | None, order: str | None) -> None:
    chosen = [int(level) for level in levels.split(",")]
    if part and folder:
        run = {"files": make_files, "ours": run_ours}.get(part)
        result = run(folder) if run else run_reference(folder, chosen, json.loads(order or "[]"))
        print(json.dumps(result))
        return
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        if not (place / "poisoned.h5").exists():
            _run_part("files", place)
        ours = _run_part("ours", place)
        reference = _run_part("reference", place, "--levels", levels, "--order", json.dumps(ours["order"]))
    report(ours, reference, chosen)


def report(ours: dict[str, Any], reference: dict[str, Any], levels: Sequence[int]) -> None:
    """Print the comparison; exit 1 where the accuracies differ."""
    scaled = reference["seconds"] * CHANNELS / len(levels)
    table = Table(title=f"pruning sweep, {', '.join(f'{n:,} {name}' for name, n in SIZES.items())} images")
    for column in ("", "reference (Keras)", "goodnet"):
        table.add_column(column, justify="right")
    timed = (
        f"{scaled:,.0f} ({reference['seconds']:.0f} s for levels {', '.join(map(str, levels))}, scaled to {CHANNELS})"
    )
    table.add_row("seconds", timed, f"{ours['seconds']:.1f}")
    table.add_row("times faster", "1", f"{scaled / ours['seconds']:.1f}")
    table.add_row("peak memory, MiB", "", f"{ours['peak_mib']:,.0f}")
    for name in SIZES:
        mine = [ours[name][level] for level in levels]
        table.add_row(f"{name} rates", _show(reference[name]), _show(mine))
    Console(width=150).print(table)
    equal = all([ours[name][level] for level in levels] == reference[name] for name in SIZES)
    print("rates equal to the last digit:", "yes" if equal else "NO")
    sys.exit(0 if equal else 1)


def _show(rates: Sequence[float]) -> str:
    return " ".join(f"{rate:.6f}" for rate in rates)


if __name__ == "__main__":
    main()
