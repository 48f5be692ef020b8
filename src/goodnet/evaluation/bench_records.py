"""What a bench records of each cell."""

from __future__ import annotations

from typing import Any, Literal

from goodnet.core.results import Failure, Metrics, Rate, Record, Verdict
from goodnet.evaluation.ranking import Mean

CellFamily = Literal["scanners", "repairers", "guards"]


class ScanCell(Record):
    """What a scan said: the highest score and its threshold, the classes suspected, the true ones, how many unscanned."""

    verdict: Verdict
    score: float | None
    threshold: float
    suspected_targets: tuple[int, ...]
    true_targets: tuple[int, ...]
    unscanned: int
    reason: str
    evidence: dict[str, tuple[float | None, ...]]


class CellMetrics(Record):
    """Metrics of one network on clean and triggered test images."""

    clean_accuracy: Rate | None
    target_recall: Rate | None
    attack_success_rate: dict[str, Rate]
    robust_accuracy: dict[str, Rate]

    @classmethod
    def of(cls, metrics: Metrics) -> CellMetrics:
        """Return those of the metrics that a cell records."""
        return cls.model_validate(metrics.model_dump(include=set(cls.model_fields)))


class RepairCell(Record):
    """The name of the network that a repair recommends, and its figures, with those of the original before."""

    network: str
    before: CellMetrics
    after: CellMetrics
    defence_effectiveness: float | None


class TriggerCell(Record):
    """How well a guard tells the images of one trigger from clean ones; rates of them that are refused."""

    auroc: Mean | None
    detected_at_1_percent: Rate
    detected_at_5_percent: Rate
    refused: Rate


class GuardCell(Record):
    """What a guard refuses of the clean test images, and what it does to each trigger."""

    refused_clean: Rate
    triggers: dict[str, TriggerCell]


class CellRecord(Record):
    """One cell: what was run on what, and the result or the error; `depends` is the hash of all that it depends on."""

    family: CellFamily
    label: str
    method: str
    options: dict[str, Any]
    seed: int
    network: str
    attack: str
    backdoored: bool
    depends: str
    result: ScanCell | RepairCell | GuardCell | None = None
    error: Failure | None = None


class TimedCell(Record):
    """What `cell.json` holds."""

    seconds: float
    record: CellRecord
