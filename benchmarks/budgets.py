"""Whether `--budget` is kept: scan, repair and guard of four networks, from 28 x 28 pixels to 224 x 224 and 1,283 classes.

    python benchmarks/budgets.py run STRANGERS CONTEST OUT.jsonl [--budget 40]    # can be resumed; nothing beside it
    python benchmarks/budgets.py table benchmarks/values/budgets.jsonl

STRANGERS is the folder of networks by others (see `strangers.py`), CONTEST has `bd_net.h5` and its clean images. The network
for 224 x 224 is a ResNet-18 with random features; its last layer predicts the nearest class mean. Repair and guard are told
a target. Bar: the command ends within 1.1 times the budget and 15 s, start included, whatever came out. Exit code 1 where
one does not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.table import Table

import goodnet
from goodnet.architectures.libraries import find_in_library
from goodnet.formats.arrays import write_hdf5

_VERBS = ("scan", "repair", "guard")
_CODES = {0: "done", 1: "backdoored", 3: "no result, or inconclusive"}


@dataclass(frozen=True)
class Case:
    """A network and its clean images, as arguments of the command line; `target` is what repair and guard are told."""

    name: str
    model: Path
    clean: Path
    options: tuple[str, ...]
    target: int


def write_large(folder: Path, images: Path) -> Case:
    """Write the network for 224 x 224 pixels and 120 of the images, scaled up."""
    data = goodnet.load_dataset(images).sample(120, seed=0)
    pixels = (data.images() * 255).round().to(torch.uint8).numpy().repeat(7, axis=2).repeat(7, axis=3)
    write_hdf5(folder / "large.h5", goodnet.Dataset.from_arrays(pixels, data.targets, name="large"))
    torch.manual_seed(0)
    network: Any = find_in_library("timm:resnet18")[0](num_classes=10, image_shape=(3, 224, 224))
    batches = torch.from_numpy(pixels).float().div(255).split(40)
    with torch.no_grad():
        for batch in batches:  # Statistics of batch norm from the images: otherwise all features are alike.
            network(batch)
        network.eval()
        features = torch.cat(
            [network.forward_head(network.forward_features(batch), pre_logits=True) for batch in batches]
        )
        means = torch.stack([features[data.targets == label].mean(dim=0) for label in range(10)])
        spread = 0.05 * (means - features.mean(dim=0)).square().sum(dim=1).mean()
        network.fc.weight.copy_(means / spread)
        network.fc.bias.copy_(-means.square().sum(dim=1) / (2 * spread))
    torch.save(network.state_dict(), folder / "large.pt")
    options = ("--architecture", "timm:resnet18", "--image-shape", "3,224,224")
    return Case("ResNet-18, 224 x 224, 10 classes", folder / "large.pt", folder / "large.h5", options, 3)


def list_cases(strangers: Path, contest: Path, folder: Path) -> list[Case]:
    clean = strangers / "_clean"
    code = ("--architecture", "arch:build")
    return [
        Case("LeNet, MNIST", strangers / "agent_lenet_blend/model.pth", clean / "mnist.h5", code, 0),
        Case("WRN-16-1, CIFAR-10", strangers / "nad_wrn16_cifar/model.pth", clean / "cifar10.h5", code, 5),
        Case("DeepID, 1,283 classes", contest / "bd_net.h5", contest / "clean_validation_data.h5", (), 0),
        write_large(folder, clean / "cifar10.h5"),
    ]


def run_one(case: Case, verb: str, budget: float, out: Path) -> dict[str, object]:
    """Run a verb with the budget, and return how long it took and how it ended."""
    command = [sys.executable, "-m", "goodnet", verb, str(case.model), "--clean", str(case.clean), *case.options]
    command += ["--budget", f"{budget}s", "--out", str(out)]
    command += ["--target", str(case.target)] if verb != "scan" else []
    path = os.pathsep.join([str(case.model.parent), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path})
    seconds = time.perf_counter() - started
    said = done.stderr.strip().splitlines()
    return {
        "network": case.name,
        "verb": verb,
        "budget": budget,
        "seconds": round(seconds, 1),
        "code": done.returncode,
        "said": said[-1] if said and done.returncode else "",
    }


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
@click.argument("strangers", type=click.Path(path_type=Path, exists=True))
@click.argument("contest", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--budget", default=40.0)
def run(strangers: Path, contest: Path, out: Path, budget: float) -> None:
    done = (
        {(row["network"], row["verb"]) for row in map(json.loads, out.read_text().splitlines())}
        if out.exists()
        else set()
    )
    with tempfile.TemporaryDirectory() as name, out.open("a") as lines:
        for case in list_cases(strangers.resolve(), contest.resolve(), Path(name)):
            for verb in _VERBS:
                if (case.name, verb) not in done:
                    print(json.dumps(run_one(case, verb, budget, Path(name) / f"out_{verb}")), file=lines, flush=True)


@main.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
def table(path: Path) -> None:
    shown = Table("network", "verb", "budget, s", "took, s", "kept", "what came out")
    kept = []
    for row in map(json.loads, path.read_text().splitlines()):
        kept.append(row["seconds"] <= 1.1 * row["budget"] + 15)
        ended = _CODES.get(row["code"], f"exit code {row['code']}")
        words = f"{ended}: {row['said']}" if row["said"] else ended
        shown.add_row(
            row["network"],
            row["verb"],
            f"{row['budget']:g}",
            f"{row['seconds']:.1f}",
            "yes" if kept[-1] else "no",
            words,
        )
    console = Console(width=175)
    console.print(shown)
    console.print(f"kept: {sum(kept)} of {len(kept)}")
    sys.exit(0 if all(kept) else 1)


if __name__ == "__main__":
    main()
