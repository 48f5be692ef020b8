"""Networks that give more than their logits."""

from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import nn

from goodnet.core.graph import trace
from goodnet.core.heads import take_logits

SHAPE = (3, 4, 4)


class Named(NamedTuple):
    features: torch.Tensor
    logits: torch.Tensor


class Network(nn.Module):
    """Gives what `head` makes of logits (n, 5) and features (n, 7)."""

    def __init__(self, head):
        super().__init__()
        self.fc, self.further, self.head = nn.Linear(48, 5), nn.Linear(48, 7), head

    def forward(self, images):
        flat = images.flatten(1)
        return self.head(self.fc(flat), self.further(flat))


HEADS = {
    "tuple": lambda logits, features: (logits, features),
    "list": lambda logits, features: [logits, features],
    "dict": lambda logits, features: {"features": features, "logits": logits},
    "dict of one": lambda logits, features: {"anything": logits},
    "object": lambda logits, features: SimpleNamespace(features=features, logits=logits),
    "named tuple": lambda logits, features: Named(features, logits),
}


@pytest.mark.parametrize("head", HEADS)
def test_the_logits_are_taken(head):
    network = Network(HEADS[head])
    found, note = take_logits(trace(network), SHAPE)
    images = torch.rand(3, *SHAPE)
    torch.testing.assert_close(found(images), network.fc(images.flatten(1)))
    assert "is taken for the logits" in note


def test_a_tensor_is_left_alone():
    network = trace(nn.Sequential(nn.Flatten(), nn.Linear(48, 5)))
    found, note = take_logits(network, SHAPE)
    assert found is network
    assert note is None


def test_a_dictionary_of_several_without_names_is_left_alone():
    network = trace(Network(lambda logits, features: {"a": logits, "b": features}))
    assert take_logits(network, SHAPE) == (network, None)
