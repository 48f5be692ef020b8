"""Counting right and wrong predictions on clean and poisoned data."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from goodnet.core.dataset import Dataset, Labels
from goodnet.core.errors import UnreadableData
from goodnet.core.results import ClassDrop, Metrics, Rate

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
    """Return the share of clean images that get their label; `classes` (N,) are the network's predictions."""
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


def measure_recall(classes: Labels, clean: Dataset, targets: Collection[int]) -> Rate | None:
    """Return the share of clean images of these classes that get their label; None where there are none."""
    mask = _of_classes(clean, targets)
    return Rate.of(int((classes == clean.targets)[mask].sum()), int(mask.sum())) if mask.any() else None


def measure_drop(before: Labels, after: Labels, clean: Dataset) -> ClassDrop | None:
    """Return the class of whose images the largest share is lost: right before, wrong after; None where no class lost any.

    Classes of fewer than 5 images are left out: a single image would be a fifth and more of them.

    Args:
        before: the original's predictions (N,).
        after: those of the network that is measured.
        clean: the images, with labels.
    """
    drops = []
    for label in np.unique(clean.targets).tolist():
        mask = clean.targets == label
        if int(mask.sum()) >= _FEWEST:
            rates = (
                Rate.of(int((predictions[mask] == label).sum()), int(mask.sum())) for predictions in (before, after)
            )
            drops.append(ClassDrop(label=label, **dict(zip(("before", "after"), rates, strict=True))))
    worst = max(drops, key=lambda drop: drop.lost, default=None)
    return worst if worst is not None and worst.lost > 0 else None


#: Images of a class from which on a share of them says something.
_FEWEST = 5


def _of_classes(clean: Dataset, targets: Collection[int]) -> Mask:
    mask: Mask = np.isin(clean.targets, list(targets))
    return mask


def measure(
    clean: Labels | None,
    poisoned: dict[str, Labels],
    data: Dataset | None,
    sets: dict[str, Dataset],
    original: Labels | None = None,
) -> Metrics:
    """Return clean accuracy, target recall, the class that lost most, attack success rates and robust accuracies of one network.

    Args:
        clean: its predictions on the clean images `data`, None where there are none.
        poisoned: its predictions on each poisoned set, by the same names as `sets`.
        data: the clean images.
        sets: the poisoned sets; their labels are the targets.
        original: the original network's predictions on the clean images, of which the classes must not lose any.
    """
    robust = {name: measure_robust(classes, sets[name]) for name, classes in poisoned.items()}
    on_poisoned = Metrics(
        attack_success_rate={name: measure_attack(classes, sets[name]) for name, classes in poisoned.items()},
        robust_accuracy={name: rate for name, rate in robust.items() if rate is not None},
    )
    if clean is None or data is None or data.labels is None:
        return on_poisoned
    return on_poisoned.model_copy(
        update={
            "clean_accuracy": measure_clean(clean, data),
            "target_recall": measure_recall(clean, data, _targets_of(sets)),
            "worst_class_drop": None if original is None else measure_drop(original, clean, data),
        }
    )


def with_refusals(
    metrics: Metrics, clean: Mask | None, poisoned: dict[str, Mask], data: Dataset | None, sets: dict[str, Dataset]
) -> Metrics:
    """Return `metrics` with the rates of a guard that refused the inputs marked in `clean` and in `poisoned` sets.

    `data` are the clean images, `sets` the poisoned ones, whose labels are the targets.
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
            "refused_clean_of_target": _refused_of_target(clean, data, sets),
            "refused_poisoned": refused,
            "detection_accuracy": decisions,
        }
    )


def _refused_of_target(clean: Mask | None, data: Dataset | None, sets: dict[str, Dataset]) -> Rate | None:
    if clean is None or data is None or data.labels is None:
        return None
    mask = _of_classes(data, _targets_of(sets))
    return Rate.of(int(clean[mask].sum()), int(mask.sum())) if mask.any() else None


def _targets_of(sets: dict[str, Dataset]) -> set[int]:
    return {int(label) for item in sets.values() for label in np.unique(item.targets)}
