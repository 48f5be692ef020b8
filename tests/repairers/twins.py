"""What a repair of the twins is worth, with the truth at hand."""

from typing import NamedTuple

from goodnet.core.classifier import Classifier
from goodnet.evaluation.metrics import measure_attack, measure_robust
from goodnet.inference.predictions import measure_accuracy, predict_classes
from tests.conftest import Twin


class Worth(NamedTuple):
    accuracy: float
    attack_success: float
    robust_accuracy: float


def worth(classifier: Classifier, twin: Twin) -> Worth:
    predictions = predict_classes(classifier, twin.triggered)
    robust = measure_robust(predictions, twin.triggered)
    assert robust is not None
    return Worth(
        measure_accuracy(classifier, twin.test).value, measure_attack(predictions, twin.triggered).value, robust.value
    )
