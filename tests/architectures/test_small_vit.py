"""small_vit: shapes, gradients, and that it can be taken apart."""

import pytest
import torch

from goodnet.architectures import find
from goodnet.architectures.small_vit import IMAGE_SHAPE, SmallVit, build
from goodnet.core.errors import InvalidOption, WrongShape
from goodnet.formats.pytorch import from_module


@pytest.mark.parametrize("image_shape", [(1, 28, 28), (3, 32, 32), (3, 55, 47)])
def test_it_gives_one_row_of_logits_per_image(image_shape):
    logits = build(7, image_shape).eval()(torch.rand(3, *image_shape))
    assert logits.shape == (3, 7)
    assert torch.isfinite(logits).all()


def test_gradients_reach_every_weight():
    torch.manual_seed(0)
    network = build(5)
    network(torch.rand(4, *IMAGE_SHAPE)).square().sum().backward()
    silent = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert silent == []


def test_it_can_be_cut_after_its_layers():
    torch.manual_seed(0)
    classifier = from_module(build(5), IMAGE_SHAPE)
    images = torch.rand(2, *IMAGE_SHAPE)
    layers = classifier.layers()
    assert len(layers) > 10
    with torch.no_grad():
        expected = classifier(images)
        for layer in layers[:-1:5]:
            head, tail = classifier.split(layer.name)
            assert torch.allclose(tail(head(classifier.prepare(images))), expected, atol=1e-5), layer.name


def test_channels_of_some_layer_can_be_silenced():
    torch.manual_seed(0)
    classifier = from_module(build(5), IMAGE_SHAPE)
    layer = [layer for layer in classifier.layers() if layer.prunable][-1]
    layer.silence([0, 2])
    with torch.no_grad():
        features = classifier.features(torch.rand(2, *IMAGE_SHAPE), layer.name)
    assert (features[:, [0, 2]] == 0).all()
    assert (features[:, 1] != 0).any()


def test_it_is_found_by_name_and_the_seed_decides_its_weights():
    weights = []
    for _ in range(2):
        torch.manual_seed(1)
        network = find("small_vit").build(classes=4, image_shape=IMAGE_SHAPE)
        assert isinstance(network, SmallVit)
        weights.append(torch.cat([weight.flatten() for weight in network.parameters()]))
    assert torch.equal(weights[0], weights[1])


def test_images_that_are_too_small_are_refused():
    with pytest.raises(WrongShape, match="at least 8 x 8 pixels, got"):
        build(10, (3, 7, 40))
    with pytest.raises(InvalidOption, match="small_vit"):
        find("small_vit").build(classes=10, image_shape=(3, 40, 7))
