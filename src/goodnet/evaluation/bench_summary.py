"""Cells -> the numbers of a table: one row per method and attack, each number with its n and interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from goodnet.core.results import Rate, Record
from goodnet.evaluation.bench_cells import CellFamily
from goodnet.evaluation.ranking import Mean, area_with_interval, mean_of

Cells = Sequence[dict[str, Any]]
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
    for label in dict.fromkeys(record["label"] for record in records):
        own = [record for record in records if record["label"] == label]
        attacks = sorted({record["attack"] for record in own})
        rows.append(_row(label, "all", own, compute))
        if len(attacks) > 1:
            rows += [_row(label, attack, [r for r in own if r["attack"] == attack], compute) for attack in attacks]
    return rows


def _row(label: str, attack: str, records: Cells, compute: Callable[[Cells], dict[str, Number]]) -> SummaryRow:
    failed = sum(record["error"] is not None for record in records)
    return SummaryRow(label=label, attack=attack, cells=len(records), failed=failed, numbers=compute(records))


def _rate(hits: int, n: int) -> Rate | None:
    return Rate.of(hits, n) if n else None


def _has_verdict(record: dict[str, Any], verdict: str) -> bool:
    return record["error"] is None and record["result"]["verdict"] == verdict


def summarise_scans(records: Cells) -> dict[str, Number]:
    """Return detection rates. A scan that failed or could not tell has detected nothing: it counts as a miss.

    `target found`: backdoored networks of which a true target is among the suspected ones.
    """
    bad, good = ([r for r in records if r["backdoored"] is kind] for kind in (True, False))
    found = [
        r
        for r in bad
        if r["error"] is None and set(r["result"]["suspected_targets"]) & set(r["result"]["true_targets"])
    ]
    return {
        "TPR": _rate(sum(_has_verdict(r, "backdoored") for r in bad), len(bad)),
        "FPR": _rate(sum(_has_verdict(r, "backdoored") for r in good), len(good)),
        "AUROC": area_with_interval(_network_scores(bad), _network_scores(good)),
        "target found": _rate(len(found), len(bad)),
        "inconclusive": _rate(sum(_has_verdict(r, "inconclusive") for r in records), len(records)),
    }


def _network_scores(records: Cells) -> list[float]:
    return [r["result"]["score"] for r in records if r["error"] is None and r["result"]["score"] is not None]


def summarise_repairs(records: Cells) -> dict[str, Number]:
    """Return means over the networks that a repairer was done with; those with a backdoor, and what it cost the others."""
    done = [record for record in records if record["error"] is None]
    bad, good = ([r["result"] for r in done if r["backdoored"] is kind] for kind in (True, False))
    return {
        "accuracy before": mean_of([_accuracy(r, "before") for r in bad]),
        "accuracy after": mean_of([_accuracy(r, "after") for r in bad]),
        "ASR before": mean_of(_over_triggers(bad, "before", "attack_success_rate")),
        "ASR after": mean_of(_over_triggers(bad, "after", "attack_success_rate")),
        "robust accuracy": mean_of(_over_triggers(bad, "after", "robust_accuracy")),
        "target recall": mean_of(_target_recalls(bad)),
        "DER": mean_of([r["defence_effectiveness"] for r in bad if r["defence_effectiveness"] is not None]),
        "accuracy lost by clean twins": mean_of([_accuracy(r, "before") - _accuracy(r, "after") for r in good]),
    }


def _accuracy(result: dict[str, Any], when: str) -> float:
    return float(result[when]["clean_accuracy"]["value"])


def _target_recalls(results: Sequence[dict[str, Any]]) -> list[float]:
    """Return the share of clean images of the targets that get their label, of each network whose test set has some."""
    rates = [result["after"]["target_recall"] for result in results]
    return [rate["value"] for rate in rates if rate is not None]


def _over_triggers(results: Sequence[dict[str, Any]], when: str, metric: str) -> list[float]:
    """Return one number for each network: the mean over its triggers."""
    rates = [[rate["value"] for rate in result[when][metric].values()] for result in results]
    return [sum(values) / len(values) for values in rates if values]


def summarise_guards(records: Cells) -> dict[str, Number]:
    """Return means over the networks with a backdoor; of the clean ones, how many clean images were refused."""
    done = [record for record in records if record["error"] is None]
    bad, good = ([r["result"] for r in done if r["backdoored"] is kind] for kind in (True, False))
    return {
        "AUROC": mean_of(_guard_means(bad, "auroc")),
        "TPR at 1 % FPR": mean_of(_guard_means(bad, "detected_at_1_percent")),
        "TPR at 5 % FPR": mean_of(_guard_means(bad, "detected_at_5_percent")),
        "refused triggered": mean_of(_guard_means(bad, "refused")),
        "refused clean": mean_of([r["refused_clean"]["value"] for r in bad]),
        "refused clean by clean twins": mean_of([r["refused_clean"]["value"] for r in good]),
    }


def _guard_means(results: Sequence[dict[str, Any]], metric: str) -> list[float]:
    values = [[item[metric]["value"] for item in result["triggers"].values()] for result in results]
    return [sum(item) / len(item) for item in values if item]
