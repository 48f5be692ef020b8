"""The contest's networks: scanned with 50 and with ten clean images, repaired with 50, measured with the contest's sunglasses.

    python benchmarks/contest.py run ../shared/data/csaw OUT benchmarks/values/contest.jsonl    # can be resumed
    python benchmarks/contest.py table benchmarks/values/contest.jsonl

OUT gets a folder for each scan and repair, as the commands write them; what is there already is not done again. Target 0 of
both networks must be found and no other class; the repair may leave an ASR of 0.02 and cost 0.02 of accuracy. Exit code 1
where a bar is missed.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

import goodnet
from goodnet import Dataset, Detection, Repair

NETWORKS, COUNTS, TARGET = ("bd_net", "sunglasses_bd_net"), (50, 10), 0
ASR_BAR, DROP_BAR = 0.02, 0.02


def draw(clean: Dataset, count: int) -> Dataset:
    """Return so many of the clean images, the same for everybody."""
    return clean.subset(np.sort(np.random.default_rng(0).permutation(len(clean))[:count]))


def scan_one(data: Path, out: Path, network: str, count: int) -> dict[str, Any]:
    """Return what a scan with so many clean images says."""
    folder = out / f"scan_{network}_{count}"
    if not (folder / "scan.json").exists():
        clean = draw(goodnet.load_dataset(data / "clean_validation_data.h5"), count)
        goodnet.scan(data / f"{network}.h5", clean, out=folder)
    found = Detection.load(folder)
    p_value = math.exp(-max(found.scores))
    return {
        "network": network,
        "images": count,
        "verdict": found.verdict,
        "targets": list(found.targets),
        "p": p_value,
    }


def repair_one(data: Path, out: Path, network: str) -> dict[str, Any]:
    """Return what the repair with all clean images leaves and costs on the test images."""
    folder, model = out / f"repair_{network}", data / f"{network}.h5"
    if not (folder / "run.json").exists():
        goodnet.repair(model, data / "clean_validation_data.h5", suspected=out / f"scan_{network}_50", out=folder)
    changes = Repair.load(folder).recommended.changes
    test = data / "clean_test_data.h5"
    rows = goodnet.evaluate(
        model, test, [data / "sunglasses_poisoned_data.h5"], repaired=[folder], true_labels=test
    ).rows
    measured = {
        key: row.metrics.model_dump(mode="json") for key, row in zip(("before", "after", "goodnet"), rows, strict=True)
    }
    return {"network": network, "method": getattr(changes, "method", "none"), **measured}


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("values", type=click.Path(path_type=Path))
def run(data: Path, out: Path, values: Path) -> None:
    rows = [scan_one(data, out, network, count) for network in NETWORKS for count in COUNTS]
    rows += [repair_one(data, out, network) for network in NETWORKS]
    values.write_text("".join(json.dumps(row) + "\n" for row in rows))


@main.command()
@click.argument("values", type=click.Path(path_type=Path, exists=True))
def table(values: Path) -> None:
    rows = [json.loads(line) for line in values.read_text().splitlines()]
    scans, repairs = [row for row in rows if "verdict" in row], [row for row in rows if "after" in row]
    console, shown = Console(width=140), Table("network", "clean images", "verdict", "targets", "p", title="scans")
    for row in scans:
        shown.add_row(row["network"], str(row["images"]), row["verdict"], str(row["targets"]), f"{row['p']:.4f}")
    console.print(shown)
    shown = Table("network", "clean accuracy", "ASR", "robust accuracy", "GoodNet refuses triggered", title="repairs")
    for row in repairs:
        shown.add_row(row["network"], *(_change(row, key) for key in SHOWN), f"{_value(row['goodnet'], REFUSED):.2f}")
    console.print(shown)
    missed = [row["network"] for row in scans if row["targets"] != [TARGET]]
    missed += [row["network"] for row in repairs if _misses(row)]
    console.print(f"missed: {', '.join(missed) or 'none'}")
    sys.exit(1 if missed else 0)


SHOWN, REFUSED = ("clean_accuracy", "attack_success_rate", "robust_accuracy"), "refused_poisoned"


def _value(metrics: dict[str, Any], key: str) -> float:
    """Return a rate; of several triggers the first, as there is one."""
    rate = metrics[key]
    return float((rate if "value" in rate else next(iter(rate.values())))["value"])


def _change(row: dict[str, Any], key: str) -> str:
    return f"{_value(row['before'], key):.2f} -> {_value(row['after'], key):.2f}"


def _misses(row: dict[str, Any]) -> bool:
    lost = _value(row["before"], SHOWN[0]) - _value(row["after"], SHOWN[0])
    return _value(row["after"], SHOWN[1]) > ASR_BAR or lost > DROP_BAR + 1e-9


if __name__ == "__main__":
    main()
