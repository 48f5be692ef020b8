"""Rates counted by hand."""

import numpy as np
import pytest

from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnreadableData
from goodnet.core.results import Metrics
from goodnet.evaluation.metrics import (
    attacked,
    measure,
    measure_attack,
    measure_clean,
    measure_drop,
    measure_robust,
    with_refusals,
)


def make_set(labels, true_labels=None, name="trigger.h5"):
    return Dataset.from_arrays(np.zeros((len(labels), 1, 2, 2), np.uint8), labels, name=name, true_labels=true_labels)


#: Five images of classes 0, 1, 2, 3, 3; the attack's target is 0.
POISONED = make_set([0, 0, 0, 0, 0], [0, 1, 2, 3, 3])
PREDICTIONS = np.array([0, 0, 2, 0, 1])


def test_clean_accuracy():
    rate = measure_clean(np.array([1, 2, 3, 0]), make_set([1, 2, 0, 0]))
    assert (rate.value, rate.n) == (0.75, 4)
    # Wilson's interval for 3 of 4, worked out apart.
    assert (rate.low, rate.high) == pytest.approx((0.30064184, 0.95441287), abs=1e-6)


def test_images_that_truly_show_the_target_do_not_count():
    assert attacked(POISONED).tolist() == [False, True, True, True, True]
    rate = measure_attack(PREDICTIONS, POISONED)
    assert (rate.value, rate.n) == (0.5, 4)


def test_without_true_labels_all_images_count():
    rate = measure_attack(PREDICTIONS, make_set([0] * 5))
    assert (rate.value, rate.n) == (0.6, 5)
    assert measure_robust(PREDICTIONS, make_set([0] * 5)) is None


def test_targets_may_differ_from_image_to_image():
    all_to_all = make_set([1, 2, 3, 0], [0, 1, 2, 0])
    assert attacked(all_to_all).tolist() == [True, True, True, False]
    assert measure_attack(np.array([1, 1, 3, 0]), all_to_all).value == pytest.approx(2 / 3)


def test_a_subset_counts_its_own_images():
    part = POISONED.subset([0, 2, 4])
    assert attacked(part).tolist() == [False, True, True]
    assert measure_attack(np.array([0, 0, 0]), part).value == 1
    assert measure_robust(np.array([0, 2, 0]), part).value == 0.5


def test_robust_accuracy_is_over_the_attacked_images():
    rate = measure_robust(PREDICTIONS, POISONED)
    assert (rate.value, rate.n) == (0.25, 4)


def test_where_every_image_truly_shows_the_target():
    with pytest.raises(UnreadableData, match=r"trigger\.h5: every image truly shows its target class"):
        measure_attack(np.array([0, 0]), make_set([0, 0], [0, 0]))


def test_all_metrics_of_a_network():
    metrics = measure(
        np.array([1, 2]),
        {"t": PREDICTIONS, "u": PREDICTIONS},
        make_set([1, 1]),
        {"t": POISONED, "u": make_set([1] * 5)},
    )
    assert metrics.clean_accuracy.value == 0.5
    assert {name: rate.value for name, rate in metrics.attack_success_rate.items()} == {"t": 0.5, "u": 0.2}
    assert {name: rate.value for name, rate in metrics.robust_accuracy.items()} == {"t": 0.25}
    assert metrics.refused_clean is None


def test_the_target_s_own_recall_counts_its_clean_images_alone():
    clean = make_set([1, 1, 1, 0, 2])
    metrics = measure(np.array([1, 5, 1, 0, 0]), {"t": PREDICTIONS}, clean, {"t": make_set([1] * 5)})
    assert (metrics.target_recall.value, metrics.target_recall.n) == (pytest.approx(2 / 3), 3)
    nobody = measure(np.array([0, 2]), {"t": PREDICTIONS}, make_set([0, 2]), {"t": make_set([1] * 5)})
    assert nobody.target_recall is None


def test_the_class_that_lost_most():
    clean = make_set([0] * 5 + [1] * 6 + [2] * 4)
    before = np.array([0, 0, 0, 0, 9] + [1] * 6 + [2] * 4)
    after = np.array([0, 0, 0, 9, 9] + [1, 1, 1, 9, 9, 9] + [9] * 4)
    drop = measure_drop(before, after, clean)
    # Class 2 lost everything, but four images say too little; class 0 lost one of five, class 1 three of six.
    assert (drop.label, drop.before.hits, drop.after.hits, drop.after.n) == (1, 6, 3, 6)
    assert str(drop) == "class 1 lost most: 6 of its 6 clean images were classified correctly, 3 are now"
    assert measure_drop(after, before, clean) is None
    assert measure_drop(before, before, clean) is None
    metrics = measure(after, {}, clean, {}, before)
    assert metrics.worst_class_drop == drop
    assert measure(after, {}, clean, {}).worst_class_drop is None


def test_what_cannot_be_told_is_none():
    assert measure(None, {}, None, {}) == Metrics()
    unlabelled = Dataset.from_arrays(np.zeros((2, 1, 2, 2), np.uint8))
    assert measure(np.array([0, 1]), {}, unlabelled, {}).clean_accuracy is None


def test_rates_of_refusal():
    clean = np.array([True, False, False, False])
    poisoned = {"t": np.array([True, True, False]), "u": np.array([False])}
    metrics = with_refusals(Metrics(), clean, poisoned, make_set([1, 0, 1, 2]), {"t": make_set([1, 1, 1])})
    assert (metrics.refused_clean_of_target.value, metrics.refused_clean_of_target.n) == (0.5, 2)
    assert (metrics.refused_clean.value, metrics.refused_clean.n) == (0.25, 4)
    assert {name: (rate.value, rate.n) for name, rate in metrics.refused_poisoned.items()} == {
        "t": (pytest.approx(2 / 3), 3),
        "u": (0.0, 1),
    }
    # Right decisions: 3 clean images let through, and 2 of 3 (0 of 1) poisoned ones refused.
    assert {name: (rate.value, rate.n) for name, rate in metrics.detection_accuracy.items()} == {
        "t": (pytest.approx(5 / 7), 7),
        "u": (0.6, 5),
    }


def test_without_clean_images_there_is_no_decision_on_the_mix():
    metrics = with_refusals(Metrics(), None, {"t": np.array([True])}, None, {"t": make_set([1])})
    assert metrics.refused_clean_of_target is None
    assert metrics.refused_clean is None
    assert metrics.detection_accuracy == {}
    assert metrics.refused_poisoned["t"].value == 1
