"""What the verbs return: records with numbers, each rate with its n and a 95 % Wilson interval."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    PlainSerializer,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    field_serializer,
    model_serializer,
)
from pydantic.dataclasses import dataclass

from goodnet.core.backdoor import Backdoor, Patch, targets_of
from goodnet.core.tables import PlainTable, Shown

#: Version of the layout of `run.json` and of `--json` output.
SCHEMA_VERSION: Literal[2] = 2

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
    """A class whose clean images are classified correctly less often than by the original: the rates `before` and `after`."""

    label: int
    before: Rate
    after: Rate

    @property
    def lost(self) -> float:
        """The share of the class's images that is lost."""
        return self.before.value - self.after.value

    def __str__(self) -> str:
        return (
            f"class {self.label} lost most: {self.before.hits} of its {self.before.n} clean images were classified correctly, "
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

    def by_name(self) -> dict[str, Rate | None]:
        """Return the rates by their name in a table; of several poisoned sets each with the set's name."""

        def each(title: str, by_set: dict[str, Rate]) -> dict[str, Rate | None]:
            several = len(self.attack_success_rate) > 1
            return {f"{title}, {name}" if several else title: rate for name, rate in by_set.items()}

        rates = {"clean accuracy": self.clean_accuracy, "target recall": self.target_recall}
        rates |= each("ASR", self.attack_success_rate) | each("robust accuracy", self.robust_accuracy)
        rates |= {"refused clean": self.refused_clean, "refused clean of target": self.refused_clean_of_target}
        rates |= each("refused poisoned", self.refused_poisoned) | each("detection accuracy", self.detection_accuracy)
        optional = ("target recall", "refused clean of target")
        return {name: rate for name, rate in rates.items() if rate is not None or name not in optional}


class Row(Record):
    """One network of an evaluation: its name in the table, its metrics, what is known of how it was made."""

    name: str
    metrics: Metrics
    channels_pruned: int | None = None
    channels: int | None = None
    order: str | None = None
    threshold: float | None = None


class Evaluation(Shown, Record):
    """Every network that was evaluated, the original first, and the range in which it was fed."""

    rows: tuple[Row, ...]
    input_range: str
    input_range_reason: str

    @property
    def subject(self) -> Row:
        """The network that the evaluation is about: the last row."""
        return self.rows[-1]

    def save(self, path: str | Path) -> Path:
        """Write it as JSON and return the path.

        Raises:
            UnwritableOutput: the file cannot be written.
        """
        return _write_text(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Evaluation:
        """Read what `save` wrote.

        Raises:
            UnreadableData: the file is missing, damaged, or no evaluation.
        """
        evaluation: Evaluation = _room("goodnet.reports.records").read_record(path, cls)
        return evaluation

    def table(self) -> PlainTable:
        """Return the rates, one column for each network."""
        named = [row.metrics.by_name() for row in self.rows]
        names = dict.fromkeys(name for rates in named for name, rate in rates.items() if rate is not None)
        rows = ((name, *(_show_rate(rates.get(name)) for rates in named)) for name in names)
        note = f"input range {self.input_range} ({self.input_range_reason})"
        return PlainTable(
            "fractions, in brackets 95 % intervals", ("", *(row.name for row in self.rows)), tuple(rows), (note,)
        )


def _show_rate(rate: Rate | None) -> str:
    return "" if rate is None else f"{rate.value:.4f} [{rate.low:.3f}, {rate.high:.3f}] n={rate.n}"


Verdict = Literal["clean", "backdoored", "inconclusive"]


def _as_backdoor(value: Any) -> Any:
    """Return the description of a backdoor as a backdoor without its trigger."""
    if not isinstance(value, Mapping):
        return value
    sources = value.get("sources")
    return Backdoor(None, int(value["target"]), None if sources is None else tuple(map(int, sources)))


def _as_number(value: float | None) -> float:
    # One object stands for all that is unknown: then two records with the same gaps are equal.
    return math.nan if value is None or math.isnan(value) else value


#: A number that is not known for every class; JSON has no NaN, so null stands for what is not finite.
Score = Annotated[
    float,
    AfterValidator(_as_number),
    BeforeValidator(_as_number),
    PlainSerializer(lambda value: value if math.isfinite(value) else None),
]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Detection(Shown):
    """What a scanner returns: `scores` (classes,) higher is more suspicious; `unscanned` the classes left out.

    `evidence` are the parts that the scores were made of: the name of the kind -> a number for each class.
    `clean_accuracy` is the network's on the clean images, where their labels are known, and `notes` are what the reading of
    network and images has to say (what was left out, how it was understood); the verb fills both in.
    """

    verdict: Verdict
    scores: tuple[Score, ...]
    threshold: float
    suspected: tuple[Annotated[InstanceOf[Backdoor], BeforeValidator(_as_backdoor)], ...] = ()
    unscanned: tuple[int, ...] = ()
    reason: str = ""
    evidence: dict[str, tuple[Score, ...]] = Field(default_factory=dict)
    clean_accuracy: Rate | None = None
    notes: tuple[str, ...] = ()

    @field_serializer("suspected")
    def _describe(self, suspected: tuple[Backdoor, ...]) -> list[dict[str, Any]]:
        """Describe the backdoors; the triggers themselves are arrays, and lie in a file of their own."""
        return [
            {
                "target": item.target,
                "sources": item.sources,
                "score": score if math.isfinite(score := self.scores[item.target]) else None,
                "trigger_size": item.trigger.size if isinstance(item.trigger, Patch) else None,
            }
            for item in suspected
        ]

    @model_serializer(mode="wrap")
    def _verdict_first(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = write(self)
        first = ("verdict", "suspected", "reason", "threshold", "unscanned")
        return {name: content[name] for name in first} | content

    @classmethod
    def unexamined(cls, classes: int, reason: str) -> Detection:
        """Return what is known of a network that was not examined: no class has a score, and why."""
        return cls("inconclusive", (math.nan,) * classes, 0.0, unscanned=tuple(range(classes)), reason=reason)

    def doubted(self, doubts: tuple[str, ...]) -> Detection:
        """Return the same, inconclusive for these reasons: data that cannot carry a verdict cannot carry a suspicion either."""
        if not doubts:
            return self
        return replace(self, verdict="inconclusive", suspected=(), reason="; ".join([self.reason, *doubts]))

    @property
    def targets(self) -> tuple[int, ...]:
        """The suspected targets, sorted, each once."""
        return targets_of(self.suspected)

    @property
    def all_to_all(self) -> bool:
        """Whether every class is suspected, and each only as the target of certain source classes."""
        return len(self.targets) == len(self.scores) and all(item.sources is not None for item in self.suspected)

    def name_targets(self) -> str:
        """Return the suspected targets in words; empty where nothing is suspected."""
        if self.suspected and self.all_to_all:
            return f"all to all: each of {len(self.scores)} classes is the target of another"
        targets = ", ".join(_name_target(backdoor) for backdoor in self.suspected)
        return f"target {targets}" if targets else ""

    def to_json(self) -> str:
        """Return it as JSON, the verdict and what is suspected first; `Detection.load` also reads the triggers beside it."""
        return TypeAdapter(Detection).dump_json(self, indent=2).decode()

    def save(self, folder: str | Path) -> Path:
        """Write `scan.json`, and the suspected backdoors with their triggers beside it; return the path of the first.

        `goodnet.repair` and `goodnet.guard` take the folder as `suspected`.

        Raises:
            UnwritableOutput: the folder cannot be written to.
        """
        path: Path = _room("goodnet.reports.scans").save_scan(folder, self)
        return path

    @classmethod
    def load(cls, folder: str | Path) -> Detection:
        """Read a detection from the folder that `save` or `goodnet.scan(..., out=folder)` wrote.

        Raises:
            UnreadableData: a file is missing or damaged.
        """
        detection: Detection = _room("goodnet.reports.scans").read_scan(folder)
        return detection

    def table(self) -> PlainTable:
        """Return the verdict and the highest scores."""
        order: list[int] = np.argsort(-np.asarray(self.scores, np.float64)).tolist()
        highest = [k for k in order[: max(_SHOWN, len(self.targets) + 2)] if math.isfinite(self.scores[k])]
        rows = (
            (str(label), f"{self.scores[label]:.1f}", "suspected" if label in self.targets else "") for label in highest
        )
        title = f"verdict: {self.verdict}" + (f", {self.name_targets()}" if self.suspected else "")
        return PlainTable(title, ("class", "score", ""), tuple(rows), tuple(filter(None, self.reason.split("; "))))


#: Classes that a table of scores shows, the suspected ones and two more where these are more.
_SHOWN = 5


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


class Run(Shown, Record):
    """The record of every run: verb, method, options, files, versions and seconds, and the result or the error.

    `result_file` is the name of the result's own file, if it has one; `threads` are torch's (None in older records).
    """

    schema_version: Literal[2] = SCHEMA_VERSION
    verb: str
    method: str | None = None
    options: dict[str, Any] = {}
    seed: int | None = None
    seconds: float
    started: str
    versions: dict[str, str]
    inputs: dict[str, str]
    result: SerializeAsAny[Record] | Detection | None = None
    threads: int | None = None
    result_file: str | None = None
    error: Failure | None = None

    def to_json(self) -> str:
        """Return it as JSON; a result that lies in a file of its own is not repeated."""
        return self.model_dump_json(indent=2, exclude={"result"} if self.result_file else None) + "\n"

    def save(self, folder: str | Path) -> Path:
        """Write `run.json` and return its path.

        Raises:
            UnwritableOutput: the folder cannot be written to.
        """
        return _write_text(Path(folder) / "run.json", self.to_json())

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """Read the record of a run from the folder of any verb, with its result.

        Raises:
            UnreadableData: it is missing, damaged, or of another version of goodnet.
        """
        run: Run = _room("goodnet.reports.records").read_run(Path(folder) / "run.json")
        return run

    def table(self) -> PlainTable:
        """Return what was run, on what, and how it ended; the result has a table of its own."""
        told = {"verb": self.verb, "method": self.method, "seed": self.seed, "started": self.started}
        told |= {"seconds": f"{self.seconds:.1f}"} | {name: f"{digest[:12]}..." for name, digest in self.inputs.items()}
        told["error"] = None if self.error is None else f"{self.error.kind}: {self.error.message}"
        rows = tuple((name, str(value)) for name, value in told.items() if value is not None)
        return PlainTable(f"a run of goodnet {self.verb}", (), rows)


def _room(name: str) -> Any:
    # Files are not the business of core, which imports nothing of ours: the room that reads and writes is found by name.
    return importlib.import_module(name)


def _write_text(path: str | Path, text: str) -> Path:
    written: Path = _room("goodnet.formats.files").write_text(path, text)
    return written
