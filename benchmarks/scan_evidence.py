"""What each kind of evidence adds to the scan: kinds are taken away from what a bench of a zoo has found.

    goodnet bench scans --zoo ZOO --out DIR
    .venv/bin/python benchmarks/scan_evidence.py --zoo ZOO --bench DIR

A network's score is the highest of its classes' scores, see `goodnet.evidence.judgement.combine`. The table shows
AUROC, TPR and FPR (at the scan's threshold) of all kinds, of all but one (what they say together was added up with it when the
scan ran), and of each alone. Bars, of all kinds:
AUROC >= 0.95 over all-to-one patch, blended, accessories, trojan, l0 and l2, at most one clean twin in 20 called backdoored.
Exit code 1 where one is missed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from goodnet.evaluation.ranking import area_with_interval
from goodnet.evidence.judgement import ALL_TO_ALL, combine
from goodnet.evidence.outliers import Scores

AUROC_BAR, FPR_BAR = 0.95, 0.05
#: Attacks that the bars speak of, "combined" being several of them in one network.
JUDGED = {"badnets", "blended", "accessories", "trojan_square", "trojan_watermark", "l0_invisible", "l2_invisible"}
JUDGED |= {"combined"}


@dataclass(frozen=True)
class Scanned:
    """A network's cell, its evidence by kind (classes,), NaN where a class was not tried, and whether the bars are for it.

    Which kinds there are depends on the number of classes; one that a network has not says nothing of it.
    """

    cell: dict[str, Any]
    evidence: dict[str, Scores]
    judged: bool

    def scores(self, kinds: Sequence[str]) -> Scores:
        """Return the score of each class (classes,) when these kinds alone are asked."""
        chosen = {kind: scores for kind, scores in self.evidence.items() if kind in kinds}
        return combine(chosen) if set(chosen) - {ALL_TO_ALL} else np.zeros(len(next(iter(self.evidence.values()))))


def read_scans(zoo: Path, bench: Path) -> tuple[list[str], list[Scanned]]:
    """Return the kinds of evidence and the networks that the ensemble has scanned."""
    cells = [cell for cell in json.loads((bench / "cells.json").read_text())["cells"] if cell["label"] == "ensemble"]
    cells = [cell for cell in cells if cell["error"] is None]
    if not cells:
        raise click.UsageError(f"{bench}: expected cells of the scanner 'ensemble', found none")
    kinds = list(dict.fromkeys(kind for cell in cells for kind in cell["result"]["evidence"]))
    scanned = []
    for cell in cells:
        truth = json.loads((zoo / "pairs" / cell["network"] / "backdoor.json").read_text())
        all_sources = all(item["sources"] is None for item in truth["backdoors"])
        evidence = {kind: np.array(scores, dtype=np.float64) for kind, scores in cell["result"]["evidence"].items()}
        scanned.append(Scanned(cell, evidence, cell["attack"] in JUDGED and all_sources))
    return kinds, scanned


def list_networks(scanned: Sequence[Scanned]) -> Table:
    """Return one line per network: truth, verdict, and the evidence of the class that stands highest."""
    table = Table(title="networks", title_justify="left")
    for column in ("network", "classes", "targets", "verdict", "suspected", "score", "evidence of the highest class"):
        table.add_column(column)
    for item in scanned:
        result, scores = item.cell["result"], item.scores(list(item.evidence))
        top = int(scores.argmax())
        shown = " ".join(f"{scores[top]:.1f}" for scores in item.evidence.values())
        true, suspected = (", ".join(map(str, result[key][:5])) for key in ("true_targets", "suspected_targets"))
        words = item.cell["network"], str(len(scores)), true, result["verdict"], suspected
        table.add_row(*words, f"{scores[top]:.1f}", f"{top}: {shown}")
    return table


def weigh(scanned: Sequence[Scanned], kinds: Sequence[str]) -> tuple[Table, bool]:
    """Return the table of what each kind adds, and whether the bars are kept with all of them."""
    table = Table(title="what each kind of evidence adds", title_justify="left")
    for column in ("evidence", "AUROC, attacks of the bar", "TPR", "AUROC, all attacks", "TPR", "FPR"):
        table.add_column(column)
    choices = {"all": list(kinds)}
    choices |= {f"without {kind}": [other for other in kinds if other != kind] for kind in kinds}
    choices |= {f"{kind} alone": [kind] for kind in kinds}
    kept = True
    for name, chosen in choices.items():
        words, area, wrong = _row(scanned, chosen)
        table.add_row(name, *words)
        kept &= name != "all" or (area >= AUROC_BAR and wrong <= FPR_BAR)
    return table, kept


def _row(scanned: Sequence[Scanned], chosen: Sequence[str]) -> tuple[list[str], float, float]:
    """Return the words of a row, the AUROC over the attacks of the bar, and the FPR."""
    threshold = scanned[0].cell["result"]["threshold"]
    low = [float(item.scores(chosen).max()) for item in scanned if not item.cell["backdoored"]]
    words, areas = [], []
    for everything in (False, True):
        group = [item for item in scanned if item.cell["backdoored"] and (everything or item.judged)]
        high = [float(item.scores(chosen).max()) for item in group]
        area = area_with_interval(high, low)
        areas.append(area.value if area else float("nan"))
        between = f" [{area.low:.2f}, {area.high:.2f}]" if area and area.low is not None else ""
        words += [f"{areas[-1]:.3f}{between}", f"{np.mean(np.array(high) >= threshold):.2f} of {len(high)}"]
    wrong = float(np.mean(np.array(low) >= threshold))
    return [*words, f"{wrong:.3f} of {len(low)}"], areas[0], wrong


@click.command()
@click.option("--zoo", type=click.Path(path_type=Path, exists=True), required=True, help="A zoo that was built.")
@click.option("--bench", type=click.Path(path_type=Path, exists=True), required=True, help="What a bench of it wrote.")
def main(zoo: Path, bench: Path) -> None:
    kinds, scanned = read_scans(zoo, bench)
    table, kept = weigh(scanned, kinds)
    console = Console(width=150)
    console.print(list_networks(scanned))
    console.print(table)
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
