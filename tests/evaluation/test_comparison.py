"""Before and after: rows counted again from the networks' own predictions, in numpy."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from goodnet.core.dataset import Dataset
from goodnet.core.errors import InvalidOption, UnreadableData, WrongShape
from goodnet.core.repairs import Change, RepairedNetwork
from goodnet.core.results import Rate
from goodnet.evaluation.comparison import evaluate_goodnet, evaluate_network, name_sets
from goodnet.pair.goodnet import GoodNet
from tests.conftest import make_quadrants


@pytest.fixture
def networks(tiny_classifier):
    repaired = tiny_classifier.copy()
    repaired.layer("pool_2").silence([1, 4])
    return tiny_classifier, repaired


@pytest.fixture(scope="module")
def clean():
    return make_quadrants(90, seed=20)


@pytest.fixture(scope="module")
def poisoned(clean):
    pixels = clean.source.pixels.copy()
    pixels[:60, :, 6:, 6:] = 255  # a bright quadrant is class 3 to this network
    return Dataset.from_arrays(pixels, np.full(90, 3), name="corner.h5", true_labels=clean.targets)


def predictions(classifier, dataset):
    with torch.no_grad():
        return classifier(dataset.images()).argmax(1).numpy()


def test_sets_by_name_also_where_two_have_the_same(poisoned):
    other = replace(poisoned, name="other.h5")
    assert list(name_sets([poisoned, other, poisoned, poisoned])) == [
        "corner.h5",
        "other.h5",
        "corner.h5 (2)",
        "corner.h5 (3)",
    ]


def test_one_network(networks, clean, poisoned):
    row = evaluate_network(networks[0], clean, [poisoned, replace(poisoned, true_labels=None)])
    classes, attacked = predictions(networks[0], poisoned), clean.targets != 3
    assert row.name == "original"
    assert row.metrics.clean_accuracy.value == np.mean(predictions(networks[0], clean) == clean.targets)
    success = row.metrics.attack_success_rate
    assert (success["corner.h5"].value, success["corner.h5"].n) == (np.mean(classes[attacked] == 3), attacked.sum())
    assert (success["corner.h5 (2)"].value, success["corner.h5 (2)"].n) == (np.mean(classes == 3), 90)
    assert success["corner.h5"].value > 0.3
    assert set(row.metrics.robust_accuracy) == {"corner.h5"}


def test_original_repaired_and_goodnet(networks, clean, poisoned):
    rows = evaluate_goodnet(GoodNet(*networks), clean, [poisoned], label="pruned")
    assert [row.name for row in rows] == ["original", "pruned", "GoodNet(pruned)"]
    attacked = clean.targets != 3
    of_clean, of_poisoned = ([predictions(net, data) for net in networks] for data in (clean, poisoned))
    refused_clean, refused_poisoned = (first != second for first, second in (of_clean, of_poisoned))
    guarded = [np.where(refused_clean, 4, of_clean[0]), np.where(refused_poisoned, 4, of_poisoned[0])]
    assert refused_clean.any()
    assert refused_poisoned.any()
    for row, on_clean, on_poisoned in zip(rows, [*of_clean, guarded[0]], [*of_poisoned, guarded[1]], strict=True):
        assert row.metrics.clean_accuracy.value == np.mean(on_clean == clean.targets)
        assert row.metrics.attack_success_rate["corner.h5"].value == np.mean(on_poisoned[attacked] == 3)
        robust = np.mean((on_poisoned == clean.targets)[attacked])
        assert row.metrics.robust_accuracy["corner.h5"].value == robust
    for row in rows[:2]:
        assert row.metrics.refused_clean is None
        assert row.metrics.refused_poisoned == row.metrics.detection_accuracy == {}
    metrics = rows[2].metrics
    assert metrics.refused_clean.value == refused_clean.mean()
    assert (metrics.refused_poisoned["corner.h5"].value, metrics.refused_poisoned["corner.h5"].n) == (
        refused_poisoned.mean(),
        90,
    )
    decisions = metrics.detection_accuracy["corner.h5"]
    assert (decisions.value, decisions.n) == (np.concatenate([~refused_clean, refused_poisoned]).mean(), 180)


def test_what_is_known_of_the_repair_goes_into_its_rows(networks, clean):
    changes = Change(layer="pool_2", channels_pruned=(1, 4), channels=6, order="ascending", threshold=0.04)
    network = RepairedNetwork("4_percent", networks[1], Rate.of(1, 2), changes)
    rows = evaluate_goodnet(GoodNet(*networks), clean, [], repaired=network)
    facts = [(row.channels_pruned, row.channels, row.order, row.threshold) for row in rows]
    assert facts == [(None, None, None, None), (2, 6, "ascending", 0.04), (2, 6, "ascending", 0.04)]


def test_poisoned_data_alone(networks, poisoned):
    rows = evaluate_goodnet(GoodNet(*networks), None, [poisoned])
    for row in rows:
        assert row.metrics.clean_accuracy is None
        assert list(row.metrics.attack_success_rate) == ["corner.h5"]
    assert rows[2].metrics.refused_clean is None
    assert rows[2].metrics.detection_accuracy == {}
    assert list(rows[2].metrics.refused_poisoned) == ["corner.h5"]


def test_neither_clean_nor_poisoned_data(networks):
    with pytest.raises(InvalidOption, match="expected clean data, poisoned data or both"):
        evaluate_network(networks[0], None, [])
    with pytest.raises(InvalidOption, match="expected clean data, poisoned data or both"):
        evaluate_goodnet(GoodNet(*networks), None, [])


def test_data_that_do_not_fit(networks, clean):
    small = Dataset.from_arrays(np.zeros((2, 3, 8, 8), np.uint8), [0, 1])
    unknown = Dataset.from_arrays(clean.source.pixels[:2], [0, 4], name="four.h5")
    for given in ((small, []), (clean, [small])):
        with pytest.raises(WrongShape, match="takes images of shape"):
            evaluate_network(networks[0], *given)
        with pytest.raises(WrongShape, match="takes images of shape"):
            evaluate_goodnet(GoodNet(*networks), *given)
    with pytest.raises(UnreadableData, match=r"four\.h5: expected labels from 0 to 3"):
        evaluate_network(networks[0], clean, [unknown])


def test_progress_goes_through_every_set(networks, clean, poisoned):
    seen = []
    evaluate_goodnet(GoodNet(*networks), clean, [poisoned], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(64, 90), (90, 90)] * 2
