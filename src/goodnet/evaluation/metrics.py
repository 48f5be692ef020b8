"""Counting right and wrong answers on clean and poisoned data."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from goodnet.core.dataset import Dataset, Labels
from goodnet.core.errors import UnreadableData
from goodnet.core.results import Metrics, Rate

Mask = npt.NDArray[np.bool_]


def attacked(poisoned: Dataset) -> Mask:
    """Return which poisoned images count for the attack success rate: not those that truly show the target.

    Where the true classes are unknown all images count.

    Raises:
        UnreadableData: every image truly shows the target, so nothing is left to attack.
    """
    truth = poisoned.true_targets
    mask = np.ones(len(poisoned), dtype=np.bool_) if truth is None else truth != poisoned.targets
    if not mask.any():
        raise UnreadableData(
            f"{poisoned.name}: every image truly shows its target class, so no attack can be measured on it"
        )
    return mask


def measure_clean(classes: Labels, clean: Dataset) -> Rate:
    """Return the share of clean images that get their label; `classes` (N,) are the network's answers."""
    return Rate.of(int((classes == clean.targets).sum()), len(clean))


def measure_attack(classes: Labels, poisoned: Dataset) -> Rate:
    """Return the attack success rate: the share of attacked images that get the target class."""
    mask = attacked(poisoned)
    return Rate.of(int((classes == poisoned.targets)[mask].sum()), int(mask.sum()))


def measure_robust(classes: Labels, poisoned: Dataset) -> Rate | None:
    """Return the robust accuracy: the share of attacked images that get their true class; None where it is unknown."""
    truth = poisoned.true_targets
    if truth is None:
        return None
    mask = attacked(poisoned)
    return Rate.of(int((classes == truth)[mask].sum()), int(mask.sum()))


def measure(
    clean: Labels | None, poisoned: dict[str, Labels], data: Dataset | None, sets: dict[str, Dataset]
) -> Metrics:
    """Return clean accuracy, attack success rates and robust accuracies of one network.

    Args:
        clean: its answers on the clean images `data`, None where there are none.
        poisoned: its answers on each poisoned set, by the same names as `sets`.
        data: the clean images.
        sets: the poisoned sets.
    """
    robust = {name: measure_robust(classes, sets[name]) for name, classes in poisoned.items()}
    return Metrics(
        clean_accuracy=None if clean is None or data is None or data.labels is None else measure_clean(clean, data),
        attack_success_rate={name: measure_attack(classes, sets[name]) for name, classes in poisoned.items()},
        robust_accuracy={name: rate for name, rate in robust.items() if rate is not None},
    )


def with_refusals(metrics: Metrics, clean: Mask | None, poisoned: dict[str, Mask]) -> Metrics:
    """Return `metrics` with the rates of a guard that refused the inputs marked in `clean` and in `poisoned` sets.

    `detection_accuracy` of a set is the share of right decisions on the clean images and that set together.
    """
    refused = {name: Rate.of(int(mask.sum()), len(mask)) for name, mask in poisoned.items()}
    decisions = {
        name: Rate.of(int(mask.sum() + (~clean).sum()), len(mask) + len(clean))
        for name, mask in poisoned.items()
        if clean is not None
    }
    return metrics.model_copy(
        update={
            "refused_clean": None if clean is None else Rate.of(int(clean.sum()), len(clean)),
            "refused_poisoned": refused,
            "detection_accuracy": decisions,
        }
    )
