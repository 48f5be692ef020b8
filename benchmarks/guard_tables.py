"""What guards are worth trigger by trigger, from the cells of `goodnet bench`.

    goodnet bench guards --zoo ZOO --out DIR
    .venv/bin/python benchmarks/guard_tables.py --bench DIR

A table of all guards, over the networks all of whose targets the default scan found and over all of them, and the triggers
for which the combination (`ensemble`) lies more than 0.01 of AUROC below the best single guard.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

#: A guard's results by network.
Results = dict[str, dict[str, Any]]

COMBINATION, BEHIND = "ensemble", 0.01


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--bench", type=Path, required=True, help="the folder that `goodnet bench` wrote")
    cells = json.loads((arguments.parse_args().bench / "cells.json").read_text())["cells"]
    guards: dict[str, Results] = {}
    found = set()
    for cell in cells:
        result = cell["result"]
        if result and cell["family"] == "guards":
            guards.setdefault(cell["label"], {})[cell["network"]] = result
        if result and cell["family"] == "scanners" and set(result["true_targets"]) <= set(result["suspected_targets"]):
            found.add(cell["network"])
    show_guards(guards, found)
    print()
    show_behind(guards, found)


def show_guards(guards: dict[str, Results], found: set[str]) -> None:
    """Print a line for each guard and group of networks."""
    print("| guard | networks | triggers | mean AUROC | lowest | triggered refused | clean refused | highest |")
    print("|---|---|---|---|---|---|---|---|")
    for targets_found in (True, False):
        for guard, results in guards.items():
            group = [result for name, result in results.items() if name in found or not targets_found]
            if group:
                name = guard if targets_found else f"{guard}, missed targets too"
                print(f"| {name} | {len(group)} | {_describe(group)} |")


def _describe(results: list[dict[str, Any]]) -> str:
    triggers = [trigger for result in results for trigger in result["triggers"].values()]
    areas = [trigger["auroc"]["value"] for trigger in triggers]
    refused = fmean(trigger["refused"]["value"] for trigger in triggers)
    clean = [result["refused_clean"]["value"] for result in results]
    figures = (fmean(areas), min(areas), refused, fmean(clean), max(clean))
    return " | ".join([str(len(triggers)), *(f"{figure:.3f}" for figure in figures)])


def show_behind(guards: dict[str, Results], found: set[str]) -> None:
    """Print the triggers for which a single guard is clearly better than the combination."""
    print(
        f"| combination more than {BEHIND} behind | trigger | targets found | combination | best single guard | AUROC |"
    )
    print("|---|---|---|---|---|---|")
    for name, result in sorted(guards[COMBINATION].items()):
        for trigger, rates in result["triggers"].items():
            singles = [
                (results[name]["triggers"][trigger]["auroc"]["value"], guard)
                for guard, results in guards.items()
                if guard != COMBINATION and name in results
            ]
            area, (best, guard) = rates["auroc"]["value"], max(singles)
            if best - area > BEHIND:
                known = "yes" if name in found else "no"
                print(f"| {name.split('/')[0]} | {trigger} | {known} | {area:.3f} | {guard} | {best:.3f} |")


if __name__ == "__main__":
    main()
