import time

import numpy as np
import pytest
import torch
from torch import nn

from goodnet.core.dataset import Dataset
from goodnet.core.errors import InvalidOption, UnreadableModel
from goodnet.evidence.outliers import robust_z
from goodnet.formats.pytorch import from_module
from goodnet.scanners.last_layer import LastLayer, row_means, row_scores

SHAPE = (1, 2, 2)


def network(weights, name="net"):
    """A network that is nothing but a linear layer on four pixels."""
    linear = nn.Linear(4, len(weights))
    with torch.no_grad():
        linear.weight.copy_(torch.as_tensor(weights, dtype=torch.float32))
    return from_module(nn.Sequential(nn.Flatten(), linear), SHAPE, name=name)


@pytest.fixture
def data():
    return Dataset.from_arrays(np.zeros((4, *SHAPE), np.float32), np.arange(4) % 3)


def test_row_means_by_hand():
    # Columns 1 and 2 are centred already, with standard deviations 2 and 1 over three classes; column 3 is used by none.
    weights = torch.tensor([[2.0, 1.0, 5.0], [0.0, -1.0, 5.0], [-2.0, 0.0, 5.0]], dtype=torch.float64)
    means, error = row_means(weights)
    # Shares 2/3, 1/3, 0: 2 * 2/3 + 1 * 1/3 = 5/3, then -1/3 and -4/3.
    assert means.tolist() == pytest.approx([5 / 3, -1 / 3, -4 / 3])
    assert error == pytest.approx(np.sqrt((2 / 3 * 2) ** 2 + (1 / 3 * 1) ** 2))


def test_scores_by_hand():
    # Means 5/3, -1/3, -4/3: of the two others the median is -5/6 and the deviation 1/2 * 1.4826 = 0.741, but the standard
    # error sqrt(17)/3 = 1.374 is larger, so z = (5/3 + 5/6) / 1.374.
    weights = [[2.0, 1.0, 5.0, 0.0], [0.0, -1.0, 5.0, 0.0], [-2.0, 0.0, 5.0, 0.0]]
    assert row_scores(network(weights))[0] == pytest.approx(2.5 / (np.sqrt(17) / 3))


def test_a_constant_added_to_a_feature_s_column_changes_nothing():
    # The softmax does not see it, so neither may the scan.
    weights = np.random.default_rng(0).normal(size=(7, 4))
    shifted = weights + np.array([3.0, -1.0, 0.5, 0.0])
    assert row_scores(network(shifted)) == pytest.approx(row_scores(network(weights)), abs=1e-4)


def test_the_twins_in_both_directions(planted, clean_twin):
    found = LastLayer().scan(planted.classifier, planted.clean, seed=0)
    assert found.verdict == "backdoored"
    assert [backdoor.target for backdoor in found.suspected] == [planted.backdoor.target]
    without = LastLayer().scan(clean_twin.classifier, clean_twin.clean, seed=0)
    assert (without.verdict, without.suspected) == ("inconclusive", ())
    assert max(without.scores) < 2
    assert found.scores[planted.backdoor.target] > 4
    assert f"class {int(np.argmax(without.scores))} at z" in without.reason


def test_it_takes_milliseconds_for_1283_classes(data):
    from goodnet import architectures

    torch.manual_seed(0)
    module = architectures.find("deepid").build(classes=1283, image_shape=(3, 55, 47))
    classifier = from_module(module, (3, 55, 47))
    classifier.layers()
    start = time.perf_counter()
    found = LastLayer().examine(classifier, data, seed=0)
    assert time.perf_counter() - start < 0.5
    assert (found.verdict, len(found.scores)) == ("inconclusive", 1283)


@pytest.mark.parametrize("classes", [3, 10, 43, 1283])
def test_independent_weights_raise_as_few_alarms_as_promised(classes, data):
    threshold = LastLayer().examine(network(np.zeros((classes, 4))), data, seed=0).threshold
    draws, alarms = np.random.default_rng(classes), 0
    for _ in range(200):
        # Features on very different scales: a few carry most of the mean.
        rows = draws.normal(size=(classes, 60)) * draws.gamma(1, size=60)
        means, error = row_means(torch.from_numpy(rows))
        alarms += bool((robust_z(means.numpy(), floor=error) > threshold).any())
    assert alarms <= 0.05 * 200, "0.01 are promised; 200 draws say no more than this"


def test_fewer_false_alarms_mean_a_higher_threshold(data):
    net = network(np.eye(4))
    strict, loose = (LastLayer(false_alarms=rate).examine(net, data, seed=0).threshold for rate in (1e-4, 0.2))
    # Four classes: 1 - 0.2 / 4 = 0.95, whose normal quantile is 1.645.
    assert loose == pytest.approx(1.6449, abs=1e-4)
    assert strict > 3.9
    with pytest.raises(InvalidOption, match="last_layer: option 'false_alarms'"):
        LastLayer.from_options(false_alarms=0)


@pytest.mark.parametrize("rows", [np.zeros((5, 4)), np.ones((5, 4)), [[1, 2, 3, 4], [-9, -9, -9, -9]]])
def test_rows_that_cannot_be_compared_are_inconclusive(rows, data):
    found = LastLayer(false_alarms=0.9).examine(network(rows), data, seed=0)
    assert (found.verdict, found.suspected) == ("inconclusive", ())
    assert np.isfinite(found.scores).all()
    assert ("two classes" in found.reason) == (len(rows) == 2)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_an_error(value, data):
    rows = np.eye(4)
    rows[2, 1] = value
    with pytest.raises(UnreadableModel, match=r"bad\.pt: expected finite weights in the last layer"):
        LastLayer().examine(network(rows, "bad.pt"), data, seed=0)


def test_a_network_that_ends_otherwise_is_an_error(data):
    ending = nn.Sequential(nn.Conv2d(1, 6, 1), nn.ReLU(), nn.Conv2d(6, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(UnreadableModel, match=r"conv\.pt: expected a linear layer with one row per class \(3\)"):
        LastLayer().examine(from_module(ending, SHAPE, name="conv.pt"), data, seed=0)
