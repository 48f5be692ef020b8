import pytest
import torch
from torch import nn

from goodnet.core.errors import UnknownMethod
from goodnet.formats.pytorch import from_module
from goodnet.inference.last_layer import find_last_layer


class Twice(nn.Module):
    """The layer that makes the logits works on the way there too."""

    def __init__(self) -> None:
        super().__init__()
        self.flatten, self.linear = nn.Flatten(), nn.Linear(4, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(self.linear(self.flatten(images)))


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
