"""What repairs are worth where the scan has found every target, from the cells of `goodnet bench`.

    goodnet bench SPEC --zoo ZOO --out DIR
    .venv/bin/python benchmarks/repair_tables.py --bench DIR [--method auto] [--zoo ZOO]

Two tables: every repairer over the poisoned networks all of whose targets the default scan found (and over those of them
that every repairer can repair), and one repairer network by network. What the scan misses stays as it is and is left out
here; the tables of `goodnet bench` itself have it in. With --zoo the second table also says how many triggered images the
clean twin recognises, which never had a backdoor: a trigger that hides what the image shows cannot be seen past.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from goodnet.evaluation.bench_cells import Cell, Exhibit, open_subject
from goodnet.evaluation.bench_spec import MethodSpec, Subject, read_zoo
from goodnet.evaluation.comparison import evaluate_network


@dataclass(frozen=True)
class Row:
    """One repair: clean accuracy before and after, ASR and robust accuracy of each trigger, effectiveness."""

    clean: tuple[float, float]
    before: list[float]
    after: list[float]
    robust: list[float]
    rating: float

    @classmethod
    def of(cls, result: dict[str, Any]) -> Row:
        """Return the row of a cell's result."""
        before, after = result["before"], result["after"]
        clean = (before["clean_accuracy"]["value"], after["clean_accuracy"]["value"])
        rates = [_values(side) for side in (before["attack_success_rate"], after["attack_success_rate"])]
        return cls(clean, *rates, _values(after["robust_accuracy"]), result["defence_effectiveness"])

    @property
    def lost(self) -> float:
        """Clean accuracy that the repair costs."""
        return self.clean[0] - self.clean[1]


def _values(rates: dict[str, dict[str, float]]) -> list[float]:
    return [rate["value"] for rate in rates.values()]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--bench", type=Path, required=True, help="the folder that `goodnet bench` wrote")
    arguments.add_argument("--method", default="auto", help="the repairer of the second table")
    arguments.add_argument("--zoo", type=Path, help="the zoo that the bench ran on, for its clean twins")
    given = arguments.parse_args()
    cells = json.loads((given.bench / "cells.json").read_text())["cells"]
    found, rows = read(cells)
    show_methods(found, rows)
    print()
    twins = recognise_with_twins(given.zoo, found) if given.zoo else {}
    show_networks(found, rows[given.method], twins)


def read(cells: list[dict[str, Any]]) -> tuple[list[str], dict[str, dict[str, Row]]]:
    """Return the networks all of whose targets were found, and each repairer's rows by network."""
    done = [cell for cell in cells if cell["result"]]
    scans = {cell["network"]: cell["result"] for cell in done if cell["family"] == "scanners"}
    found = [
        name for name, scan in sorted(scans.items()) if set(scan["true_targets"]) <= set(scan["suspected_targets"])
    ]
    rows: dict[str, dict[str, Row]] = {}
    for cell in done:
        if cell["family"] == "repairers":
            rows.setdefault(cell["label"], {})[cell["network"]] = Row.of(cell["result"])
    return [name for name in found if scans[name]["true_targets"]], rows


def show_methods(found: list[str], rows: dict[str, dict[str, Row]]) -> None:
    """Print a line for each repairer and group of networks."""
    all_can = [name for name in found if all(name in repaired for repaired in rows.values())]
    print("| repairer | networks | mean DER | mean RA | with an ASR above 0.10 | clean accuracy lost, mean | most |")
    print("|---|---|---|---|---|---|---|")
    for method, repaired in rows.items():
        for group in dict.fromkeys((tuple(found), tuple(all_can))):
            if all(name in repaired for name in group):
                print(_line(method, [repaired[name] for name in group]))


def _line(method: str, rows: list[Row]) -> str:
    rating, robust = fmean(row.rating for row in rows), fmean(fmean(row.robust) for row in rows)
    high, lost = sum(max(row.after) > 0.1 for row in rows), [row.lost for row in rows]
    return f"| {method} | {len(rows)} | {rating:.3f} | {robust:.3f} | {high} | {fmean(lost):.3f} | {max(lost):.3f} |"


def recognise_with_twins(zoo: Path, names: list[str]) -> dict[str, list[float]]:
    """Return the robust accuracy of each network's clean twin, trigger by trigger."""
    subjects = {subject.name: subject for subject in read_zoo(zoo)}
    recognised = {}
    for name in names:
        poisoned, twin = (_open(subjects[member]) for member in (name, name.replace("/poisoned", "/clean")))
        metrics = evaluate_network(twin.classifier, poisoned.test, poisoned.triggered).metrics
        recognised[name] = [rate.value for rate in metrics.robust_accuracy.values()]
    return recognised


def _open(subject: Subject) -> Exhibit:
    return open_subject(Cell("repairers", MethodSpec(method="quarantine"), subject, 0, None, "", None, None))


def show_networks(found: list[str], rows: dict[str, Row], twins: dict[str, list[float]]) -> None:
    """Print one repairer's line for each network."""
    print(f"| network | clean before | after | ASR before | after | RA after |{' clean twin |' * bool(twins)} DER |")
    print("|---" * (7 + bool(twins)) + "|")
    for name in found:
        row = rows[name]
        sides = [row.before, row.after, row.robust, *([twins[name]] if twins else [])]
        rates = " | ".join(", ".join(f"{rate:.3f}" for rate in side) for side in sides)
        print(f"| {name.split('/')[0]} | {row.clean[0]:.3f} | {row.clean[1]:.3f} | {rates} | {row.rating:.3f} |")
    if twins:
        print(f"\nmean RA of the clean twins: {fmean(fmean(rates) for rates in twins.values()):.3f}")


if __name__ == "__main__":
    main()
