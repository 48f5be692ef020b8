import pytest
import torch
from torch import nn
from torch.nn import functional as F

from goodnet.formats.pytorch import from_module
from goodnet.surgery.zero_weights import (
    count_zeros,
    keeping_zero,
    set_to_zero,
    silenced_weights,
    smallest_weights,
)
from goodnet.training import Training, train
from tests.conftest import make_quadrants
from tests.small_networks import Residual, settle


def two_pixels(weight, bias):
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        module[1].weight.copy_(torch.tensor(weight))
        module[1].bias.copy_(torch.tensor(bias))
    return from_module(module, (1, 2, 2))


def test_the_smallest_of_each_matrix_by_hand():
    classifier = two_pixels([[0.5, -0.1, 2.0, 0.0], [0.1, -3.0, 0.3, -0.4]], [0.0, 0.001])
    zeros = smallest_weights(classifier, 0.5)
    assert list(zeros) == ["1.weight"], "biases are left alone"
    assert zeros["1.weight"].tolist() == [[False, True, False, True], [True, False, True, False]]
    set_to_zero(classifier, zeros)
    assert classifier.layer("1").weight.tolist() == [
        [0.5, 0.0, 2.0, 0.0],
        [0.0, pytest.approx(-3.0), 0.0, pytest.approx(-0.4)],
    ]
    assert count_zeros(zeros) == 4


@pytest.mark.parametrize(("sparsity", "count"), [(0.01, 0), (0.2, 2), (0.75, 6), (0.99, 8)])
def test_equal_weights_go_from_the_first_on_and_shares_are_rounded(sparsity, count):
    classifier = two_pixels([[1.0] * 4] * 2, [0.0, 0.0])
    flags = smallest_weights(classifier, sparsity)["1.weight"].flatten()
    assert flags.tolist() == [True] * count + [False] * (8 - count)


def test_what_is_zero_already_counts():
    classifier = from_module(settle(Residual()), (3, 12, 12))
    first = smallest_weights(classifier, 0.3)
    set_to_zero(classifier, first)
    second = smallest_weights(classifier, 0.6)
    assert first.keys() == second.keys()
    for name, flags in first.items():
        assert (flags <= second[name]).all()
        assert int(second[name].sum()) == round(0.6 * flags.numel())


def test_the_weights_of_silenced_channels(tiny_classifier, tiny_data):
    silenced = tiny_classifier.copy()
    silenced.layer("pool_2").silence([1, 4])
    zeros = silenced_weights(silenced, silenced.layer("pool_2"), [1, 4])
    assert set(zeros) == {"conv_2.weight", "conv_2.bias"}
    for name, flags in zeros.items():
        assert flags.flatten(1).all(1).nonzero().flatten().tolist() == [1, 4] if flags.ndim > 1 else flags[[1, 4]].all()
        assert torch.equal(dict(silenced.network.named_parameters())[name] == 0, flags)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_zeros_stay_exactly_zero_in_training_and_nothing_else_does(optimizer):
    classifier = from_module(settle(Residual()), (3, 12, 12))
    zeros = smallest_weights(classifier, 0.5)
    set_to_zero(classifier, zeros)
    before = {name: value.clone() for name, value in classifier.network.named_parameters()}
    seen = []

    def watched(classifier, images, labels):
        seen.append(all(not weights[name][flags].any() for name, flags in zeros.items()))
        return F.cross_entropy(classifier(images), labels)

    weights = dict(classifier.network.named_parameters())
    options = Training(epochs=3, optimizer=optimizer, learning_rate=1e-2, weight_decay=1e-2, batch_size=16)
    update = keeping_zero(classifier, zeros)
    train(classifier, make_quadrants(40, seed=2), options, seed=0, loss=watched, update=update)
    assert seen == [True] * 9, "at every step, not at the end alone"
    for name, flags in zeros.items():
        assert not weights[name][flags].any()
        assert (weights[name] != before[name])[~flags].float().mean() > 0.9
