"""What the test set does when it chooses: the same candidates, picked by a defender and picked by the attack success.

    .venv/bin/python benchmarks/selection_by_test_set.py --out /tmp/selection [--repairer ft_sam]

Each repairer runs over a small grid of strengths on three quarters of the clean images. Two ways to pick one candidate:

* *defender*: the strongest whose accuracy on the other quarter, which it was not trained on, lies at most 0.02 or one image
  below the original's. It is what a defender can see who has no trigger.
* *test set*: the highest DER on the poisoned test set, as published tables often do. DER = (max(0, ASR drop) - max(0,
  accuracy drop) + 1) / 2, on test images.

Both picks are then measured on that same test set. The network is the planted twin of tests/data, as in
`repair_depth.py`. One JSON file per repairer in --out; what is there already is not measured again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from goodnet import api
from goodnet.attacks.poisoning import poisoned_test_set
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.formats.files import output_folder, write_text
from goodnet.inference.predictions import measure_accuracy
from repair_depth import Subject, attack_success, load_digits, scan_once

#: Repairer -> the option that sets its strength, and its values, the gentlest first.
GRIDS: dict[str, tuple[str, tuple[float, ...]]] = {
    "fine_tuning": ("learning_rate", (0.01, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3)),
    "ft_sam": ("learning_rate", (0.01, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3)),
    "fine_pruning": ("max_accuracy_drop", (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)),
    "adversarial_neuron_pruning": ("max_accuracy_drop", (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)),
    "anchored_unlearning": ("learning_rate", (1e-4, 3e-4, 1e-3, 3e-3)),
}
HELD_OUT, BUDGET, SEED = 0.25, 0.02, 0


def measure(network: Classifier, held_out: Dataset, subject: Subject) -> dict[str, float]:
    """Return what the defender sees of a network, and what only the attacker and a benchmark can see."""
    triggered = poisoned_test_set(subject.test, subject.backdoor)
    return {
        "held_out": measure_accuracy(network, held_out).value,
        "clean": measure_accuracy(network, subject.test).value,
        "asr": attack_success(network, triggered),
    }


def run_repairer(subject: Subject, method: str, scan: Path) -> dict[str, Any]:
    """Return the measures of the original and of a candidate for each strength."""
    option, strengths = GRIDS[method]
    held_out, training = subject.clean.split(HELD_OUT, seed=SEED)
    candidates = {}
    for strength in strengths:
        given: dict[str, Any] = {option: strength}
        repair = api.repair(subject.network, training, method=method, suspected=scan, **given)
        candidates[f"{strength:g}"] = measure(repair.classifier, held_out, subject)
    original = measure(subject.network, held_out, subject)
    return {"option": option, "n_held_out": len(held_out), "original": original, "candidates": candidates}


def der(candidate: dict[str, float], original: dict[str, float]) -> float:
    """Return the defence effectiveness rating, in [0, 1]."""
    lost, stopped = original["clean"] - candidate["clean"], original["asr"] - candidate["asr"]
    return (max(0.0, stopped) - max(0.0, lost) + 1) / 2


def pick_as_defender(cell: dict[str, Any]) -> str | None:
    """Return the strongest candidate within the budget on held-out clean images; None where none is."""
    least = cell["original"]["held_out"] - max(BUDGET, 1 / cell["n_held_out"]) - 1e-9
    kept = [name for name, candidate in cell["candidates"].items() if candidate["held_out"] >= least]
    return kept[-1] if kept else None


def pick_by_test_set(cell: dict[str, Any]) -> str:
    """Return the candidate with the highest DER on the poisoned test set."""
    candidates: dict[str, dict[str, float]] = cell["candidates"]
    return max(candidates, key=lambda name: der(candidates[name], cell["original"]))


def show(method: str, cell: dict[str, Any], way: str, pick: str | None) -> list[str]:
    """Return one row of the table; no candidate means that the original stays."""
    chosen = cell["original"] if pick is None else cell["candidates"][pick]
    rates = [f"{chosen[key]:.3f}" for key in ("held_out", "clean", "asr")]
    strength = "the original" if pick is None else f"{cell['option']} {pick}"
    return [method, way, strength, *rates, f"{der(chosen, cell['original']):.3f}"]


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where the scan and the cells are kept.")
@click.option("--repairer", multiple=True, type=click.Choice(list(GRIDS)), help="Repairers; default: all.")
def main(out: Path, repairer: tuple[str, ...]) -> None:
    output_folder(out)
    table = Table(title="the same candidates, chosen in two ways; accuracy, ASR and DER on the test set")
    for column in ("repairer", "chosen by", "pick", "held-out", "clean", "ASR", "DER"):
        table.add_column(column)
    subject = load_digits()
    for method in repairer or GRIDS:
        file = out / f"{method}.json"
        if not file.exists():
            cell = run_repairer(subject, method, scan_once(subject, out / "scan"))
            write_text(file, json.dumps(cell, indent=2))
        cell = json.loads(file.read_text())
        table.add_row(*show(method, cell, "defender", pick_as_defender(cell)))
        table.add_row(*show(method, cell, "test set", pick_by_test_set(cell)))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
