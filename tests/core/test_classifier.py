"""Cutting, looking into and changing networks."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from goodnet.architectures.deepid import DeepID
from goodnet.core import graph
from goodnet.core.classifier import Classifier
from goodnet.core.errors import UnknownMethod, UnwritableOutput, WrongShape
from goodnet.formats.pytorch import from_module
from tests.small_networks import (
    FunctionalDropout,
    Overwriting,
    Residual,
    SharedConv,
    Untraceable,
    plain,
    settle,
)

NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "deepid": (lambda: DeepID(7, (3, 55, 47)), (3, 55, 47)),
    "residual": (Residual, (3, 14, 14)),
    "plain": (plain, (3, 14, 14)),
    "overwriting": (Overwriting, (3, 8, 8)),
}


def network(name: str) -> tuple[nn.Module, Classifier, Tensor]:
    """Return a plain torch network, the classifier of a copy of it, and images."""
    make, shape = NETWORKS[name]
    module = settle(make())
    images = torch.rand(4, *shape, generator=torch.Generator().manual_seed(1))
    return module, from_module(copy.deepcopy(module), shape, name=name), images


@pytest.mark.parametrize("name", NETWORKS)
def test_a_classifier_computes_what_the_module_computes(name: str) -> None:
    module, classifier, images = network(name)
    with torch.no_grad():
        torch.testing.assert_close(
            classifier(images), module(images), rtol=1e-4, atol=3e-3 if name == "deepid" else 1e-6
        )


@pytest.mark.parametrize("name", NETWORKS)
def test_head_then_tail_is_the_whole_network_at_every_node(name: str) -> None:
    _, classifier, images = network(name)
    nodes = [node for node in graph.compute_nodes(classifier.network) if node.name in classifier._shapes]
    assert len(nodes) == len(classifier.layers()) > 5
    with torch.no_grad():
        whole = classifier(images)
        for node in nodes:
            head, tail = graph.cut(classifier.network, node)
            values = head(classifier.prepare(images))
            kept = [value.clone() for value in values]
            assert torch.equal(tail(values), whole), node.name
            # The tail runs many times on what the head computed once.
            assert torch.equal(tail(values), whole), node.name
            assert all(torch.equal(a, b) for a, b in zip(values, kept, strict=True)), node.name


def test_head_and_tail_share_the_weights() -> None:
    _, classifier, images = network("residual")
    head, tail = classifier.split("first.conv_1")
    classifier.layer("second.conv_2").weight.zero_()
    classifier.layer("stem").weight.mul_(2)
    with torch.no_grad():
        assert torch.equal(tail(head(classifier.prepare(images))), classifier(images))


class _Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        self.register_buffer("shift", torch.rand(4, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.head((self.conv(images) + self.shift).mean(dim=(2, 3)))


def test_head_and_tail_move_with_the_network() -> None:
    classifier = from_module(_Constant(), (3, 8, 8))
    head, tail = classifier.split("conv")
    # There may be no second device here: double precision is where the weights go to instead.
    classifier.to(cast("torch.device", torch.float64))
    values = head(torch.rand(2, 3, 8, 8, dtype=torch.float64))
    assert tail(values).dtype == torch.float64
    assert tail.shift.dtype == torch.float64
    assert tail.shift is classifier.network.shift


def test_layers_are_named_in_the_order_in_which_they_run() -> None:
    _, classifier, _ = network("residual")
    layers = classifier.layers()
    names = [layer.name for layer in layers]
    assert names[:4] == ["stem", "norm", "relu", "max_pool2d"]
    assert len(set(names)) == len(names)
    assert {"first.relu", "first.relu:2"} <= set(names)
    shapes = {layer.name: layer.output_shape for layer in layers}
    assert shapes["stem"] == (6, 12, 12)
    assert shapes["max_pool2d"] == (6, 6, 6)
    assert shapes["head"] == (4,)
    assert classifier.layer("max_pool2d").is_pooling
    assert classifier.layer("stem").parameters == 6 * 3 * 9 + 6
    assert classifier.layer("stem").weight.shape == (6, 3, 3, 3)
    assert classifier.classes == 4


def test_the_second_call_of_a_module_is_a_layer_of_its_own() -> None:
    module, classifier, images = network("residual")
    with torch.no_grad():
        block = module.first
        pooled = torch.max_pool2d(torch.relu(module.norm(module.stem(images))), 2)
        inner = torch.relu(block.norm_1(block.conv_1(pooled)))
        outer = torch.relu(block.norm_2(block.conv_2(inner)) + pooled)
        torch.testing.assert_close(classifier.features(images, "first.relu"), inner)
        torch.testing.assert_close(classifier.features(images, "first.relu:2"), outer)


SILENCED = {
    "deepid": ["conv_1", "relu_1", "pool_1", "pool_2", "conv_3", "pool_3", "relu_4"],
    "residual": [
        "stem",
        "norm",
        "relu",
        "max_pool2d",
        "first.conv_1",
        "first.norm_1",
        "first.relu",
        "first.norm_2",
    ],
    "plain": ["0", "1", "2", "3", "4", "5", "6", "7"],
}


@pytest.mark.parametrize(("name", "layer"), [(name, layer) for name, layers in SILENCED.items() for layer in layers])
def test_silencing_is_exact(name: str, layer: str) -> None:
    _, classifier, images = network(name)
    with torch.no_grad():
        before = classifier.features(images, layer)
        assert before[:, [1, 3]].any()
        assert classifier.layer(layer).prunable
        classifier.layer(layer).silence([1, 3])
        after = classifier.features(images, layer)
    assert torch.equal(after[:, [1, 3]], torch.zeros_like(after[:, [1, 3]]))
    others = [channel for channel in range(before.shape[1]) if channel not in (1, 3)]
    assert torch.equal(after[:, others], before[:, others])


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("residual", "add"),
        ("residual", "first.relu:2"),
        ("residual", "head"),
        ("plain", "8"),
        ("plain", "10"),
        ("deepid", "add"),
        ("deepid", "fc_1"),
    ],
)
def test_what_cannot_be_silenced_exactly_is_not_prunable(name: str, layer: str) -> None:
    _, classifier, _ = network(name)
    assert not classifier.layer(layer).prunable
    with pytest.raises(UnknownMethod, match="cannot be silenced exactly"):
        classifier.layer(layer).silence([0])


def test_a_layer_whose_weights_serve_twice_is_not_prunable() -> None:
    classifier = from_module(settle(SharedConv()), (3, 6, 6))
    assert [layer.name for layer in classifier.layers()][:4] == ["conv", "relu", "conv:2", "relu:2"]
    assert not any(layer.prunable for layer in classifier.layers())


def test_unknown_layers_are_named_with_those_there_are() -> None:
    _, classifier, _ = network("plain")
    with pytest.raises(UnknownMethod, match="plain has no layer 'conv'; its layers are: 0, 1, 2") as caught:
        classifier.layer("conv")
    assert "\n" not in str(caught.value)
    with pytest.raises(UnknownMethod, match=r"'3' .MaxPool2d. has no weight"):
        _ = classifier.layer("3").weight


def test_a_copy_is_independent() -> None:
    _, classifier, images = network("residual")
    other = classifier.with_input_range("0..255").copy()
    assert (other.input_range, other.name, other.classes) == ("0..255", "residual", 4)
    with torch.no_grad():
        before = classifier(images)
        other.layer("stem").silence([0])
        other.layer("norm").module.running_mean.add_(1)  # type: ignore[union-attr, operator]
        assert torch.equal(classifier(images), before)
        assert not torch.equal(other(images / 255), before)


def test_another_input_range_shares_the_weights() -> None:
    _, classifier, images = network("plain")
    bytes_range = classifier.with_input_range("0..255")
    assert (classifier.scale, bytes_range.scale) == (1.0, 255.0)
    with torch.no_grad():
        torch.testing.assert_close(bytes_range(images / 255), classifier(images), rtol=1e-4, atol=1e-5)
        classifier.layer("10").weight.zero_()
        assert torch.equal(bytes_range(images), classifier(images))


def test_gradients_flow_to_the_images() -> None:
    _, classifier, images = network("plain")
    images.requires_grad_()
    classifier(images)[:, 0].sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize("shape", [(3, 14, 13), (1, 14, 14), (14, 14, 3)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    _, classifier, _ = network("plain")
    with pytest.raises(WrongShape, match=r"plain takes images of shape \(3, 14, 14\)") as caught:
        classifier(torch.rand(2, *shape))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3)), r"got \(2, 4, 3, 3\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(74, 2)), r"does not take images of shape \(3, 5, 5\)"),
        (nn.Sequential(nn.Flatten(0), nn.Softmax(dim=3)), "does not take images"),
        (nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (1, 150))), r"got \(1, 150\)"),
    ],
)
def test_networks_that_are_no_classifiers_are_refused(module: nn.Module, words: str) -> None:
    with pytest.raises(WrongShape, match=words) as caught:
        from_module(module, (3, 5, 5), name="odd.pt")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("odd.pt: ")


def test_a_module_that_cannot_be_traced_still_works(tmp_path: Path) -> None:
    module = settle(Untraceable())
    classifier = from_module(module, (3, 5, 5))
    images = torch.rand(4, 3, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(classifier(images), module(images))
    assert [layer.name for layer in classifier.layers()] == ["network"]
    assert not classifier.layers()[0].prunable
    with torch.no_grad():
        module.head.weight.mul_(2)
    saved = torch.load(classifier.save(tmp_path / "net.pt"), weights_only=True)
    assert saved.keys() == module.state_dict().keys()
    assert torch.equal(saved["head.weight"], module.head.weight)


def test_dropout_in_the_forward_of_a_fresh_module_is_off() -> None:
    """A trace keeps what the module said of its training when it was traced."""
    module = FunctionalDropout()
    assert module.training
    classifier = Classifier(graph.trace(module), image_shape=(3, 5, 5))
    images = torch.rand(8, 3, 5, 5)
    assert torch.equal(classifier(images), classifier(images))


def test_a_network_from_memory_has_no_format_to_be_saved_in(tmp_path: Path) -> None:
    classifier = Classifier(graph.trace(plain()), image_shape=(3, 14, 14))
    assert classifier.suffix == ".safetensors"
    with pytest.raises(UnwritableOutput, match="did not come from a file"):
        classifier.save(tmp_path / "net.pt")
