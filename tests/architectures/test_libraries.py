"""Networks of timm and torchvision by name."""

import sys

import pytest
import torch

from goodnet import architectures
from goodnet.architectures.libraries import find_in_library, import_torchvision, is_library
from goodnet.core.errors import InvalidOption, UnknownMethod


def need(package):
    """Skip where a library is not installed."""
    try:
        import_torchvision()
        __import__(package)
    except (InvalidOption, ImportError) as error:
        pytest.skip(f"{package} is not installed: {error}")


@pytest.mark.parametrize(
    ("name", "known"), [("timm:resnet18", True), ("torchvision:vgg11", True), ("mine:build", False), ("timm", False)]
)
def test_whose_a_name_is(name, known):
    assert is_library(name) is known


@pytest.mark.parametrize(
    ("name", "shape"), [("timm:resnet10t", (3, 176, 176)), ("torchvision:mobilenet_v3_small", (3, 224, 224))]
)
def test_networks_by_name(name, shape):
    need(name.partition(":")[0])
    found = architectures.find(name)
    assert found.image_shape == shape
    module = found.build(classes=7, image_shape=(3, 64, 64)).eval()
    assert module(torch.rand(2, 3, 64, 64)).shape == (2, 7)


def test_a_network_of_patches_is_told_the_size():
    need("timm")
    module = architectures.find("timm:vit_tiny_patch16_224").build(classes=3, image_shape=(3, 64, 64)).eval()
    assert module(torch.rand(1, 3, 64, 64)).shape == (1, 3)


@pytest.mark.parametrize("name", ["timm:resnet1", "torchvision:resnet1"])
def test_a_name_that_the_library_does_not_have(name):
    need(name.partition(":")[0])
    with pytest.raises(UnknownMethod, match="has no network of this name"):
        find_in_library(name)


def test_a_library_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(InvalidOption, match=r"pip install 'goodnet\[timm\]'"):
        find_in_library("timm:resnet18")


def test_a_factory_that_hands_all_on_is_told_the_number_of_classes():
    given = {}

    def build(pretrained=False, **options):
        given.update(options)
        return torch.nn.Linear(1, options["num_classes"])

    architectures.Architecture("mine:build", build).build(classes=5, image_shape=(3, 4, 4))
    assert given == {"num_classes": 5}
