"""Cells -> the numbers of a table: one row per method and attack, each number with its n and interval."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from goodnet.core.errors import UnreadableData
from goodnet.core.results import Rate, Record, Verdict
from goodnet.evaluation.bench_records import CellFamily, CellMetrics, CellRecord, GuardCell, RepairCell, ScanCell
from goodnet.evaluation.ranking import Mean, area_with_interval, mean_of

Cells = Sequence[CellRecord]
Result = TypeVar("Result", ScanCell, RepairCell, GuardCell)
Number = Rate | Mean | None


class SummaryRow(Record):
    """One row: a method by its label, the attack ("all": over all of them), cells, failed cells, and the numbers."""

    label: str
    attack: str
    cells: int
    failed: int
    numbers: dict[str, Number]


def summarise(family: CellFamily, records: Cells) -> list[SummaryRow]:
    """Return the rows of a family's table: for each method all attacks together, then each attack by itself."""
    compute = {"scanners": summarise_scans, "repairers": summarise_repairs, "guards": summarise_guards}[family]
    rows = []
    for label in dict.fromkeys(record.label for record in records):
        own = [record for record in records if record.label == label]
        attacks = sorted({record.attack for record in own})
        rows.append(_row(label, "all", own, compute))
        if len(attacks) > 1:
            rows += [_row(label, attack, [r for r in own if r.attack == attack], compute) for attack in attacks]
    return rows


def _row(label: str, attack: str, records: Cells, compute: Callable[[Cells], dict[str, Number]]) -> SummaryRow:
    failed = sum(record.error is not None for record in records)
    return SummaryRow(label=label, attack=attack, cells=len(records), failed=failed, numbers=compute(records))


def _rate(hits: int, n: int) -> Rate | None:
    return Rate.of(hits, n) if n else None


def _results(records: Cells, kind: type[Result], *, backdoored: bool) -> list[Result]:
    """Return the results on networks with a backdoor, or on those without; what failed has none."""
    return [r.result for r in records if r.backdoored is backdoored and isinstance(r.result, kind)]


def summarise_scans(records: Cells) -> dict[str, Number]:
    """Return detection rates. A scan that failed or could not tell has detected nothing: it counts as a miss.

    `target found`: backdoored networks of which a true target is among the suspected ones.
    """
    bad, good = (_results(records, ScanCell, backdoored=kind) for kind in (True, False))
    networks = sum(record.backdoored for record in records)
    scores = [[scan.score for scan in scans if scan.score is not None] for scans in (bad, good)]
    return {
        "TPR": _rate(_count(bad, "backdoored"), networks),
        "FPR": _rate(_count(good, "backdoored"), len(records) - networks),
        "AUROC": area_with_interval(*scores),
        "target found": _rate(sum(bool(set(r.suspected_targets) & set(r.true_targets)) for r in bad), networks),
        "inconclusive": _rate(_count([*bad, *good], "inconclusive"), len(records)),
    }


def _count(scans: Sequence[ScanCell], verdict: Verdict) -> int:
    return sum(scan.verdict == verdict for scan in scans)


def summarise_repairs(records: Cells) -> dict[str, Number]:
    """Return means over the networks that a repairer was done with; those with a backdoor, and what it cost the others."""
    bad, good = (_results(records, RepairCell, backdoored=kind) for kind in (True, False))
    recalls = [r.after.target_recall for r in bad]
    return {
        "accuracy before": mean_of([_accuracy(r.before) for r in bad]),
        "accuracy after": mean_of([_accuracy(r.after) for r in bad]),
        "ASR before": mean_of(_means([r.before.attack_success_rate.values() for r in bad])),
        "ASR after": mean_of(_means([r.after.attack_success_rate.values() for r in bad])),
        "robust accuracy": mean_of(_means([r.after.robust_accuracy.values() for r in bad])),
        "target recall": mean_of([rate.value for rate in recalls if rate is not None]),
        "DER": mean_of([r.defence_effectiveness for r in bad if r.defence_effectiveness is not None]),
        "accuracy lost by clean twins": mean_of([_accuracy(r.before) - _accuracy(r.after) for r in good]),
    }


def _accuracy(metrics: CellMetrics) -> float:
    if metrics.clean_accuracy is None:
        raise UnreadableData("expected the clean accuracy of a repaired network, but its test images have no labels")
    return metrics.clean_accuracy.value


def _means(rates: Sequence[Iterable[Rate | Mean | None]]) -> list[float]:
    """Return one number for each network: the mean over its triggers."""
    values = [[rate.value for rate in by_trigger if rate is not None] for by_trigger in rates]
    return [sum(item) / len(item) for item in values if item]


def summarise_guards(records: Cells) -> dict[str, Number]:
    """Return means over the networks with a backdoor; of the clean ones, how many clean images were refused."""
    bad, good = (_results(records, GuardCell, backdoored=kind) for kind in (True, False))
    triggers = [guard.triggers.values() for guard in bad]
    return {
        "AUROC": mean_of(_means([[item.auroc for item in items] for items in triggers])),
        "TPR at 1 % FPR": mean_of(_means([[item.detected_at_1_percent for item in items] for items in triggers])),
        "TPR at 5 % FPR": mean_of(_means([[item.detected_at_5_percent for item in items] for items in triggers])),
        "refused triggered": mean_of(_means([[item.refused for item in items] for items in triggers])),
        "refused clean": mean_of([guard.refused_clean.value for guard in bad]),
        "refused clean by clean twins": mean_of([guard.refused_clean.value for guard in good]),
    }
