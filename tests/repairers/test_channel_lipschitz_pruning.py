import numpy as np
import pytest
import torch
from torch import nn

from goodnet.core.errors import UnknownMethod
from goodnet.formats.pytorch import from_module
from goodnet.repairers.channel_lipschitz_pruning import ChannelLipschitzPruning, lipschitz_bounds, outstanding
from goodnet.surgery.channel_units import find_channel_units
from tests.conftest import make_quadrants
from tests.small_networks import grey_linear, plain, settle
from tests.weights import equal, weights


def test_bounds_are_numpy_s_singular_values_times_the_norm_s_factor():
    module = settle(plain())
    units = find_channel_units(from_module(module, (3, 14, 14)))
    kernel, norm = module[0].weight.detach().numpy(), module[1]
    factor = norm.weight.detach().numpy() / np.sqrt(norm.running_var.numpy() + norm.eps)
    largest = [np.linalg.svd(channel.reshape(3, 9), compute_uv=False)[0] for channel in kernel]
    np.testing.assert_allclose(lipschitz_bounds(units[0]).numpy(), largest * np.abs(factor), rtol=1e-5)

    kernel = module[5].weight.detach().numpy()
    largest = [np.linalg.svd(channel.reshape(8, 9), compute_uv=False)[0] for channel in kernel]
    np.testing.assert_allclose(lipschitz_bounds(units[1]).numpy(), largest, rtol=1e-5)


def test_no_change_of_the_input_is_amplified_more_than_the_bound_says():
    # One output position: the bound of a 1 x 1 kernel is the length of its row.
    layer = nn.Conv2d(4, 12, 1, bias=False)
    units = find_channel_units(from_module(nn.Sequential(layer, nn.Flatten()), (4, 1, 1)))
    changes = torch.nn.functional.normalize(torch.randn(200, 4, 1, 1), dim=1)
    with torch.no_grad():
        amplified = layer(changes).abs().amax(dim=0).flatten()
    assert (amplified <= lipschitz_bounds(units[0]) + 1e-6).all()
    assert (amplified >= 0.5 * lipschitz_bounds(units[0])).all()


def test_standing_out_by_hand():
    # mean 2, standard deviation 3.1623 (n - 1): only 11 > 2 + 2.5 * 3.1623 = 9.9057.
    values = torch.tensor([1.0] * 9 + [11.0])
    assert outstanding(values, 2.5) == [9]
    assert outstanding(values, 3.0) == []
    assert outstanding(torch.ones(20), 3.0) == []


def wide(norm: bool):
    parts = [nn.BatchNorm2d(16)] if norm else []
    return settle(nn.Sequential(nn.Conv2d(3, 16, 3), *parts, nn.ReLU(), nn.Flatten(), nn.Linear(1600, 4)))


@pytest.mark.parametrize("norm", [False, True])
def test_a_channel_that_amplifies_far_more_than_the_others_goes(norm):
    module = wide(norm)
    with torch.no_grad():
        (module[1] if norm else module[0]).weight[5] = 40
    classifier = from_module(module, (3, 12, 12))
    before = weights(classifier)
    data = make_quadrants(20, seed=0)
    repair = ChannelLipschitzPruning().repair(classifier, data, seed=0)
    layer = "1" if norm else "0"
    assert repair.recommended.changes.silenced == {layer: [5]}
    features = repair.classifier.features(data.images(), layer)
    assert not features[:, 5].any()
    assert features.abs().flatten(2).amax(dim=(0, 2)).gt(0).sum() == 15
    assert equal(weights(classifier), before)


def test_where_no_channel_stands_out_the_network_stays_as_it_is(planted, clean_twin):
    for twin in (planted, clean_twin):
        repair = ChannelLipschitzPruning().repair(twin.classifier, twin.clean, seed=0)
        assert repair.recommended.changes.silenced == {}
        assert equal(weights(repair.classifier), weights(twin.classifier))


def test_a_network_without_convolutions():
    data = make_quadrants(4, seed=0)
    with pytest.raises(UnknownMethod, match="no convolution"):
        ChannelLipschitzPruning().repair(from_module(grey_linear(), (1, 8, 8)), data, seed=0)
