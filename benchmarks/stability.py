"""Does a verdict hang on the seed, or on which clean images were at hand? Networks by others, scanned ten times each.

    python benchmarks/stability.py scan DIR OUT.jsonl [--only NAME ...]    # can be resumed
    python benchmarks/stability.py table benchmarks/values/stability.jsonl

DIR is as for `strangers.py`. Each network is scanned by a command of its own with the defaults: with seeds 0 to 4 and all
of its clean images, and with seed 0 and each of five draws of 200 of them. `table` counts the networks whose verdict and
targets are the same in all five seeds and in all five draws. Exit code 1 where they are fewer than 95 %.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import h5py
import numpy as np
from rich.console import Console
from rich.table import Table

from goodnet.core.results import Rate
from strangers import scan as scan_by_command

SEEDS, DRAWS, DRAWN, BAR = 5, 5, 200, 0.95


def draw(images: Path, number: int, folder: Path) -> Path:
    """Write `DRAWN` of the images, drawn without replacement by `number`, and return the file."""
    path = folder / f"{images.stem}_{number}.h5"
    with h5py.File(images) as whole, h5py.File(path, "w") as part:
        chosen = np.sort(np.random.default_rng(number).choice(len(whole["label"]), DRAWN, replace=False))
        for key in ("data", "label"):
            part[key] = whole[key][:][chosen]
    return path


def list_runs(clean: Path, folder: Path) -> Iterator[tuple[str, int, Path, list[str]]]:
    """Yield for each run what changes, its number, the clean images, and the options."""
    for seed in range(SEEDS):
        yield "seed", seed, clean, ["--seed", str(seed)]
    for number in range(DRAWS):
        yield "draw", number, draw(clean, number, folder), []


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--only", multiple=True)
def scan(folder: Path, out: Path, only: tuple[str, ...]) -> None:
    truth = json.loads((folder / "truth.json").read_text())
    lines = out.read_text().splitlines() if out.exists() else []
    done = {(row["name"], row["changed"], row["number"]) for row in map(json.loads, lines)}
    with out.open("a") as file, tempfile.TemporaryDirectory() as drawn:
        for name in only or truth:
            clean = (folder / "_clean" / f"{truth[name]['clean']}.h5").resolve()
            for changed, number, images, options in list_runs(clean, Path(drawn)):
                if (name, changed, number) not in done:
                    row = scan_by_command(folder.resolve(), name, truth[name], "ensemble", options, images)
                    print(json.dumps({**row, "changed": changed, "number": number}), file=file, flush=True)


@main.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
def table(path: Path) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    console, shown = Console(width=150), Table("network", "true", "five seeds", "five draws")
    names = list(dict.fromkeys(row["name"] for row in rows))
    stable = dict.fromkeys(("seed", "draw"), 0)
    for name in names:
        answers = {changed: _answers(rows, name, changed) for changed in stable}
        true = next(row["true"] for row in rows if row["name"] == name)
        shown.add_row(name, _classes(true), *(_words(found) for found in answers.values()))
        for changed, found in answers.items():
            stable[changed] += len(set(found)) == 1
    console.print(shown)
    for changed, hits in stable.items():
        rate = Rate.of(hits, len(names))
        console.print(f"the same with five {changed}s: {hits} of {len(names)} [{rate.low:.2f}, {rate.high:.2f}]")
    sys.exit(0 if min(stable.values()) >= BAR * len(names) else 1)


def _answers(rows: Sequence[dict[str, Any]], name: str, changed: str) -> list[str]:
    """Return verdict and targets of a network's runs, in words."""
    chosen = [row for row in rows if row["name"] == name and row["changed"] == changed]
    return [_classes(row["found"]) if row["found"] else row["verdict"] for row in chosen]


def _classes(found: Sequence[int]) -> str:
    """Return classes in words."""
    return "all" if len(found) > 5 else ", ".join(map(str, found)) or "-"


def _words(answers: Sequence[str]) -> str:
    return "; ".join(f"{answer} x {times}" for answer, times in Counter(answers).items())


if __name__ == "__main__":
    main()
