"""Every point of the curve against a network that was really pruned that far."""

import numpy as np
import pytest

from goodnet.core.dataset import Dataset
from goodnet.evaluation.comparison import evaluate_network
from goodnet.evaluation.pruning_curve import measure_pruning
from tests.conftest import make_quadrants, stamp_corner

ORDER = [4, 0, 5, 2, 1, 3]


@pytest.fixture(scope="module")
def clean():
    return make_quadrants(70, seed=30)


@pytest.fixture(scope="module")
def poisoned(clean):
    stamped = stamp_corner(clean.source.pixels)
    return [
        Dataset.from_arrays(stamped, np.full(70, 3), name="corner.h5", true_labels=clean.targets),
        Dataset.from_arrays(stamped[:40], np.full(40, 1), name="corner.h5"),
    ]


@pytest.mark.parametrize("layer", ["pool_2", "conv_1"])
def test_the_curve_is_that_of_networks_really_pruned(layer, tiny_classifier, clean, poisoned):
    order = [channel for channel in ORDER if channel < tiny_classifier.layer(layer).channels]
    levels = measure_pruning(tiny_classifier, layer, order, clean, poisoned)
    assert (levels.layer, levels.order) == (layer, tuple(order))
    assert len(levels.clean_accuracy) == len(order) + 1
    for level in range(len(order) + 1):
        pruned = tiny_classifier.copy()
        pruned.layer(layer).silence(order[:level])
        metrics = evaluate_network(pruned, clean, poisoned).metrics
        assert levels.clean_accuracy[level] == metrics.clean_accuracy
        assert {name: rates[level] for name, rates in levels.attack_success_rate.items()} == metrics.attack_success_rate
    assert len({rate.value for rate in levels.clean_accuracy}) > 2
    assert levels.attack_success_rate["corner.h5"][0].n == (clean.targets != 3).sum()


def test_only_what_is_given_is_measured(tiny_classifier, clean, poisoned):
    assert measure_pruning(tiny_classifier, "pool_2", [0], clean, []).attack_success_rate == {}
    levels = measure_pruning(tiny_classifier, "pool_2", [0], None, poisoned[:1])
    assert levels.clean_accuracy == ()
    assert len(levels.attack_success_rate["corner.h5"]) == 2
