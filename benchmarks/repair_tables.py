"""What repairs are worth, from the cells of `goodnet bench`.

    goodnet bench repairs --zoo ZOO --out DIR
    .venv/bin/python benchmarks/repair_tables.py --bench DIR [--zoo ZOO] [--method auto]

Tables: every repairer over all poisoned networks, over those all of whose targets the default scan found, with --zoo also
over those with and without batch normalisation; their DER and robust accuracy attack by attack; both seed by seed, where
there are several; one repairer network by network. With --zoo the last one also says how many triggered images the clean
twin recognises, which never had a backdoor: a trigger that hides what the image shows cannot be seen past.

A network that a repairer cannot repair stays as it is and counts so, with a DER of 0.5: all means are over the same networks.
So does one where it broke down or ran out of time, and that is said beside how many it has repaired.
In brackets 95 % bootstrap intervals over networks; of several seeds, a network's numbers are their means. A network is
found when the scan has found it with every seed.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import nn

from goodnet.evaluation.bench_cells import Cell, Exhibit, open_subject
from goodnet.evaluation.bench_spec import MethodSpec, Subject, read_zoo
from goodnet.evaluation.comparison import evaluate_network
from goodnet.evaluation.ranking import mean_of

#: DER of a network that nothing was done to.
_UNTOUCHED = 0.5
#: Errors by which a repairer says that it cannot repair this network, or has nothing to work on.
_CANNOT = ("UnknownMethod", "MethodFailed")


@dataclass(frozen=True)
class Row:
    """One repair: clean accuracy before and after, ASR and robust accuracy of each trigger, effectiveness.

    `seconds` is what it took; None where the network stayed as it is, as the repairer cannot repair it or (`broke`) broke
    down.
    """

    clean: tuple[float, float]
    before: list[float]
    after: list[float]
    robust: list[float]
    rating: float
    seconds: float | None
    broke: bool = False

    @classmethod
    def of(cls, result: dict[str, Any], seconds: float) -> Row:
        """Return the row of a cell's result."""
        before, after = result["before"], result["after"]
        return cls(
            clean=(before["clean_accuracy"]["value"], after["clean_accuracy"]["value"]),
            before=_values(before["attack_success_rate"]),
            after=_values(after["attack_success_rate"]),
            robust=_values(after["robust_accuracy"]),
            rating=result["defence_effectiveness"],
            seconds=seconds,
        )

    @classmethod
    def untouched(cls, result: dict[str, Any], error: dict[str, str]) -> Row:
        """Return the row of a network that stays as it is; `result` is another repairer's, for what was before."""
        before = result["before"]
        clean, success = before["clean_accuracy"]["value"], _values(before["attack_success_rate"])
        robust, broke = _values(before["robust_accuracy"]), error["kind"] not in _CANNOT
        return cls((clean, clean), success, success, robust, _UNTOUCHED, None, broke)

    @property
    def lost(self) -> float:
        """Clean accuracy that the repair costs."""
        return self.clean[0] - self.clean[1]

    @property
    def recognised(self) -> float:
        """Robust accuracy, the mean over triggers."""
        return fmean(self.robust)


#: By repairer and network: the rows of the seeds.
Rows = dict[str, dict[str, list[Row]]]


def _values(rates: dict[str, dict[str, float]]) -> list[float]:
    return [rate["value"] for rate in rates.values()]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--bench", type=Path, required=True, help="the folder that `goodnet bench` wrote")
    arguments.add_argument("--method", default="auto", help="the repairer of the last table")
    arguments.add_argument("--zoo", type=Path, help="the zoo that the bench ran on")
    given = arguments.parse_args()
    cells = json.loads((given.bench / "cells.json").read_text())["cells"]
    rows, found = read_rows(cells, given.bench / "seconds.csv"), find_found(cells)
    if given.method not in rows:
        arguments.error(f"--method: expected one of {', '.join(rows)}, got '{given.method}'")
    subjects = {subject.name: subject for subject in read_zoo(given.zoo)} if given.zoo else {}
    for title, names in group(rows, found, subjects).items():
        show_methods(title, names, rows)
    show_attacks(rows, {cell["network"]: cell["attack"] for cell in cells})
    show_seeds(rows)
    show_networks(found, rows[given.method], recognise_with_twins(subjects, found))


def read_rows(cells: list[dict[str, Any]], seconds: Path) -> Rows:
    """Return each repairer's rows, those of what it could not repair among them; poisoned networks alone."""
    with seconds.open(newline="") as file:
        took = {(line["method"], line["network"], line["seed"]): line["seconds"] for line in csv.DictReader(file)}
    repairs = [cell for cell in cells if cell["family"] == "repairers" and cell["backdoored"]]
    results = {cell["network"]: cell["result"] for cell in repairs if cell["result"]}
    rows: Rows = {}
    for cell in repairs:
        if cell["result"]:
            row = Row.of(cell["result"], float(took[cell["label"], cell["network"], str(cell["seed"])]))
        else:
            row = Row.untouched(results[cell["network"]], cell["error"])
        rows.setdefault(cell["label"], {}).setdefault(cell["network"], []).append(row)
    return rows


def find_found(cells: list[dict[str, Any]]) -> list[str]:
    """Return the poisoned networks all of whose targets the scan found, with every seed."""
    scans = [cell for cell in cells if cell["family"] == "scanners" and cell["backdoored"]]
    missed = {cell["network"] for cell in scans if not cell["result"] or not _has_all(cell["result"])}
    return sorted({cell["network"] for cell in scans} - missed)


def _has_all(scan: dict[str, Any]) -> bool:
    return set(scan["true_targets"]) <= set(scan["suspected_targets"])


def group(rows: Rows, found: list[str], subjects: dict[str, Subject]) -> dict[str, list[str]]:
    """Return the groups of networks that means are taken over."""
    names = sorted(next(iter(rows.values())))
    groups = {"all networks": names, "all targets found by the scan": found}
    if subjects:
        normalised = {name for name in names if _has_batch_norm(subjects[name])}
        groups["with batch normalisation"] = [name for name in names if name in normalised]
        groups["without batch normalisation"] = [name for name in names if name not in normalised]
    return {title: members for title, members in groups.items() if members}


def _has_batch_norm(subject: Subject) -> bool:
    return any(isinstance(module, nn.BatchNorm2d) for module in _open(subject).classifier.network.modules())


def show_methods(title: str, names: list[str], rows: Rows) -> None:
    """Print a line for each repairer, the best DER first."""
    print(f"\n{title}: {len(names)} networks\n")
    print("| repairer | repaired | DER | RA | ASR left | above 0.10 | accuracy lost | most | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    members = {method: [repaired[name] for name in names] for method, repaired in rows.items()}
    for method in sorted(members, key=lambda label: -fmean(_over(members[label], lambda row: row.rating))):
        print(_line(method, members[method]))


def _line(method: str, networks: list[list[Row]]) -> str:
    of_all = [row for seeds in networks for row in seeds]
    done = [row for row in of_all if row.seconds is not None]
    broke = sum(row.broke for row in of_all)
    left = _over(networks, lambda row: fmean(row.after))
    lost = _over(networks, lambda row: row.lost)
    numbers = [
        f"{len(done)} of {len(of_all)}" + (f", {broke} broke down" if broke else ""),
        _bracketed(_over(networks, lambda row: row.rating)),
        _bracketed(_over(networks, lambda row: row.recognised)),
        f"{fmean(left):.3f}",
        f"{sum(max(row.after) > 0.1 for row in of_all)}",
        f"{fmean(lost):.3f}",
        f"{max(row.lost for row in of_all):.3f}",
        f"{fmean(row.seconds or 0.0 for row in done):.0f}" if done else "",
    ]
    return f"| {method} | {' | '.join(numbers)} |"


def _over(networks: Sequence[Sequence[Row]], number: Callable[[Row], float]) -> list[float]:
    """Return one number for each network, the mean over its seeds."""
    return [fmean(number(row) for row in seeds) for seeds in networks]


def _bracketed(values: list[float]) -> str:
    mean = mean_of(values)
    if mean is None or mean.low is None or mean.high is None:
        return f"{fmean(values):.3f}"
    return f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"


def show_attacks(rows: Rows, attacks: dict[str, str]) -> None:
    """Print mean DER and mean robust accuracy of each repairer, attack by attack."""
    kinds = sorted({attacks[name] for name in next(iter(rows.values()))})
    for what, number in _NUMBERS.items():
        print(f"\n| {what} | {' | '.join(kinds)} |\n|{'---|' * (len(kinds) + 1)}")
        for method, repaired in rows.items():
            of_kind = [[seeds for name, seeds in repaired.items() if attacks[name] == kind] for kind in kinds]
            print(f"| {method} | {' | '.join(f'{fmean(_over(networks, number)):.2f}' for networks in of_kind)} |")


def show_seeds(rows: Rows) -> None:
    """Print the means seed by seed, where there are several."""
    seeds = min(len(of_network) for repaired in rows.values() for of_network in repaired.values())
    if seeds < 2:
        return
    print(f"\n| seed by seed | {' | '.join(_NUMBERS)} |\n|{'---|' * (len(_NUMBERS) + 1)}")
    for method, repaired in rows.items():
        means = [
            ", ".join(
                f"{fmean(number(of_network[turn]) for of_network in repaired.values()):.3f}" for turn in range(seeds)
            )
            for number in _NUMBERS.values()
        ]
        print(f"| {method} | {' | '.join(means)} |")


#: What the tables by attack and by seed show.
_NUMBERS: dict[str, Callable[[Row], float]] = {"DER": lambda row: row.rating, "RA": lambda row: row.recognised}


def recognise_with_twins(subjects: dict[str, Subject], names: list[str]) -> dict[str, list[float]]:
    """Return the robust accuracy of each network's clean twin, trigger by trigger; nothing where there is no zoo."""
    recognised = {}
    for name in names if subjects else ():
        twin_name = name.replace("/poisoned", "/clean")
        if twin_name not in subjects:
            continue
        poisoned, twin = _open(subjects[name]), _open(subjects[twin_name])
        metrics = evaluate_network(twin.classifier, poisoned.test, poisoned.triggered).metrics
        recognised[name] = [rate.value for rate in metrics.robust_accuracy.values()]
    return recognised


def _open(subject: Subject) -> Exhibit:
    return open_subject(Cell("repairers", MethodSpec(method="quarantine"), subject, 0, None, "", None, None))


def show_networks(found: list[str], rows: dict[str, list[Row]], twins: dict[str, list[float]]) -> None:
    """Print one repairer's line for each network; of several seeds the first."""
    print(f"\n| network | clean before | after | ASR before | after | RA after |{' clean twin |' * bool(twins)} DER |")
    print("|---" * (7 + bool(twins)) + "|")
    for name in found:
        row = rows[name][0]
        sides = [row.before, row.after, row.robust, *([twins.get(name, [])] if twins else [])]
        rates = " | ".join(", ".join(f"{rate:.3f}" for rate in side) for side in sides)
        print(f"| {name.split('/')[0]} | {row.clean[0]:.3f} | {row.clean[1]:.3f} | {rates} | {row.rating:.3f} |")
    if twins:
        print(f"\nmean RA of the clean twins: {fmean(fmean(rates) for rates in twins.values()):.3f}")


if __name__ == "__main__":
    main()
