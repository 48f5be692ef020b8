"""What the verbs return: records with numbers, each rate with its n and a 95 % Wilson interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier

#: Version of the layout of `run.json` and of `--json` output.
SCHEMA_VERSION = 1

_Z95 = 1.959963984540054


class Record(BaseModel):
    """A result that is written to JSON: it cannot be changed, and misspelt fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Rate(Record):
    """A fraction in [0, 1] of `n` cases, with its 95 % Wilson score interval [low, high]."""

    value: float
    n: int
    low: float
    high: float

    @classmethod
    def of(cls, hits: int, n: int) -> Rate:
        """Return hits / n with its interval (E. B. Wilson, JASA 22, 1927).

        Raises:
            ValueError: n < 1, or hits outside 0..n.
        """
        if n < 1 or not 0 <= hits <= n:
            raise ValueError(f"expected 0 <= hits <= n with n >= 1, got hits {hits}, n {n}")
        p, z2 = hits / n, _Z95**2
        centre = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = _Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
        # At the ends the interval touches 0 or 1 exactly; rounding must not move it off.
        low = 0.0 if hits == 0 else max(0.0, centre - half)
        high = 1.0 if hits == n else min(1.0, centre + half)
        return cls(value=p, n=n, low=low, high=high)

    @property
    def hits(self) -> int:
        """The number of cases counted."""
        return round(self.value * self.n)

    def keeps(self, before: Rate, drop: float) -> bool:
        """Whether this rate lies at most `drop` below `before`; a drop of exactly one whole case of n counts as that."""
        return before.value - self.value <= drop + 1e-9

    def __str__(self) -> str:
        return f"{self.value:.4f}"


class ClassDrop(Record):
    """A class whose clean images are answered less often than by the original: the rates `before` and `after`."""

    label: int
    before: Rate
    after: Rate

    @property
    def lost(self) -> float:
        """The share of the class's images that is lost."""
        return self.before.value - self.after.value

    def __str__(self) -> str:
        return (
            f"class {self.label} lost most: {self.before.hits} of its {self.before.n} clean images were answered right, "
            f"{self.after.hits} are now"
        )


class Metrics(Record):
    """What one network does on clean and poisoned data; None where the data or the network cannot tell.

    `attack_success_rate`, `robust_accuracy` and `refused_poisoned` hold one rate per poisoned set, by file name;
    `detection_accuracy` is the share of right decisions "poisoned or clean" on clean and poisoned images together.
    `target_recall` is the share of clean images of the target classes that get their label, `refused_clean_of_target` the
    share of them that is refused; `worst_class_drop` is the class that lost most against the original, None where none did.
    """

    clean_accuracy: Rate | None = None
    target_recall: Rate | None = None
    worst_class_drop: ClassDrop | None = None
    attack_success_rate: dict[str, Rate] = {}
    robust_accuracy: dict[str, Rate] = {}
    refused_clean: Rate | None = None
    refused_clean_of_target: Rate | None = None
    refused_poisoned: dict[str, Rate] = {}
    detection_accuracy: dict[str, Rate] = {}


class Row(Record):
    """One network of an evaluation: its name in the table, its metrics, what is known of how it was made."""

    name: str
    metrics: Metrics
    channels_pruned: int | None = None
    channels: int | None = None
    order: str | None = None
    threshold: float | None = None


class Evaluation(Record):
    """Every network that was evaluated, the original first, and the range in which it was fed."""

    rows: tuple[Row, ...]
    input_range: str
    input_range_reason: str

    @property
    def subject(self) -> Row:
        """The network that the evaluation is about: the last row."""
        return self.rows[-1]


@dataclass(frozen=True)
class RepairedNetwork:
    """One network that a repair made.

    `name` tells it from its siblings (e.g. "2_percent"); `changes` is what was done, ready for JSON;
    `accuracy` is measured on the clean data that the repairer was given.
    """

    name: str
    classifier: Classifier
    accuracy: Rate
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Repair:
    """What a repairer returns: one network or several, the one it recommends last.

    `accuracy_before` is the original's on the same clean data; `trace` is the method's own record (e.g. the pruning
    sweep), ready for JSON; `steps` are the networks that lie on the way from the original to the first of `networks`.
    """

    networks: tuple[RepairedNetwork, ...]
    accuracy_before: Rate
    trace: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[RepairedNetwork, ...] = ()

    @property
    def recommended(self) -> RepairedNetwork:
        """The network to use."""
        return self.networks[-1]

    @property
    def classifier(self) -> Classifier:
        """The recommended network."""
        return self.recommended.classifier

    @property
    def unchanged_because(self) -> str | None:
        """Why the method left the network as it was; None where it did not."""
        changes = self.recommended.changes
        return str(changes["why"]) if changes.get("method") == "none" else None


Verdict = Literal["clean", "backdoored", "inconclusive"]


@dataclass(frozen=True)
class Detection:
    """What a scanner returns: `scores` (classes,) higher is more suspicious; `unscanned` the classes left out.

    `evidence` are the parts that the scores were made of: the name of the kind -> a number for each class.
    `clean_accuracy` is the network's on the clean images, where their labels are known, and `notes` are what the reading of
    network and images has to say (what was left out, how it was understood); the verb fills both in.
    """

    verdict: Verdict
    scores: tuple[float, ...]
    threshold: float
    suspected: tuple[Backdoor, ...] = ()
    unscanned: tuple[int, ...] = ()
    reason: str = ""
    evidence: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    clean_accuracy: Rate | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def unexamined(cls, classes: int, reason: str) -> Detection:
        """Return what is known of a network that was not examined: no class has a score, and why."""
        return cls("inconclusive", (math.nan,) * classes, 0.0, unscanned=tuple(range(classes)), reason=reason)

    def doubted(self, doubts: tuple[str, ...]) -> Detection:
        """Return the same, inconclusive for these reasons: data that cannot carry a verdict cannot carry an accusation either."""
        if not doubts:
            return self
        return replace(self, verdict="inconclusive", suspected=(), reason="; ".join([self.reason, *doubts]))

    @property
    def all_to_all(self) -> bool:
        """Whether every class is suspected, each of being the target of certain others."""
        targets = {item.target for item in self.suspected}
        return len(targets) == len(self.scores) and all(item.sources is not None for item in self.suspected)

    def name_targets(self) -> str:
        """Return the suspected targets in words; empty where nothing is suspected."""
        if self.suspected and self.all_to_all:
            return f"all to all: each of {len(self.scores)} classes is the target of another"
        targets = ", ".join(_name_target(backdoor) for backdoor in self.suspected)
        return f"target {targets}" if targets else ""


def _name_target(backdoor: Backdoor) -> str:
    """Return the target and, of a source-specific backdoor, from where it is reached."""
    if backdoor.sources is None:
        return str(backdoor.target)
    return f"{backdoor.target} (from {', '.join(map(str, backdoor.sources))})"


class Failure(Record):
    """An error as a result: the exception's class and message, and of a file that was refused for code what it names."""

    kind: str
    message: str
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, error: Exception, message: str) -> Failure:
        """Return the record of an error, with a `message` that can be shown."""
        return cls(kind=type(error).__name__, message=message, names=getattr(error, "names", ()))


class Run(Record):
    """The envelope of every result: what was run, on what, with what, how long, and the result or the error."""

    schema_version: int = SCHEMA_VERSION
    verb: str
    method: str | None = None
    options: dict[str, Any] = {}
    seed: int | None = None
    seconds: float
    started: str
    versions: dict[str, str]
    inputs: dict[str, str]
    result: dict[str, Any] | None = None
    error: Failure | None = None
