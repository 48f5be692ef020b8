"""What a repair is: its networks, what was changed in each, and the record of it that is written to `run.json`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, Field, SerializeAsAny, SerializerFunctionWrapHandler, model_serializer

from goodnet.core.classifier import Classifier
from goodnet.core.errors import InvalidOption, MethodFailed
from goodnet.core.results import Detection, Rate, Record, Run, Verdict
from goodnet.core.tables import PlainTable, Shown, show_value


class Sparse(Record):
    """A record of which only what is known is written."""

    @model_serializer(mode="wrap")
    def _leave_out_unknown(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if value is not None}


class Extensible(Sparse):
    """A record to which methods add numbers of their own, in a subclass that declares them.

    Read back, the numbers of a method are further fields of the class that all share.
    """

    model_config = ConfigDict(extra="allow")


class Change(Extensible):
    """What a repair did to one network.

    `why` says why the method left the network as it was, None where it did not. `channels_pruned` of the `channels` of
    `layer` are silent, the first ones in the `order` of a ranking, as many as the accuracy drop `threshold` (a fraction)
    says. `quarantined` are classes that are not predicted any more, `targets` those that were unlearned. The network was
    trained on `images` for so many `epochs`, at a `learning_rate`.
    """

    why: str | None = None
    quarantined: tuple[int, ...] | None = None
    targets: tuple[int, ...] | None = None
    layer: str | None = None
    channels_pruned: tuple[int, ...] | None = None
    channels: int | None = None
    order: str | None = None
    threshold: float | None = None
    images: int | None = None
    epochs: int | None = None
    learning_rate: float | None = None

    def __str__(self) -> str:
        """Say it in a few words."""
        if self.channels_pruned is None:
            known = self.model_dump(mode="json")
            return ", ".join(f"{name.replace('_', ' ')}: {show_value(value)}" for name, value in known.items())
        tuned = "" if self.epochs is None else f", fine-tuned {self.epochs} epochs"
        return f"{len(self.channels_pruned)}/{self.channels} channels of {self.layer} pruned, {self.order}{tuned}"


class PruningSweep(Record):
    """Accuracy on the clean data given while the channels of one layer go one by one.

    `channels` are all of them in the `order` in which they go, `mean_activations` is by channel, `accuracy` is with
    0, 1, 2, ... channels pruned, and `pruned_at_threshold` says how many were pruned for a drop of accuracy, None where
    accuracy never falls that far. Rates and drops are fractions.
    """

    layer: str
    order: str
    channels: tuple[int, ...]
    mean_activations: tuple[float, ...]
    accuracy: tuple[float, ...]
    pruned_at_threshold: dict[float, int | None]


class ClassAccuracy(Record):
    """Accuracy on the `n` clean images of one class before and after a repair, fractions."""

    label: int
    before: float
    after: float
    n: int


class AttackSuccess(Record):
    """The share of images that the best reverse-engineered trigger sends to its target, before and after a repair."""

    before: float
    after: float


class Difference(Sparse):
    """How a repaired network differs from its original on the clean images.

    `agreement` is the share of images that both classify alike, `per_class` is empty where no labels are known, and
    `surrogate_attack_success` is None where nothing is suspected, or where there was no time for it.
    """

    agreement: Rate
    per_class: tuple[ClassAccuracy, ...] = ()
    surrogate_attack_success: AttackSuccess | None = None


class HeldOutLoss(Record):
    """The accuracy `lost` on `of` clean images that the repair was not trained on, and what was `allowed`; fractions."""

    lost: float
    of: int
    allowed: float


class ScanSummary(Record):
    """What one scan of the original or of a repaired network found."""

    verdict: Verdict
    targets: tuple[int, ...]
    reason: str

    @classmethod
    def of(cls, detection: Detection) -> ScanSummary:
        """Return the summary of a scan."""
        return cls(verdict=detection.verdict, targets=detection.targets, reason=detection.reason)


class UnlabelledUse(Record):
    """How many unlabelled images took part, and how many were left out: the network calls them a suspected target."""

    used: int
    left_out: int


class CheckpointChoice(Record):
    """Which network of a checkpoint of several was repaired, and which are in no file that is written."""

    key: str
    left_out: tuple[str, ...]


class Trace(Extensible):
    """The measurements behind a repair, as far as they are known; a method declares further numbers in a subclass.

    The method sets the pruning `sweep`, how the network differs from its original (`diff`), and the `held_out_accuracy`. The
    verb sets the `scans` (the original's first), the targets that were found in the repaired network and not repaired
    (`found_and_left`), what replaced missing `labels` (None where the data has labels), the `unlabelled` images, the
    `checkpoint`, and the `notes` of reading. `out_of_time` says what the budget did not suffice for.
    """

    sweep: PruningSweep | None = None
    diff: Difference | None = None
    held_out_accuracy: HeldOutLoss | None = None
    scans: tuple[ScanSummary, ...] | None = None
    found_and_left: tuple[int, ...] | None = None
    out_of_time: str | None = None
    labels: str | None = None
    unlabelled: UnlabelledUse | None = None
    checkpoint: CheckpointChoice | None = None
    notes: tuple[str, ...] | None = None

    def require_sweep(self) -> PruningSweep:
        """Return the pruning sweep.

        Raises:
            MethodFailed: the repair did not prune one layer's channels.
        """
        if self.sweep is None:
            raise MethodFailed("expected the sweep of a pruning repair, got a repair by another method")
        return self.sweep


#: Of a method that has nothing to tell.
NO_TRACE = Trace()


class NetworkRecord(Sparse):
    """One network of a repair in its folder: its file, and that of its weights alone, if it was written."""

    file: str
    name: str
    accuracy: Rate
    changes: SerializeAsAny[Change]
    weights: str | None = None


class RepairRecord(Record):
    """What `run.json` holds of a repair; `networks` are those that were written, the `recommended` one by its name."""

    input_range: str
    input_range_reason: str
    accuracy_before: Rate
    networks: tuple[NetworkRecord, ...] = Field(min_length=1)
    recommended: str
    goodnet: str
    targets: tuple[int, ...]
    trace: SerializeAsAny[Trace]

    @property
    def chosen(self) -> NetworkRecord:
        """The recommended network."""
        return next(item for item in self.networks if item.name == self.recommended)


@dataclass(frozen=True)
class RepairedNetwork:
    """One network that a repair made.

    `name` tells it from its siblings (e.g. "2_percent"); `changes` is what was done; `accuracy` is measured on the clean
    data that the repairer was given.
    """

    name: str
    classifier: Classifier
    accuracy: Rate
    changes: Change


@dataclass(frozen=True)
class Repair(Shown):
    """What a repairer returns: one network or several, the one it recommends last.

    `accuracy_before` is the original's on the same clean data; `trace` is what the repair rests on; `steps` are the
    networks that lie on the way from the original to the first of `networks`. The verb fills in `original`, the network
    that was repaired, and `run`, the record of it; a repair that a method made by itself has neither.
    """

    networks: tuple[RepairedNetwork, ...]
    accuracy_before: Rate
    trace: Trace = NO_TRACE
    steps: tuple[RepairedNetwork, ...] = ()
    original: Classifier | None = None
    run: Run | None = None

    #: The room that writes and reads folders of repairs; core imports nothing of ours.
    _folders: ClassVar[str] = "goodnet.reports.runs"

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
        """Why the method left the network as it was; None if it changed the network."""
        return self.recommended.changes.why

    def require_run(self) -> tuple[Run, RepairRecord, Classifier]:
        """Return the record of the run, its result, and the original.

        Raises:
            InvalidOption: a method made the repair by itself.
        """
        if self.run is None or self.original is None or not isinstance(self.run.result, RepairRecord):
            raise InvalidOption(
                "a repair that a method made by itself has no record of a run; goodnet.repair(...) gives one"
            )
        return self.run, self.run.result, self.original

    def save(self, folder: str | Path) -> Path:
        """Write the files that `goodnet.repair(..., out=folder)` writes, and return the path of `run.json`.

        Raises:
            InvalidOption: the repair has no record of a run.
            UnwritableOutput: the folder cannot be written to, or a network has no file format that can hold it.
        """
        path: Path = importlib.import_module(self._folders).write_repair(folder, self)
        return path

    @classmethod
    def load(cls, folder: str | Path, *, architecture: str | None = None) -> Repair:
        """Read a repair back from its folder.

        Raises:
            UnreadableData: there is no `run.json` of a repair, or it is damaged.
            UnreadableModel: one of its networks cannot be read.
        """
        repair: Repair = importlib.import_module(cls._folders).read_repair(folder, architecture)
        return repair

    def table(self) -> PlainTable:
        """Return each network with its accuracy on the clean data given and what was changed."""
        rows = [("original", str(self.accuracy_before), "")]
        networks: Sequence[RepairedNetwork] = (*self.steps, *self.networks)
        rows += [(item.name, str(item.accuracy), str(item.changes)) for item in networks]
        title = f"repair: {self.recommended.name} is recommended"
        return PlainTable(title, ("network", "accuracy", "change"), tuple(rows))
