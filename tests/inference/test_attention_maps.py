import numpy as np
import pytest
import torch
from torch import nn

from goodnet.architectures.preact_resnet18 import build as preact_resnet18
from goodnet.core.errors import UnknownMethod
from goodnet.formats.pytorch import from_module
from goodnet.inference.attention_maps import attention_distance, find_stages, tap
from tests.small_networks import Residual, Untraceable, settle


def test_the_distance_by_hand():
    # Sums of squares over the channels: (9 + 0, 0 + 16) = (9, 16), and (1, 0); their lengths: sqrt(337) and 1.
    own = torch.tensor([[[[3.0, 0.0]], [[0.0, -4.0]]]])
    other = torch.tensor([[[[1.0, 0.0]], [[0.0, 0.0]]]])
    length = 337**0.5
    expected = ((9 / length - 1) ** 2 + (16 / length) ** 2) / 2
    assert attention_distance(own, other).item() == pytest.approx(expected)
    assert attention_distance(own, 5 * own).item() == pytest.approx(0, abs=1e-12)
    assert torch.isfinite(attention_distance(torch.zeros(1, 2, 1, 2), own))


def test_stages(deepid, tiny_classifier):
    assert find_stages(deepid, 3) == ["relu_2", "relu_3", "relu_4"]
    assert find_stages(tiny_classifier, 3) == ["relu_1", "relu_2"]
    resnet = from_module(preact_resnet18(10, (3, 32, 32)), (3, 32, 32))
    sizes = [resnet.layer(name).output_shape for name in find_stages(resnet, 3)]
    assert sizes == [(128, 16, 16), (256, 8, 8), (512, 4, 4)]


@pytest.mark.parametrize("module", [Untraceable(), nn.Sequential(nn.Flatten(), nn.Linear(432, 3))])
def test_networks_without_convolutions_to_look_into(module):
    with pytest.raises(UnknownMethod, match="no layer of convolutions to look into"):
        find_stages(from_module(module, (3, 12, 12)), 3)


def test_a_tap_gives_what_the_network_computes_and_lets_gradients_through():
    classifier = from_module(settle(Residual()), (3, 12, 12))
    stages = find_stages(classifier, 2)
    images = torch.rand(5, 3, 12, 12)
    logits, *features = tap(classifier, stages)(classifier.prepare(images))
    torch.testing.assert_close(logits, classifier(images))
    for name, values in zip(stages, features, strict=True):
        torch.testing.assert_close(values, classifier.features(images, name))
    features[0].sum().backward()
    assert np.isfinite(classifier.network.stem.weight.grad.numpy()).all()
    assert classifier.network.stem.weight.grad.abs().sum() > 0
