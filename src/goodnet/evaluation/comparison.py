"""Before and after in one table: the original, repaired networks, and the GoodNet of each pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset, Labels
from goodnet.core.errors import InvalidOption
from goodnet.core.method import Progress, no_progress
from goodnet.core.repairs import Change, RepairedNetwork
from goodnet.core.results import Metrics, Row
from goodnet.evaluation.metrics import measure, with_refusals
from goodnet.inference.predictions import predict_classes, require_fit
from goodnet.pair.goodnet import GoodNet
from goodnet.pair.onnx import OnnxGoodNet
from goodnet.pair.refusal import PairPredictions

_CLEAN = ""


def name_sets(poisoned: Sequence[Dataset]) -> dict[str, Dataset]:
    """Return poisoned sets by name; a second set of the same name gets a number."""
    named: dict[str, Dataset] = {}
    for dataset in poisoned:
        name, number = dataset.name, 2
        while name in named:
            name, number = f"{dataset.name} ({number})", number + 1
        named[name] = dataset
    return named


def evaluate_network(
    classifier: Classifier, clean: Dataset | None, poisoned: Sequence[Dataset], *, progress: Progress = no_progress
) -> Row:
    """Return one network's row. Cost: one pass over each set."""
    sets = _all_sets(clean, poisoned)
    for dataset in sets.values():
        require_fit(classifier, dataset)
    classes = {name: predict_classes(classifier, dataset, progress=progress) for name, dataset in sets.items()}
    return Row(name="original", metrics=_metrics(classes, sets))


def evaluate_goodnet(
    goodnet: GoodNet | OnnxGoodNet,
    clean: Dataset | None,
    poisoned: Sequence[Dataset],
    *,
    repaired: RepairedNetwork | None = None,
    label: str = "repaired",
    progress: Progress = no_progress,
) -> tuple[Row, ...]:
    """Return the rows of B, of B' and of their GoodNet; the layers that the two share run once per image.

    B' has no row where it was not asked about every image, as in an ONNX file with targets: its rates are not known.

    Args:
        goodnet: the pair, or the file that was made of one.
        clean: labelled clean images, or None.
        poisoned: poisoned sets, labels are the targets.
        repaired: what is known of how B' was made, for the table.
        label: the name of B' in the table.
        progress: called with the number of images of the set at hand that are done.
    """
    sets = _all_sets(clean, poisoned)
    predictions = {name: goodnet.predict_all(dataset, progress=progress) for name, dataset in sets.items()}
    original = Row(name="original", metrics=_metrics({name: a.original for name, a in predictions.items()}, sets))
    complete = all(a.asked_always for a in predictions.values())
    before = predictions[_CLEAN].original if _CLEAN in predictions else None
    repaired_classes = {name: a.repaired for name, a in predictions.items()}
    metrics = _metrics(repaired_classes, sets, before) if complete else Metrics()
    changes = Change() if repaired is None else repaired.changes
    pruned = changes.channels_pruned
    row = Row(
        name=label,
        metrics=metrics,
        channels_pruned=None if pruned is None else len(pruned),
        channels=changes.channels,
        order=changes.order,
        threshold=changes.threshold,
    )
    both = row.model_copy(update={"name": f"GoodNet({label})", "metrics": _goodnet_metrics(predictions, sets)})
    return (original, row, both) if complete else (original, both)


def _goodnet_metrics(predictions: Mapping[str, PairPredictions], sets: Mapping[str, Dataset]) -> Metrics:
    clean = predictions.get(_CLEAN)
    before = None if clean is None else clean.original
    metrics = _metrics({name: a.goodnet for name, a in predictions.items()}, sets, before)
    poisoned = _poisoned(sets)
    refused = {name: predictions[name].refused for name in poisoned}
    return with_refusals(metrics, None if clean is None else clean.refused, refused, sets.get(_CLEAN), poisoned)


def _metrics(classes: Mapping[str, Labels], sets: Mapping[str, Dataset], original: Labels | None = None) -> Metrics:
    poisoned = _poisoned(sets)
    predictions = {name: classes[name] for name in poisoned}
    return measure(classes.get(_CLEAN), predictions, sets.get(_CLEAN), poisoned, original)


def _poisoned(sets: Mapping[str, Dataset]) -> dict[str, Dataset]:
    return {name: dataset for name, dataset in sets.items() if name != _CLEAN}


def _all_sets(clean: Dataset | None, poisoned: Sequence[Dataset]) -> dict[str, Dataset]:
    if clean is None and not poisoned:
        raise InvalidOption(
            "expected clean data, poisoned data or both to evaluate on, got neither: give --clean or --poisoned"
        )
    return ({} if clean is None else {_CLEAN: clean}) | name_sets(poisoned)
