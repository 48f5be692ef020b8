"""Repair networks by others with `auto`, told their targets, and measure it with the published triggers.

    python benchmarks/strangers_repair.py run DIR OUT.jsonl [--only NAME ...] [--seed 0]    # can be resumed
    python benchmarks/strangers_repair.py table benchmarks/values/strangers_repair.jsonl

DIR is as for `strangers.py`; of its 500 clean images half are given to the repair, and the other half measures it. Bars:
ASR of each published trigger at most 0.05, clean accuracy at most 0.02 below the original's, at least 0.9 of the original's
target recall. A network with several triggers counts its highest ASR. Exit code 1 where a bar is missed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import goodnet
from goodnet import Backdoor, Dataset, Patch
from goodnet.core.reading import Reading

ASR_BAR, DROP_BAR, RECALL_BAR = 0.05, 0.02, 0.9


def read_backdoors(truth: dict[str, Any]) -> tuple[Backdoor, ...]:
    """Return what the repair is told: the targets and, where they matter, the source classes; no trigger."""
    targets, shift = truth["targets"], truth.get("all_to_all")
    if shift is not None:
        return tuple(Backdoor(None, target, ((target - shift) % len(targets),)) for target in targets)
    sources = truth.get("sources")
    return tuple(Backdoor(None, target, None if sources is None else tuple(sources)) for target in targets)


def poison(folder: Path, clean: Dataset, truth: dict[str, Any]) -> Iterator[Dataset]:
    """Yield the test images of the attacked classes with each published trigger; their labels are the targets."""
    shift, sources = truth.get("all_to_all"), truth.get("sources")
    labels = clean.targets
    wanted = (
        (labels + shift) % len(truth["targets"]) if shift is not None else np.full_like(labels, truth["targets"][0])
    )
    attacked = np.flatnonzero(np.isin(labels, sources) if sources is not None else labels != wanted)
    images = clean.subset(attacked).images()
    for mask_file in sorted(folder.glob("mask*.npy")):
        mask, pattern = (torch.tensor(np.load(folder / name), dtype=torch.float32) for name in _pair(mask_file.name))
        stamp = Patch(_chw(mask)[:1], _chw(pattern))
        data = (stamp(images).clamp(0, 1).numpy() * 255).round().astype(np.uint8)
        yield Dataset.from_arrays(data, wanted[attacked], true_labels=labels[attacked], name=mask_file.stem)


def _pair(mask: str) -> tuple[str, str]:
    return mask, mask.replace("mask", "pattern")


def _chw(image: torch.Tensor) -> torch.Tensor:
    """Return an image (H, W) or (H, W, C) as (C, H, W)."""
    return image[None] if image.ndim == 2 else image.permute(2, 0, 1)


def repair_one(folder: Path, name: str, truth: dict[str, Any], seed: int) -> dict[str, Any]:
    """Repair a network on half of its clean images and measure original and repaired network on the other half."""
    given, test = goodnet.load_dataset(folder / "_clean" / f"{truth['clean']}.h5").split(0.5, seed=0)
    model, architecture = folder / name / truth["model"], truth["architecture"]
    started = time.perf_counter()
    repaired = goodnet.repair(
        model, given, suspected=read_backdoors(truth), reading=Reading(architecture=architecture), seed=seed
    )
    seconds = time.perf_counter() - started
    poisoned = list(poison(folder / name, test, truth))
    rows = goodnet.evaluate(
        model, test, poisoned, repaired=[repaired.classifier], reading=Reading(architecture=architecture)
    ).rows
    return {"name": name, "seed": seed, "seconds": round(seconds)} | {
        key: row.metrics.model_dump(mode="json") for key, row in zip(("before", "after", "goodnet"), rows, strict=True)
    }


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--only", multiple=True)
@click.option("--seed", default=0)
def run(folder: Path, out: Path, only: tuple[str, ...], seed: int) -> None:
    truth = json.loads((folder / "truth.json").read_text())
    lines = out.read_text().splitlines() if out.exists() else []
    done = {(row["name"], row["seed"]) for row in map(json.loads, lines)}
    chosen = [name for name in only or truth if truth[name]["targets"] and (name, seed) not in done]
    # A process of its own for each: every network's code is called `arch`.
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    for name in chosen:
        command = [sys.executable, __file__, "one", str(folder.resolve()), name, str(seed)]
        path = os.pathsep.join([str((folder / name).resolve()), *filter(None, [os.environ.get("PYTHONPATH")])])
        done_one = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**environment, "PYTHONPATH": path}
        )
        if done_one.returncode:
            print(f"{name}: {done_one.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            continue
        with out.open("a") as file:
            print(done_one.stdout.strip().splitlines()[-1], file=file, flush=True)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.argument("name")
@click.argument("seed", type=int)
def one(folder: Path, name: str, seed: int) -> None:
    truth = json.loads((folder / "truth.json").read_text())[name]
    print(json.dumps(repair_one(folder, name, truth, seed)))


@main.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
def table(path: Path) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    shown = Table("network", "accuracy", "target recall", "ASR", "robust accuracy", "s", "missed")
    misses = [_missed(row) for row in rows]
    for row, missed in zip(rows, misses, strict=True):
        pairs = (_both(row, read) for read in (_accuracy, _recall, _success, _robust))
        shown.add_row(row["name"], *pairs, str(row["seconds"]), ", ".join(missed))
    console = Console(width=140)
    console.print(shown)
    console.print(f"all three bars kept: {sum(not missed for missed in misses)} of {len(rows)}")
    sys.exit(1 if any(misses) else 0)


def _both(row: dict[str, Any], read: Any) -> str:
    return " -> ".join("" if value is None else f"{value:.3f}" for value in (read(row["before"]), read(row["after"])))


def _accuracy(metrics: dict[str, Any]) -> float:
    return float(metrics["clean_accuracy"]["value"])


def _recall(metrics: dict[str, Any]) -> float | None:
    return None if metrics["target_recall"] is None else float(metrics["target_recall"]["value"])


def _success(metrics: dict[str, Any]) -> float:
    return max(float(rate["value"]) for rate in metrics["attack_success_rate"].values())


def _robust(metrics: dict[str, Any]) -> float:
    return min(float(rate["value"]) for rate in metrics["robust_accuracy"].values())


def _missed(row: dict[str, Any]) -> Sequence[str]:
    """Return the bars that a repair misses, in words."""
    before, after = row["before"], row["after"]
    recall = (_recall(before), _recall(after))
    failed = {
        "ASR": _success(after) > ASR_BAR,
        "accuracy": _accuracy(after) < _accuracy(before) - DROP_BAR,
        "recall": None not in recall and recall[1] < RECALL_BAR * recall[0],
    }
    return [what for what, missed in failed.items() if missed]


if __name__ == "__main__":
    main()
