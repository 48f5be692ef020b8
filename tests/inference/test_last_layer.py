import pytest
import torch
from torch import nn

from goodnet.core.errors import UnknownMethod
from goodnet.formats.networks import read_network
from goodnet.formats.pytorch import from_module
from goodnet.inference.last_layer import class_weights, find_last_layer, read_features
from tests.small_networks import Residual, Untraceable, settle, tiny


class Twice(nn.Module):
    """The layer that makes the logits works on the way there too."""

    def __init__(self) -> None:
        super().__init__()
        self.flatten, self.linear = nn.Flatten(), nn.Linear(4, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(self.linear(self.flatten(images)))


def test_the_weights_of_the_classes_and_none_where_the_network_ends_otherwise():
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Linear(5, 3), nn.ReLU())
    assert torch.equal(class_weights(from_module(module, (1, 2, 2))), module[2].weight)
    assert class_weights(from_module(nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten()), (1, 2, 2))) is None


@pytest.mark.parametrize("after", [[], [nn.Softmax(dim=1)], [nn.Dropout(), nn.LogSoftmax(dim=1)]])
def test_what_keeps_the_order_of_the_logits_is_no_obstacle(after):
    layers = [nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3), *after]
    assert find_last_layer(from_module(nn.Sequential(*layers), (1, 2, 2))).module.out_features == 3


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU()),
        nn.Sequential(nn.Conv2d(1, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        Twice(),
    ],
    ids=["relu", "convolution", "shared"],
)
def test_other_ends_are_refused(module):
    with pytest.raises(UnknownMethod, match="does not end in a linear layer with one row"):
        find_last_layer(from_module(module, (1, 2, 2)))


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
