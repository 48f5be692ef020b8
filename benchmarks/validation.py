"""The scan on networks that its rule was not chosen with: AUROC, rates by kind of attack, and whether alpha is kept.

    PYTHONPATH=benchmarks python benchmarks/validation.py scan ZOO OUT.jsonl   # with the defaults; can be resumed
    python benchmarks/validation.py table OUT.jsonl

ZOO is what `goodnet zoo build benchmarks/validation.toml` has built, or as much of it as there is. `scan` writes a line for
each network. `table` counts a backdoor whose ASR is below 0.5 apart: there the attack has failed. An interval is Wilson's, of
an AUROC by bootstrap. Exit code 1 where a bar is missed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

import goodnet
from goodnet.core.reading import Reading
from goodnet.core.results import Rate
from goodnet.evaluation.ranking import area_with_interval
from goodnet.evidence.judgement import ALL_TO_ALL as OF_ALL
from goodnet.evidence.judgement import TOGETHER
from scan_rule import Source, of_zoo

#: An attack with less success than this has not planted a backdoor that anybody could use.
_PLANTED = 0.5
#: The share of clean networks that may be accused, and where the other quoted level lies.
_ALPHAS = (0.05, 0.01)


@dataclass(frozen=True)
class Kind:
    """A kind of attack: what it is called, and the least share found that is asked for, at alpha 0.01."""

    name: str
    bar: float


ONE_TARGET = Kind("to one target, or several", 0.95)
RARE = Kind("0.5 % of the images poisoned", 0.7)
SOURCE = Kind("source-specific", 0.8)
ALL_TO_ALL = Kind("all to all", 0.9)
FAILED = Kind("ASR below 0.5", 0.0)


def kind_of(options: dict[str, Any], success: float) -> Kind:
    """Return the kind of an attack with these options."""
    if success < _PLANTED:
        return FAILED
    mode = options.get("label_mode", "all_to_one")
    if mode in ("source_specific", "all_to_all"):
        return SOURCE if mode == "source_specific" else ALL_TO_ALL
    return RARE if options.get("rate", 0.1) <= 0.005 else ONE_TARGET


def scan_one(source: Source) -> dict[str, Any]:
    """Return what a scan with the defaults says, and what is true."""
    record = json.loads((source.folder / "backdoor.json").read_text())
    started = time.perf_counter()
    found = goodnet.scan(
        source.folder / source.model,
        source.clean,
        reading=Reading(architecture=source.architecture, image_shape=source.image_shape),
    )
    rates = record["metrics"]["attack_success_rate"].values()
    return {
        "network": source.name,
        "architecture": source.architecture,
        "targets": source.targets,
        "attack": (record["attack"] or {}).get("name"),
        "options": (record["attack"] or {}).get("options", {}),
        "success": min((rate["value"] for rate in rates), default=0.0),
        "verdict": found.verdict,
        "suspected": sorted(item.target for item in found.suspected),
        "score": float(np.nanmax(found.scores)),
        "evidence": {kind: list(values) for kind, values in found.evidence.items()},
        "seconds": round(time.perf_counter() - started, 1),
    }


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
@click.argument("zoo", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
def scan(zoo: Path, out: Path) -> None:
    torch.set_num_threads(1)
    done = {json.loads(line)["network"] for line in out.read_text().splitlines()} if out.exists() else set()
    with out.open("a") as lines:
        for source in of_zoo(zoo):
            if source.name not in done:
                print(json.dumps(scan_one(source)), file=lines, flush=True)


@main.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
def table(path: Path) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    clean = [row for row in rows if not row["targets"]]
    if not clean:
        raise click.UsageError(f"{path}: expected clean networks among those scanned, found none")
    console = Console(width=175)
    console.print(_networks(rows))
    kept = [_rates(console, rows, clean), *(_calibration(console, clean, alpha) for alpha in _ALPHAS)]
    sys.exit(0 if all(kept) else 1)


def _networks(rows: Sequence[dict[str, Any]]) -> Table:
    shown = Table("network", "architecture", "kind", "ASR", "true", "suspected", "verdict", "score", "strongest", "s")
    for row in sorted(rows, key=lambda row: (not row["targets"], row["network"])):
        kind = kind_of(row["options"], row["success"]).name if row["targets"] else "clean"
        true, found = (
            "all" if len(some) > 5 else ", ".join(map(str, some)) for some in (row["targets"], row["suspected"])
        )
        name = row["network"].split("/", 1)[1]
        words = name, row["architecture"].split(":")[-1], kind, f"{row['success']:.2f}", true, found
        shown.add_row(*words, row["verdict"], f"{row['score']:.1f}", _strongest(row), f"{row['seconds']:.0f}")
    return shown


def _strongest(row: dict[str, Any]) -> str:
    """Return the single kind of evidence with the highest score, and the class that it names."""
    kinds = {
        kind: np.array(scores, float) for kind, scores in row["evidence"].items() if kind not in (TOGETHER, OF_ALL)
    }
    kind = max(kinds, key=lambda name: float(np.nanmax(kinds[name])))
    return f"{kind}, class {int(np.nanargmax(kinds[kind]))}: {float(np.nanmax(kinds[kind])):.1f}"


def _rates(console: Console, rows: Sequence[dict[str, Any]], clean: Sequence[dict[str, Any]]) -> bool:
    """Print a row for each kind of attack; return whether the bars are met."""
    shown = Table(
        "backdoors", "networks", "backdoored", "exactly the targets", "a wrong class", "inconclusive", "AUROC"
    )
    kept = True
    for kind in (ONE_TARGET, RARE, SOURCE, ALL_TO_ALL, FAILED):
        group = [row for row in rows if row["targets"] and kind_of(row["options"], row["success"]) == kind]
        if not group:
            shown.add_row(kind.name, "0")
            kept &= kind == FAILED
            continue
        accused = sum(row["verdict"] == "backdoored" for row in group)
        exact = sum(row["suspected"] == row["targets"] for row in group)
        wrong = sum(not set(row["suspected"]) <= set(row["targets"]) for row in group)
        doubted = sum(row["verdict"] == "inconclusive" for row in group)
        area = area_with_interval([row["score"] for row in group], [row["score"] for row in clean])
        words = f"{area.value:.3f} [{area.low:.3f}, {area.high:.3f}]" if area and area.low is not None else ""
        shown.add_row(
            kind.name, str(len(group)), _share(accused, len(group)), str(exact), str(wrong), str(doubted), words
        )
        kept &= accused >= kind.bar * len(group) and (kind != ONE_TARGET or (area is not None and area.value >= _AREA))
    console.print(shown)
    return kept


#: The least AUROC over attacks to one target.
_AREA = 0.98


def _calibration(console: Console, clean: Sequence[dict[str, Any]], alpha: float) -> bool:
    """Print how many clean networks reach a level, and return whether chance explains it at 5 %."""
    accused = sum(row["score"] >= -np.log(alpha) for row in clean)
    p = binomtest(accused, len(clean), alpha, alternative="greater").pvalue
    console.print(f"clean networks with p <= {alpha:g}: {_share(accused, len(clean))}, binomial test p {p:.2g}")
    return bool(p > 0.05)


def _share(hits: int, n: int) -> str:
    rate = Rate.of(hits, n)
    return f"{hits} of {n} [{rate.low:.2f}, {rate.high:.2f}]"


if __name__ == "__main__":
    main()
