"""FT-SAM: one step worked out by hand in double precision, and what it does to the twins."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from goodnet.core.dataset import Dataset
from goodnet.formats.pytorch import from_module
from goodnet.inference.predictions import measure_accuracy
from goodnet.repairers.ft_sam import FtSam, sharpness_aware
from goodnet.training import Training, train
from tests.conftest import make_quadrants
from tests.small_networks import Residual, settle

WEIGHT = np.array([[0.5, -1.0, 0.0, 2.0], [1.5, 0.25, -0.75, 0.1]])
BIAS = np.array([0.2, -0.3])
PIXELS = np.array([[0.1, 0.9, 0.4, 0.7], [0.8, 0.2, 0.6, 0.3], [0.5, 0.5, 1.0, 0.0]])
LABELS = np.array([0, 1, 1])


def gradients(weight, bias):
    """Return the gradients of the mean cross-entropy of softmax(x W' + b), the textbook's (p - y) x."""
    logits = PIXELS @ weight.T + bias
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    error = (p - np.eye(2)[LABELS]) / len(LABELS)
    return error.T @ PIXELS, error.sum(axis=0)


@pytest.mark.parametrize("rho", [0.05, 0.7, 2.0])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_one_step_by_hand(rho, decay):
    g_weight, g_bias = gradients(WEIGHT, BIAS)
    norm = np.sqrt(((WEIGHT * g_weight) ** 2).sum() + ((BIAS * g_bias) ** 2).sum())
    worst = gradients(WEIGHT + rho * WEIGHT**2 * g_weight / norm, BIAS + rho * BIAS**2 * g_bias / norm)
    expected = [w - 0.1 * (g + decay * w) for w, g in zip((WEIGHT, BIAS), worst, strict=True)]

    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        module[1].weight.copy_(torch.from_numpy(WEIGHT))
        module[1].bias.copy_(torch.from_numpy(BIAS))
    data = Dataset.from_arrays(PIXELS.reshape(3, 1, 2, 2).astype(np.float32), LABELS)
    method = FtSam(rho=rho, epochs=1, learning_rate=0.1, weight_decay=decay)
    repaired = method.repair(from_module(module, (1, 2, 2)), data, seed=0).classifier.layer("1").module
    np.testing.assert_allclose(repaired.weight.detach().numpy(), expected[0], rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(repaired.bias.detach().numpy(), expected[1], rtol=2e-6, atol=1e-7)
    plain = WEIGHT - 0.1 * (g_weight + decay * WEIGHT)
    assert np.abs(expected[0] - plain).max() > 1e-5, "the step differs from that of plain fine-tuning"


def test_running_statistics_are_those_of_the_undisturbed_weights():
    data = make_quadrants(16, seed=0)
    images, labels = data.images(), torch.from_numpy(data.targets)
    classifier, twin = (from_module(settle(Residual()), (3, 12, 12)) for _ in range(2))
    momenta = [m.momentum for m in classifier.network.modules() if isinstance(m, nn.BatchNorm2d)]
    classifier.network.train()
    optimizer = torch.optim.SGD(classifier.network.parameters(), 0.01)
    update = sharpness_aware(classifier.network, 2.0)
    loss = update(lambda: F.cross_entropy(classifier(images), labels), optimizer)
    twin.network.train()
    with torch.no_grad():
        assert loss.item() == pytest.approx(F.cross_entropy(twin(images), labels).item(), rel=1e-5)
    seen = dict(classifier.network.named_buffers())
    for name, value in twin.network.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            torch.testing.assert_close(seen[name], value)
    assert [m.momentum for m in classifier.network.modules() if isinstance(m, nn.BatchNorm2d)] == momenta


def test_a_small_radius_is_plain_fine_tuning(tiny_classifier, tiny_data):
    options = Training(optimizer="sgd", epochs=2, learning_rate=0.01)
    plain, sharp = tiny_classifier.copy(), tiny_classifier.copy()
    train(plain, tiny_data, options, seed=0)
    train(sharp, tiny_data, options, seed=0, update=sharpness_aware(sharp.network, 1e-9))
    for name, value in plain.network.state_dict().items():
        torch.testing.assert_close(sharp.network.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_weights_that_the_loss_does_not_depend_on_stay():
    torch.manual_seed(0)
    used, unused = nn.Linear(4, 2), nn.Linear(2, 2)
    before = unused.weight.clone()
    both = nn.ModuleList([used, unused])
    update = sharpness_aware(both, 1.0)
    old = used.weight.clone()
    update(lambda: used(torch.ones(3, 4)).square().mean(), torch.optim.SGD(both.parameters(), 0.1))
    assert torch.equal(unused.weight, before)
    assert not torch.equal(used.weight, old)


def test_the_clean_twin_keeps_its_accuracy(clean_twin):
    repair = FtSam().repair(clean_twin.classifier, clean_twin.clean, seed=0)
    before = measure_accuracy(clean_twin.classifier, clean_twin.test).value
    assert measure_accuracy(repair.classifier, clean_twin.test).value >= before - 0.02


def test_what_is_usual_depends_on_batch_norm(tiny_classifier, tiny_data):
    with_norm = from_module(settle(Residual()), (3, 12, 12))
    chosen = [FtSam(epochs=1).repair(c, tiny_data, seed=0).recommended.changes for c in (with_norm, tiny_classifier)]
    assert [(changes.rho, changes.learning_rate) for changes in chosen] == [(2.0, 0.01), (0.2, 0.0003)]
