import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from goodnet.evaluation.ranking import area_under_roc, area_with_interval, detected_at, mean_of


def test_the_area_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    high, low = rng.integers(0, 9, 50) + 1.0, rng.integers(0, 9, 70) * 1.0
    expected = roc_auc_score([1] * 50 + [0] * 70, [*high, *low])
    assert area_under_roc(high, low) == pytest.approx(expected)
    found = area_with_interval(list(high), list(low))
    assert found is not None
    assert found.low is not None
    assert found.low < found.value < found.high
    assert found.n == 120


def test_the_rate_at_a_false_positive_rate_is_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    high, low = rng.normal(1, 1, 300), rng.normal(0, 1, 400)
    false, true, _ = roc_curve([1] * 300 + [0] * 400, [*high, *low], drop_intermediate=False)
    for allowed in (0.01, 0.05, 0.2):
        assert detected_at(high, low, allowed).value == pytest.approx(true[false <= allowed].max(), abs=1 / 300)


def test_equal_scores_are_not_detected() -> None:
    assert detected_at([0.0, 0.0], [0.0] * 100, 0.05).value == 0.0


def test_a_mean_has_an_interval_from_two_values_on() -> None:
    assert mean_of([]) is None
    one, several = mean_of([0.5]), mean_of([0.1, 0.2, 0.9])
    assert one is not None
    assert (one.low, one.high) == (None, None)
    assert several is not None
    assert several.low is not None
    assert several.low < several.value < several.high
