"""What clean networks show of each kind of evidence: what a network's own is compared with."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files

#: Networks of few, of some and of many classes differ: up to so many classes belong to the first two groups.
GROUPS = (20, 99)


@dataclass(frozen=True)
class Usual:
    """What is usual in clean networks, one mean for each of three groups of them by their classes.

    The mean lead of the first class over the second; for "together" the mean of the highest value. In robust deviations of
    the classes' values if `relative`, else in their own unit. `networks` is how many clean networks of a group were measured.
    """

    means: tuple[float, ...]
    relative: bool
    networks: tuple[int, ...]

    def mean(self, classes: int) -> float:
        """Return what is usual in a network of so many classes."""
        return self.means[group_of(classes)]


def group_of(classes: int) -> int:
    """Return the group of a network: 0 few classes, 1 some, 2 many."""
    return sum(classes > most for most in GROUPS)


def _read() -> dict[str, Usual]:
    table = tomllib.loads(files(__package__).joinpath("usual_leads.toml").read_text(encoding="utf-8"))
    return {kind: Usual(tuple(row["means"]), row["relative"], tuple(row["networks"])) for kind, row in table.items()}


#: Kind of evidence -> what is usual; `benchmarks/scan_rule.py leads` prints the table.
USUAL_LEADS = _read()
