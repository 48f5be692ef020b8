"""The copy of a network that is searched in: the same function, batch normalisation folded away, bfloat16 where it serves."""

import pytest
import torch
from torch import nn

from goodnet.formats.pytorch import from_module
from goodnet.inference import quick_networks
from goodnet.inference.quick_networks import copy_for_search

IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def processor(monkeypatch):
    """A processor without bfloat16."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)


@pytest.fixture
def bfloat16(monkeypatch):
    """A processor with bfloat16."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)


def classifier(*layers):
    torch.manual_seed(0)
    network = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(4))
    network(IMAGES)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
            module.running_mean = torch.randn(module.num_features)
            module.running_var = torch.rand(module.num_features) + 0.5
    return from_module(network, (3, 8, 8))


def has_normalisation(found):
    return any(isinstance(module, nn.BatchNorm2d) for module in found.network.modules())


def same(found, original):
    return torch.allclose(found(IMAGES), original(IMAGES), atol=1e-5)


def test_normalisation_is_folded_into_the_convolution_before_it():
    original = classifier(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 5, 3), nn.BatchNorm2d(5))
    before = {name: value.clone() for name, value in original.network.state_dict().items()}
    found = copy_for_search(original, IMAGES)
    assert not has_normalisation(found)
    assert same(found, original)
    after = original.network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_normalisation_after_something_else_stays():
    original = classifier(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.BatchNorm2d(5))
    found = copy_for_search(original, IMAGES)
    assert has_normalisation(found)
    assert same(found, original)


class Standardised(nn.Conv2d):
    """A convolution that changes its weights before it uses them."""

    def forward(self, input):
        return nn.functional.conv2d(input, self.weight / self.weight.std(), self.bias)


class Rectified(nn.BatchNorm2d):
    """Batch normalisation that holds an activation."""

    def forward(self, input):
        return super().forward(input).relu()


@pytest.mark.parametrize(
    "layers",
    [(Standardised(3, 5, 3), nn.BatchNorm2d(5)), (nn.Conv2d(3, 5, 3), Rectified(5))],
    ids=["weights", "activation"],
)
def test_kinds_that_do_more_are_left_alone(layers):
    original = classifier(*layers)
    found = copy_for_search(original, IMAGES)
    assert has_normalisation(found)
    assert same(found, original)


class Shared(nn.Module):
    """One convolution whose output goes two ways, and one that two layers of normalisation follow."""

    def __init__(self):
        super().__init__()
        self.convolution, self.twice = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(3))

    def forward(self, images):
        shared = self.convolution(images)
        left = self.norms[0](shared) + shared
        return self.norms[2](self.twice(self.norms[1](self.twice(left))))


def test_what_is_used_twice_is_not_folded():
    original = classifier(Shared())
    found = copy_for_search(original, IMAGES)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in found.network.modules()) == 3
    assert same(found, original)


@pytest.mark.usefixtures("bfloat16")
def test_the_copy_computes_in_bfloat16_and_answers_in_float32():
    original = classifier(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU())
    found = copy_for_search(original, IMAGES)
    pixels = IMAGES.clone().requires_grad_()
    logits = found(pixels)
    (gradient,) = torch.autograd.grad(logits.sum(), pixels)
    assert logits.dtype == gradient.dtype == torch.float32
    error = (logits - original(IMAGES)).abs().mean() / original(IMAGES).std()
    assert 0 < error < 0.02  # In float32 it would be below 1e-6.


class Offset(nn.Module):
    """What bfloat16 cannot hold: small differences of large numbers."""

    def __init__(self):
        super().__init__()
        self.large = nn.Conv2d(3, 3, 1)
        nn.init.constant_(self.large.bias, 1e4)

    def forward(self, images):
        return self.large(images) - 1e4


class Single(nn.Module):
    """A layer that takes one precision alone."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 1)

    def forward(self, images):
        return torch.zeros(len(images), 3, 8, 8).index_add(0, torch.arange(len(images)), self.convolution(images))


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("layer", [Offset, Single])
def test_a_network_that_bfloat16_harms_is_searched_in_float32(layer):
    original = classifier(layer())
    assert same(copy_for_search(original, IMAGES), original)


def test_an_old_torch_that_does_not_know_the_processor_computes_in_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    original = classifier(nn.Conv2d(3, 16, 3))
    assert same(copy_for_search(original, IMAGES), original)


def test_a_copy_that_is_no_copy_is_not_taken(monkeypatch):
    original = classifier(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))
    monkeypatch.setattr(quick_networks, "fuse_conv_bn_eval", lambda convolution, norm: convolution)
    assert copy_for_search(original, IMAGES) is original
