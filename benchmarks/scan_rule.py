"""What the scan's rule rests on: leads in clean networks, and what changes when a constant is halved or doubled.

    python benchmarks/scan_rule.py gather VALUES.jsonl --zoo ZOO --strangers DIR --cases CASES   # can be resumed
    python benchmarks/scan_rule.py leads VALUES.jsonl > NEW.toml && mv NEW.toml src/goodnet/evidence/usual_leads.toml
    python benchmarks/scan_rule.py table VALUES.jsonl
    python benchmarks/scan_rule.py constants VALUES.jsonl

ZOO is what `goodnet zoo build benchmarks/development.toml` has built; DIR holds truth.json as in `benchmarks/strangers.py`,
CASES the project's `../shared/data/cases`.
`gather` writes one line per network: the evidence that the scan gathers. `leads` prints what is usual in clean networks; the
table in use has earlier means above 20 classes, and says so. `table`
what the rule makes of each network (but for held-out images, on which a trigger that fails takes its accusation back);
`constants` judges all networks anew with each constant at half and at twice its value.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from goodnet.api.loading import load_both
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.reading import Reading
from goodnet.evidence import judgement as evidence_module
from goodnet.evidence import outliers
from goodnet.evidence.held_out import try_triggers
from goodnet.evidence.judgement import DOUBT, Evidence
from goodnet.evidence.square_margins import SquareMargins
from goodnet.evidence.usual_leads import GROUPS, USUAL_LEADS, group_of
from goodnet.inference.input_range import choose_input_range
from goodnet.pipelines.scan_ensemble import ScanEnsemble
from goodnet.pipelines.scan_rounds import Gathering, split_images
from goodnet.triggers.inversion import Inversions

#: The mean of all groups counts as so many networks in each.
SHRINK = 4


@dataclass(frozen=True)
class Source:
    """Where a network lies: `folder` is where the command to read it would be run; `targets` are the true ones."""

    name: str
    targets: list[int]
    folder: Path
    model: str
    clean: str
    architecture: str | None
    image_shape: tuple[int, int, int] | None = None


def of_zoo(zoo: Path) -> Iterator[Source]:
    for path in sorted(zoo.glob("pairs/*/*/backdoor.json")):
        content = json.loads(path.read_text())
        model = content["model"]
        whole = model["file"].endswith((".h5", ".keras"))
        yield Source(
            f"{zoo.name}/{path.parent.parent.name}/{path.parent.name}",
            sorted(item["target"] for item in content.get("backdoors", [])),
            path.parent,
            model["file"],
            str(zoo.resolve() / "data" / content["data"]["name"] / "clean_validation_data.h5"),
            None if whole else model["architecture"],
            None if whole else tuple(model["image_shape"]),
        )


def of_strangers(folder: Path) -> Iterator[Source]:
    for name, truth in json.loads((folder / "truth.json").read_text()).items():
        if truth["targets"] is not None:
            clean = f"../_clean/{truth['clean']}.h5"
            yield Source(
                f"strangers/{name}", truth["targets"], folder / name, truth["model"], clean, truth["architecture"]
            )


def of_cases(folder: Path) -> Iterator[Source]:
    """The two clean networks on which goodnet was wrong once."""
    name = "cifar_patch_target3_before_poisoning.pth"
    yield Source(f"cases/{name}", [], folder, name, "cifar_clean.npz", "networks:small")
    yield Source("cases/clean.pt", [], folder, "clean.pt", "clean.h5", "networks:digits", (1, 16, 16))


def load(source: Source) -> tuple[Classifier, Dataset]:
    """Return a network, in the input range that its clean images tell, and these images."""
    here = Path.cwd()
    os.chdir(source.folder)
    sys.path.insert(0, str(source.folder.resolve()))
    for module in ("arch", "networks"):
        sys.modules.pop(module, None)
    try:
        classifier, data = load_both(
            source.model,
            source.clean,
            reading=Reading(architecture=source.architecture, image_shape=source.image_shape),
        )
    finally:
        os.chdir(here)
        sys.path.pop(0)
    return choose_input_range(classifier, data).classifier, data


def gather_one(source: Source) -> dict[str, Any]:
    """Return what the scan's defaults gather of one network, but for pairs of classes (`class_pairs.py`), ready for JSON."""
    classifier, data = load(source)
    draw = split_images(data.in_canonical_order(), seed=0)
    found = Gathering(ScanEnsemble().schedule, seed=0).gather(classifier, draw.used, draw.more.subset([0]))
    shift = found.shift
    return {
        "network": source.name,
        "targets": source.targets,
        "classes": classifier.classes,
        "values": {kind: values.tolist() for kind, values in found.values.items()},
        "shifts": None if found.shifts is None else [found.shifts.labels, found.shifts.sizes.tolist()],
        "squares": None if found.squares is None else [found.squares.labels, found.squares.margins.tolist()],
        "refuted": shift is not None
        and try_triggers(classifier, draw.held_out, shift.backdoors(classifier.classes))[0].refuted,
    }


def read_evidence(row: dict[str, Any]) -> Evidence:
    """Return the evidence of a row, without the triggers; rows from before adversarial patches have none."""
    values = {kind: np.array(some, dtype=np.float64) for kind, some in row["values"].items()}
    squares = None
    if row.get("squares") is not None:
        labels, margins = row["squares"]
        unknown = (math.nan,) * len(labels)
        squares = SquareMargins(row["classes"], tuple(labels), torch.tensor(margins), shares=unknown)
    if row["shifts"] is None or row["refuted"]:
        return Evidence(row["classes"], values, squares=squares)
    labels, sizes = row["shifts"]
    empty = torch.zeros(len(labels), 1, 1, 1)
    shifts = Inversions(tuple(labels), empty, empty, torch.tensor(sizes), torch.tensor(sizes) < np.inf)
    return Evidence(row["classes"], values, squares=squares, shifts=shifts)


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--zoo", "zoos", type=click.Path(path_type=Path, exists=True), multiple=True)
@click.option("--strangers", type=click.Path(path_type=Path, exists=True))
@click.option("--cases", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--part", default="0/1", help="2/3: every third network, from the third on; each part has a file of its own"
)
def gather(out: Path, zoos: tuple[Path, ...], strangers: Path | None, cases: Path | None, part: str) -> None:
    sources = [source for zoo in zoos for source in of_zoo(zoo)]
    sources += list(of_strangers(strangers.resolve())) if strangers else []
    sources += list(of_cases(cases.resolve())) if cases else []
    first, every = map(int, part.split("/"))
    done = {json.loads(line)["network"] for line in out.read_text().splitlines()} if out.exists() else set()
    with out.open("a") as lines:
        for source in sources[first::every]:
            if source.name not in done:
                print(json.dumps(gather_one(source)), file=lines, flush=True)


def read_rows(paths: Sequence[Path]) -> list[dict[str, Any]]:
    rows = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    return list({row["network"]: row for row in rows}.values())


@main.command()
@click.argument("paths", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True)
def leads(paths: tuple[Path, ...]) -> None:
    clean = [row for row in read_rows(paths) if not row["targets"]]
    found = [(group_of(row["classes"]), read_evidence({**row, "refuted": False}).leads()) for row in clean]
    print(
        "# What is usual in clean networks of up to 20, up to 99 and more classes: printed by `benchmarks/scan_rule.py leads`."
    )
    print(f"# A group's mean counts with that of all groups as if the latter were {SHRINK} networks more.")
    for kind, usual in USUAL_LEADS.items():
        known = [(group, lead[kind]) for group, lead in found if np.isfinite(lead.get(kind, np.nan))]
        groups = [[lead for group, lead in known if group == wanted] for wanted in range(len(GROUPS) + 1)]
        means, networks = usual.means, list(usual.networks)
        if kind != evidence_module.PAIR and known:  # `class_pairs.py usual` measures it: it stays.
            overall = float(np.mean([lead for _, lead in known]))
            means = tuple((sum(group) + SHRINK * overall) / (len(group) + SHRINK) for group in groups)
            networks = list(map(len, groups))
        print(f'\n["{kind}"]\nmeans = [{", ".join(f"{mean:.3f}" for mean in means)}]')
        print(f"relative = {str(usual.relative).lower()}\nnetworks = {networks}")


#: The constants of the rule, where they stand.
CONSTANTS = [
    (outliers, "PRIOR"),
    (outliers, "_FURTHER"),
    (outliers, "_LEAST"),
    (outliers, "_LEAST_SPREAD"),
    (evidence_module, "_MEASURED"),
]


def without(row: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a row without one kind of evidence."""
    values = {name: some for name, some in row["values"].items() if not name.startswith(kind)}
    gone = {evidence_module.ALL_TO_ALL: "shifts", evidence_module.SQUARE: "squares"}
    return {**row, "values": values, **({gone[kind]: None} if kind in gone else {})}


def judge_all(rows: list[dict[str, Any]], alpha: float) -> tuple[int, int, int, int]:
    """Return how often exactly the targets are suspected, another class, and of clean networks any class, or there is a doubt."""
    exact = wrong = accused = doubted = 0
    for row in rows:
        judged = read_evidence(row).judge(-np.log(alpha))
        found = {item.target for item in judged.suspected}
        exact += bool(row["targets"]) and found == set(row["targets"])
        wrong += bool(row["targets"]) and not found <= set(row["targets"])
        accused += not row["targets"] and bool(found)
        doubted += not row["targets"] and not found and judged.scores.max() >= -np.log(DOUBT * alpha)
    return exact, wrong, accused, doubted


@main.command()
@click.argument("paths", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True)
def table(paths: tuple[Path, ...]) -> None:
    lines = Table("network", "classes", "true", "suspected", "score", "class", "of each kind")
    alpha = ScanEnsemble().alpha
    for row in sorted(read_rows(paths), key=lambda row: (not row["targets"], row["network"])):
        judged = read_evidence(row).judge(-np.log(alpha))
        top = int(judged.scores.argmax())
        kinds = ", ".join(
            f"{kind} {scores[top]:.1f}" for kind, scores in judged.kinds.items() if np.isfinite(scores[top])
        )
        found = sorted(item.target for item in judged.suspected)
        shown = ["all" if len(some) > 5 else ", ".join(map(str, some)) for some in (row["targets"], found)]
        doubt = "inconclusive" if not found and judged.scores[top] >= -np.log(DOUBT * alpha) else shown[1]
        lines.add_row(
            row["network"], str(row["classes"]), shown[0], doubt, f"{judged.scores[top]:.1f}", str(top), kinds
        )
    Console(width=190).print(lines)


@main.command()
@click.argument("paths", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True)
def constants(paths: tuple[Path, ...]) -> None:
    rows = read_rows(paths)
    bad = sum(bool(row["targets"]) for row in rows)
    lines = Table(title=f"{bad} backdoored, {len(rows) - bad} clean networks", title_justify="left")
    for column in ("constant", "value", "exact", "a wrong class", "false alarms", "clean inconclusive"):
        lines.add_column(column)
    alpha = ScanEnsemble().alpha
    lines.add_row("as it is", "", *map(str, judge_all(rows, alpha)))
    for factor in (0.5, 2.0):
        lines.add_row("alpha", f"{factor * alpha:g}", *map(str, judge_all(rows, factor * alpha)))
    for module, name in CONSTANTS:
        value = getattr(module, name)
        for factor in (0.5, 2.0):
            changed = type(value)(factor * value)
            with patch.object(module, name, changed):
                lines.add_row(name, f"{changed:g}", *map(str, judge_all(rows, alpha)))
    kinds = {kind for row in rows for kind in read_evidence({**row, "refuted": False}).leads()}
    measured = {kind: usual for kind, usual in USUAL_LEADS.items() if kind in kinds}
    for kind, usual in measured.items():
        for factor in (0.5, 2.0):
            means = tuple(factor * mean for mean in usual.means)
            with patch.dict(USUAL_LEADS, {kind: replace(usual, means=means)}):
                lines.add_row(f"usual, {kind}", f"times {factor:g}", *map(str, judge_all(rows, alpha)))
    for kind in [*measured, evidence_module.ALL_TO_ALL]:
        if kind != evidence_module.TOGETHER:
            lines.add_row(f"without {kind}", "", *map(str, judge_all([without(row, kind) for row in rows], alpha)))
    Console(width=120).print(lines)


if __name__ == "__main__":
    main()
