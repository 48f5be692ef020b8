import numpy as np
import pytest
import torch

from goodnet.core.errors import InvalidOption, MethodFailed, UnknownMethod
from goodnet.formats.data import read_data
from goodnet.formats.networks import read_network
from goodnet.inference.predictions import measure_accuracy
from goodnet.repairers.pruning import Pruning, first_drop


@pytest.mark.parametrize(
    ("correct", "n", "threshold", "level"),
    [
        ([50, 50, 49, 47], 50, 0.02, 2),  # one of fifty is exactly 0.02, and counts
        ([50, 49, 48, 44], 50, 0.1, 3),
        ([98, 96, 97, 90], 100, 0.02, 1),  # the first drop, even where accuracy recovers
        ([100, 99, 99], 100, 0.02, None),
        ([13, 7], 60, 0.1, 1),
    ],
)
def test_first_drop(correct, n, threshold, level):
    assert first_drop(correct, n, threshold) == level


def test_each_network_is_pruned_at_the_first_drop_of_its_threshold(tiny_classifier, tiny_data):
    repair = Pruning(thresholds=(0.3, 0.05)).repair(tiny_classifier, tiny_data, seed=0)

    assert [network.changes.threshold for network in repair.networks] == [0.05, 0.3]
    before = measure_accuracy(tiny_classifier, tiny_data).value
    assert repair.accuracy_before.value == before
    for network in repair.networks:
        after = measure_accuracy(network.classifier, tiny_data)
        pruned = network.changes.channels_pruned
        one_less = tiny_classifier.copy()
        one_less.layer("pool_2").silence(pruned[:-1])
        assert after.value == network.accuracy.value
        assert before - after.value >= network.changes.threshold - 1e-9
        assert before - measure_accuracy(one_less, tiny_data).value < network.changes.threshold


def test_the_network_given_stays_as_it_is(tiny_classifier, tiny_data):
    before = {name: value.clone() for name, value in tiny_classifier.network.state_dict().items()}
    Pruning().repair(tiny_classifier, tiny_data, seed=0)
    assert all(torch.equal(before[name], value) for name, value in tiny_classifier.network.state_dict().items())


@pytest.mark.parametrize("order", ["ascending", "descending", "random"])
def test_orders(tiny_classifier, tiny_data, order):
    trace = Pruning(order=order).repair(tiny_classifier, tiny_data, seed=3).trace.sweep
    means = tiny_classifier.features(tiny_data.images(), "pool_2").detach().double().mean(dim=(0, 2, 3)).numpy()
    ranked = means[list(trace.channels)]
    assert sorted(trace.channels) == list(range(6))
    if order == "ascending":
        assert (np.diff(ranked) >= 0).all()
    elif order == "descending":
        assert (np.diff(ranked) <= 0).all()
    else:
        again = Pruning(order=order).repair(tiny_classifier, tiny_data, seed=3).trace.sweep
        other = Pruning(order=order).repair(tiny_classifier, tiny_data, seed=4).trace.sweep
        assert trace.channels == again.channels != other.channels


def test_layer_by_name(tiny_classifier, tiny_data):
    assert Pruning(layer="conv_1").repair(tiny_classifier, tiny_data, seed=0).trace.sweep.layer == "conv_1"
    with pytest.raises(UnknownMethod, match="no layer 'nowhere'"):
        Pruning(layer="nowhere").repair(tiny_classifier, tiny_data, seed=0)


@pytest.mark.parametrize("thresholds", [(0.0,), (1.5,), (), (-0.1, 0.2)])
def test_thresholds_outside_their_bounds(thresholds):
    with pytest.raises(InvalidOption, match="pruning: option 'thresholds'"):
        Pruning.from_options(thresholds=thresholds)


def test_a_drop_that_is_never_reached_is_a_failure(tiny_classifier, tiny_data):
    # Data that the network calls class 0 whatever is pruned: the head's bias alone decides it.
    with torch.no_grad():
        tiny_classifier.layer("output").module.bias[0] += 1e6
    data = tiny_data.subset(np.flatnonzero(tiny_data.targets == 0))
    with pytest.raises(MethodFailed, match=r"never falls by 0\.02"):
        Pruning().repair(tiny_classifier, data, seed=0)


def test_reference_curve_on_the_contest_lab_network(csaw):
    classifier = read_network(csaw / "bd_net.h5").with_input_range("0..255")
    repair = Pruning().repair(classifier, read_data(csaw / "clean_validation_data.h5"), seed=0)
    accuracy = repair.trace.sweep.accuracy
    assert repair.trace.sweep.layer == "pool_3"
    assert len(accuracy) == 61
    assert set(accuracy[:34]) == {1.0}, "nothing changes until about 33 channels"
    assert repair.trace.sweep.pruned_at_threshold == {0.02: 43, 0.04: 45, 0.1: 47}
    assert accuracy[60] < 0.05
