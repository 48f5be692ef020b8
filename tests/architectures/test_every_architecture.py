"""Every architecture: shapes, gradients, and that it can be taken apart."""

import pytest
import torch

from goodnet import architectures
from goodnet.core.errors import InvalidOption
from goodnet.formats.pytorch import from_module

#: Small images for each, and the smallest size that it takes.
CASES = {
    "deepid": ((3, 55, 47), 31),
    "ibau_cnn": ((3, 32, 32), 8),
    "preact_resnet18": ((3, 16, 16), 8),
    "small_cnn": ((3, 32, 32), 8),
    "small_vit": ((3, 32, 32), 8),
    "vgg": ((3, 32, 32), 16),
}


def build(name, classes=5, image_shape=None):
    torch.manual_seed(0)
    return architectures.find(name).build(classes=classes, image_shape=image_shape or CASES[name][0])


def test_every_architecture_has_a_case():
    assert set(CASES) == set(architectures.names())


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("image_shape", [(1, 28, 28), (3, 32, 32), (3, 55, 47)])
def test_it_gives_one_row_of_logits_per_image(name, image_shape):
    if min(image_shape[1:]) < CASES[name][1]:
        with pytest.raises(InvalidOption, match=name):
            build(name, image_shape=image_shape)
        return
    logits = build(name, 7, image_shape).eval()(torch.rand(3, *image_shape))
    assert logits.shape == (3, 7)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", CASES)
def test_gradients_reach_every_weight(name):
    network = build(name)
    network(torch.rand(4, *CASES[name][0])).square().sum().backward()
    silent = [key for key, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert silent == []


@pytest.mark.parametrize("name", CASES)
def test_it_can_be_cut_after_its_layers(name):
    shape = CASES[name][0]
    classifier = from_module(build(name), shape)
    images = torch.rand(2, *shape)
    layers = classifier.layers()
    assert len(layers) > 10
    with torch.no_grad():
        expected = classifier(images)
        for layer in layers[: -1 : max(1, len(layers) // 8)]:
            head, tail = classifier.split(layer.name)
            assert torch.allclose(tail(head(classifier.prepare(images))), expected, atol=1e-5), layer.name


@pytest.mark.parametrize("name", CASES)
def test_channels_of_some_layer_can_be_silenced(name):
    classifier = from_module(build(name), CASES[name][0])
    layer = [layer for layer in classifier.layers() if layer.prunable][-1]
    layer.silence([0, 2])
    with torch.no_grad():
        features = classifier.features(torch.rand(8, *CASES[name][0]), layer.name)
    assert (features[:, [0, 2]] == 0).all()
    assert (features != 0).any()


@pytest.mark.parametrize("name", CASES)
def test_the_seed_decides_its_weights(name):
    first, again = (list(build(name).parameters()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_images_that_are_too_small_are_refused(name):
    least = CASES[name][1]
    with pytest.raises(InvalidOption, match=f"{name}.*{least}"):
        build(name, image_shape=(3, least - 1, 60))
