import pytest
import torch
from torch import nn

from goodnet.formats.networks import read_network
from goodnet.formats.pytorch import from_module
from goodnet.inference.penultimate import read_features
from tests.small_networks import Residual, Untraceable, settle, tiny


@pytest.mark.parametrize(
    ("module", "shape", "features"),
    [
        pytest.param(tiny(), (3, 12, 12), 24, id="no batch norm"),
        pytest.param(Residual(), (3, 16, 16), 6, id="batch norm"),
        pytest.param(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), (3, 2, 2), 12, id="linear"),
        pytest.param(
            nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3), nn.Softplus()),
            (3, 2, 2),
            5,
            id="something after the last layer",
        ),
    ],
)
def test_the_features_are_what_the_last_linear_layer_takes(module, shape, features):
    classifier = from_module(settle(module), shape)
    linear = [layer for layer in classifier.network.modules() if isinstance(layer, nn.Linear)][-1]
    taken: list[torch.Tensor] = []
    linear.register_forward_hook(lambda module, inputs, output: taken.append(inputs[0]))
    images = torch.rand(70, *shape, generator=torch.Generator().manual_seed(0))
    found, logits = read_features(classifier)(images)
    taken.clear()
    expected = classifier(images)
    assert found.shape == (70, features)
    torch.testing.assert_close(found, taken[0].flatten(1))
    torch.testing.assert_close(logits, expected)
    assert not found.requires_grad


def test_without_a_last_linear_layer_the_logits_stand_in():
    images = torch.rand(5, 3, 8, 8)
    for module in (Untraceable(), nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())):
        classifier = from_module(settle(module), (3, 8, 8))
        found, logits = read_features(classifier)(images)
        torch.testing.assert_close(found, classifier(images))
        torch.testing.assert_close(logits, classifier(images))


def test_a_class_s_logit_is_linear_in_the_features_of_the_contest_s_network(csaw):
    classifier = read_network(csaw / "bd_net.h5").with_input_range("0..255")
    output = classifier.layers()[-1]
    found, logits = read_features(classifier)(torch.rand(3, 3, 55, 47))
    assert found.shape == (3, 160)
    torch.testing.assert_close(found @ output.weight.T + output.module.bias, logits)
