"""The evidence "pair of classes": what it measures of networks, and what is usual in clean ones.

    PYTHONPATH=benchmarks python benchmarks/class_pairs.py gather OUT.jsonl --zoo ZOO --strangers DIR   # can be resumed
    python benchmarks/class_pairs.py table OUT.jsonl
    python benchmarks/class_pairs.py constants OUT.jsonl
    python benchmarks/class_pairs.py usual OUT.jsonl ...

ZOO is what `goodnet zoo build benchmarks/class_pairs.toml` has built, DIR as in `benchmarks/strangers.py`. `gather` writes a line
for each network of up to 20 classes: the pairs that were looked into, the pixels of their triggers in the network and in the
student. `table` shows how far the first pair leads; exit code 1 where a clean network has a pair with p <= 0.01. `constants`
shows what half and twice each constant would change. `usual` prints the mean lead in clean networks, for
`src/goodnet/evidence/usual_leads.toml`.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from goodnet.core.errors import GoodnetError
from goodnet.evidence.judgement import PAIR
from goodnet.evidence.outliers import PRIOR, lead_score
from goodnet.evidence.pair_sizes import PairSizes, compare_pairs
from goodnet.evidence.usual_leads import USUAL_LEADS
from goodnet.pipelines.scan_rounds import split_images
from goodnet.triggers.class_pairs import PairSchedule, name_pair
from goodnet.triggers.inversion import Inversions
from scan_rule import Source, load, of_strangers, of_zoo

#: More classes have no such evidence.
_MOST_CLASSES = 20
_ALPHA = 0.01


def sources_of(source: Source) -> list[list[int]]:
    """Return the true pairs of a network, source and target; none of a clean one, or where every class is a source."""
    record = source.folder / "backdoor.json"
    if record.exists():
        backdoors = json.loads(record.read_text()).get("backdoors", [])
        return [[label, item["target"]] for item in backdoors for label in item.get("sources") or []]
    truth = json.loads((source.folder.parent / "truth.json").read_text())[source.folder.name]
    return [[label, target] for label in truth.get("sources", []) for target in truth["targets"]]


def gather_one(source: Source, seed: int) -> dict[str, Any] | None:
    """Return what is measured of the pairs of one network, ready for JSON; None where there is nothing to measure."""
    try:
        classifier, data = load(source)
    except GoodnetError as error:
        print(f"{source.name}: {error}", file=sys.stderr)
        return None
    if classifier.classes > _MOST_CLASSES:
        return None
    images, started = split_images(data.in_canonical_order(), seed).more.images(), time.perf_counter()
    found = compare_pairs(classifier, images, PairSchedule(), seed=seed)
    if found is None:
        return None
    return {
        "network": source.name,
        "targets": source.targets,
        "pairs": sources_of(source),
        "classes": classifier.classes,
        "numbers": list(found.triggers.labels),
        "sizes": [round(size, 2) for size in found.triggers.sizes.tolist()],
        "beside": [round(size, 2) for size in found.beside.tolist()],
        "pixels": found.triggers.masks[0].numel(),
        "seconds": round(time.perf_counter() - started),
    }


def read_pairs(row: dict[str, Any]) -> PairSizes:
    """Return what a row holds, without the triggers."""
    sizes, masks = torch.tensor(row["sizes"]), torch.zeros(len(row["sizes"]), 1, 1, row["pixels"])
    triggers = Inversions(tuple(row["numbers"]), masks, masks, sizes, sizes < row["pixels"])
    return PairSizes(row["classes"], triggers, torch.tensor(row["beside"]))


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--zoo", "zoos", type=click.Path(path_type=Path, exists=True), multiple=True)
@click.option("--strangers", type=click.Path(path_type=Path, exists=True))
@click.option("--only", help="networks with this in their name")
@click.option("--seed", default=0)
def gather(out: Path, zoos: tuple[Path, ...], strangers: Path | None, only: str | None, seed: int) -> None:
    sources = [source for zoo in zoos for source in of_zoo(zoo)]
    sources += list(of_strangers(strangers.resolve())) if strangers else []
    done = {json.loads(line)["network"] for line in out.read_text().splitlines()} if out.exists() else set()
    with out.open("a") as lines:
        for source in sources:
            if source.name not in done and (only is None or only in source.name):
                row = gather_one(source, seed)
                if row is not None:
                    print(json.dumps(row), file=lines, flush=True)


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def lead_of(row: dict[str, Any]) -> float:
    """Return by how much the first pair leads the second."""
    first, second = sorted(read_pairs(row).values, reverse=True)[:2]
    return float(first - second)


@main.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
def table(path: Path) -> None:
    lines = Table("network", "true pair", "first pair", "pixels", "in the student", "lead", "p", "s")
    accused = 0
    for row in sorted(read_rows(path), key=lambda row: (not row["pairs"], not row["targets"], row["network"])):
        found = read_pairs(row)
        first = int(np.argmax(found.values))
        score = max(found.scores(USUAL_LEADS[PAIR].mean(row["classes"])).values())
        accused += not row["targets"] and score >= -math.log(_ALPHA)
        truth = ", ".join(f"{source} to {target}" for source, target in row["pairs"])
        lines.add_row(
            row["network"],
            truth or ("clean" if not row["targets"] else "all classes" if len(row["targets"]) == 1 else "all to all"),
            "{} to {}".format(*name_pair(row["numbers"][first], row["classes"])),
            f"{row['sizes'][first]:.1f}",
            f"{row['beside'][first]:.1f}",
            f"{lead_of(row):.2f}",
            f"{math.exp(-score):.2g}",
            str(row["seconds"]),
        )
    Console(width=150).print(lines)
    sys.exit(int(accused > 0))


@main.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
def constants(path: Path) -> None:
    rows = read_rows(path)
    mean = USUAL_LEADS[PAIR].mean(_MOST_CLASSES)
    lines = Table(
        "constant", "value", "true pair with p <= 0.01", "another pair", "clean networks", "smallest p of a clean one"
    )
    for name, usual, prior in (
        ("as it is", mean, PRIOR),
        *(("usual lead", mean * factor, PRIOR) for factor in (0.5, 2)),
        *(("PRIOR", mean, PRIOR * factor) for factor in (0.5, 2)),
    ):
        found = wrong = accused = 0
        clean = 1.0
        for row in rows:
            pairs = read_pairs(row)
            scores = lead_score(pairs.values, usual=usual, prior=prior)
            loud = scores >= -math.log(_ALPHA)
            named = [list(name_pair(row["numbers"][first], row["classes"])) for first in np.flatnonzero(loud)]
            found += bool(row["pairs"]) and any(pair in row["pairs"] for pair in named)
            wrong += bool(row["pairs"]) and any(pair not in row["pairs"] for pair in named)
            accused += not row["targets"] and bool(named)
            clean = clean if row["targets"] else min(clean, math.exp(-float(scores.max())))
        lines.add_row(
            name, f"{usual if name != 'PRIOR' else prior:.3g}", *map(str, (found, wrong, accused)), f"{clean:.2g}"
        )
    Console(width=120).print(lines)


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
def usual(paths: tuple[Path, ...]) -> None:
    leads = [lead_of(row) for path in paths for row in read_rows(path) if not row["targets"]]
    print(f"{len(leads)} clean networks: mean lead {np.mean(leads):.3f}, the largest {max(leads):.2f}")


if __name__ == "__main__":
    main()
