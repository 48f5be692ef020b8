import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from goodnet.core.errors import UnknownMethod
from goodnet.formats.networks import read_network
from goodnet.formats.pytorch import from_module
from goodnet.repairers.adversarial_neuron_pruning import AdversarialNeuronPruning, add_gates, below, disturb
from tests.conftest import make_quadrants
from tests.repairers.twins import worth
from tests.small_networks import Residual, grey_linear, settle
from tests.weights import equal, weights


def test_gates_scale_each_channel_s_weights_and_bias():
    convolution = settle(nn.Conv2d(2, 3, 3))
    weight, bias = (value.detach().clone() for value in (convolution.weight, convolution.bias))
    gates = add_gates(convolution)
    masks, noise, bias_noise = torch.tensor([[1.0, 0.5, 0.0], [0.2, -0.1, 0.3], [0.0, 0.4, -0.4]])
    with torch.no_grad():
        gates[0].masks.copy_(masks)
    gates[0].noise, gates[1].noise = noise, bias_noise
    images = torch.rand(2, 2, 5, 5)
    expected = F.conv2d(images, weight * (masks + noise)[:, None, None, None], bias * (masks + bias_noise))
    torch.testing.assert_close(convolution(images), expected)


def test_the_noise_is_one_signed_step_from_a_random_start_brought_back_to_epsilon():
    convolution = nn.Conv2d(1, 4, 1)
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor([2.0, -3.0, 0.5, 1.0])[:, None, None, None])
        convolution.bias.copy_(torch.tensor([1.0, 1.0, -2.0, 0.25]))
    gates = add_gates(convolution)
    # The loss is 3 w0 - w1 + w2 - 2 w3 for weights and biases alike, so its slope along the noise is that factor times
    # the weight: signs (+, +, +, -) for the weights, (+, -, -, -) for the biases.
    factors = torch.tensor([3.0, -1.0, 1.0, -2.0])
    torch.manual_seed(0)
    starts = [torch.empty(4).uniform_(-0.4, 0.4) for _ in range(2)]
    torch.manual_seed(0)
    disturb(gates, lambda: (factors * convolution.weight.flatten()).sum() + (factors * convolution.bias).sum(), 0.4)
    signs = np.array([[1, 1, 1, -1], [1, -1, -1, -1]])
    for gate, start, sign in zip(gates, starts, signs, strict=True):
        np.testing.assert_allclose(gate.noise.numpy(), np.clip(start.numpy() + 0.4 * sign, -0.4, 0.4), rtol=1e-6)


def test_channels_below_a_threshold_by_layer():
    assert below({"a": [0.1, 0.2, 1.0], "b": [0.5, 0.9]}, 0.2) == {"a": [0]}
    assert below({"a": [0.1, 0.2, 1.0], "b": [0.5, 0.9]}, 0.55) == {"a": [0, 1], "b": [0]}


def test_the_attack_gets_weaker_and_the_clean_twin_stays_good(planted, clean_twin):
    method = AdversarialNeuronPruning(steps=200)
    repaired = method.repair(planted.classifier, planted.clean, seed=0)
    before, after = worth(planted.classifier, planted), worth(repaired.classifier, planted)
    # Two of three images that were lost to the backdoor are; pruning alone does not reach those that share channels.
    assert before.attack_success > 0.99
    assert after.attack_success < 0.85
    assert after.robust_accuracy > before.robust_accuracy + 0.15
    assert after.accuracy > before.accuracy - 0.03

    untouched = method.repair(clean_twin.classifier, clean_twin.clean, seed=0)
    assert worth(untouched.classifier, clean_twin).accuracy > worth(clean_twin.classifier, clean_twin).accuracy - 0.02


def test_the_threshold_is_the_highest_within_the_budget(tiny_classifier, tiny_data):
    for budget in (0.0, 0.3):
        method = AdversarialNeuronPruning(steps=30, max_accuracy_drop=budget)
        repair = method.repair(tiny_classifier, tiny_data, seed=0)
        levels = dict(repair.trace.levels)
        changes = repair.recommended.changes
        assert changes.mask_threshold == max(levels, default=0.0)
        assert all(repair.accuracy_before.value - accuracy <= budget + 1e-9 for accuracy in levels.values())
        assert changes.silenced == below(repair.trace.masks, changes.mask_threshold)
        for layer, channels in changes.silenced.items():
            assert not repair.classifier.features(tiny_data.images(), layer)[:, channels].any()


def test_with_batch_norm_the_norm_is_pruned(tiny_data):
    classifier = from_module(settle(Residual()), (3, 12, 12))
    before = weights(classifier)
    repair = AdversarialNeuronPruning(steps=8, max_accuracy_drop=1).repair(classifier, tiny_data, seed=0)
    assert set(repair.trace.masks) == {f"{block}.norm_{n}" for block in ("first", "second") for n in (1, 2)} | {"norm"}
    assert any(repair.recommended.changes.silenced)
    assert equal(weights(classifier), before)
    after = weights(repair.classifier)
    assert all(torch.equal(after[name], before[name]) for name in before if "norm" not in name or "running" in name)


def test_the_pruned_keras_network_is_saved_as_plain_weights(badnet, tmp_path):
    classifier, clean = read_network(badnet.model), make_quadrants(40, seed=3, brightness=30)
    repaired = AdversarialNeuronPruning(steps=10, max_accuracy_drop=1).repair(classifier, clean, seed=0).classifier
    repaired.save(tmp_path / "repaired.h5")
    assert equal(weights(read_network(tmp_path / "repaired.h5")), weights(repaired))


def test_a_network_without_convolutions_is_refused_before_any_work(tiny_data):
    def never(done, total):
        pytest.fail("work was begun")

    with pytest.raises(UnknownMethod, match="no convolution"):
        AdversarialNeuronPruning().repair(from_module(grey_linear(), (1, 8, 8)), tiny_data, seed=0, progress=never)
