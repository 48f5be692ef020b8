"""What pruning does to accuracy and attack success on data that the repairer never saw."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.method import Progress, no_progress
from goodnet.core.results import Rate, Record
from goodnet.evaluation.comparison import name_sets
from goodnet.evaluation.metrics import attacked
from goodnet.surgery.channels import HeadOutputs, count_matches, sweep_predictions


class PruningLevels(Record):
    """Rates with 0, 1, 2, ... channels pruned: clean accuracy, and attack success per poisoned set."""

    layer: str
    order: tuple[int, ...]
    clean_accuracy: tuple[Rate, ...] = ()
    attack_success_rate: dict[str, tuple[Rate, ...]] = Field(default_factory=dict)


def measure_pruning(
    classifier: Classifier,
    layer: str,
    order: Sequence[int],
    clean: Dataset | None,
    poisoned: Sequence[Dataset],
    *,
    progress: Progress = no_progress,
) -> PruningLevels:
    """Return the rates at every level of pruning `layer` of `classifier` in the given `order` of channels.

    Cost: one pass of the head, and per channel one pass of the tail over the images on which it is active.
    """
    sets = name_sets(poisoned)
    accuracy: tuple[Rate, ...] = ()
    if clean is not None:
        predictions = sweep_predictions(HeadOutputs(classifier, clean, layer), order, progress=progress)
        accuracy = tuple(Rate.of(hits, len(clean)) for hits in count_matches(predictions, clean.targets))
    success = {name: _success_rates(classifier, layer, order, dataset, progress) for name, dataset in sets.items()}
    return PruningLevels(layer=layer, order=tuple(order), clean_accuracy=accuracy, attack_success_rate=success)


def _success_rates(
    classifier: Classifier, layer: str, order: Sequence[int], poisoned: Dataset, progress: Progress
) -> tuple[Rate, ...]:
    mask = attacked(poisoned)
    predictions = sweep_predictions(HeadOutputs(classifier, poisoned, layer), order, progress=progress)
    hits = count_matches(predictions[:, mask], poisoned.targets[mask])
    return tuple(Rate.of(count, int(mask.sum())) for count in hits)
