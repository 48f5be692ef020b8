"""ibau_cnn: shapes, gradients, and that it can be taken apart."""

from pathlib import Path

import pytest
import torch

from goodnet.algorithms.poisoning import poisoned_test_set
from goodnet.algorithms.trigger_patterns import Additive
from goodnet.architectures import find
from goodnet.architectures.ibau_cnn import IMAGE_SHAPE, IbauCnn, build
from goodnet.attacks.badnets import Badnets
from goodnet.core.backdoor import Backdoor
from goodnet.core.dataset import as_unit_range
from goodnet.core.errors import InvalidOption, WrongShape
from goodnet.formats.data import read_data
from goodnet.formats.images import read_image
from goodnet.formats.networks import read_network
from goodnet.formats.pytorch import from_module

DATA = Path(__file__).parents[3] / "shared" / "data"
BADNETS_TRIGGER = Badnets(size=4).make_trigger(IMAGE_SHAPE, seed=0)


def read_added_picture(path: Path) -> Additive:
    """Return the trigger that adds a picture."""
    return Additive(as_unit_range(read_image(path)))


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
        for layer in layers[:-1:3]:
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
        network = find("ibau_cnn").build(classes=4, image_shape=IMAGE_SHAPE)
        assert isinstance(network, IbauCnn)
        weights.append(torch.cat([weight.flatten() for weight in network.parameters()]))
    assert torch.equal(weights[0], weights[1])


def test_images_that_are_too_small_are_refused():
    with pytest.raises(WrongShape, match="at least 8 x 8 pixels, got"):
        build(10, (3, 7, 40))
    with pytest.raises(InvalidOption, match="ibau_cnn"):
        find("ibau_cnn").build(classes=10, image_shape=(3, 40, 7))


@pytest.mark.parametrize(
    ("name", "target"), [("badnets_8_02_ckpt.pth", 8), ("trojan_wm_2_02_ckpt.pth", 2), ("l2_inv_0_02_ckpt.pth", 0)]
)
def test_the_published_checkpoints_fit_and_are_as_accurate_and_as_backdoored_as_measured(name, target):
    if not (DATA / "ibau" / name).exists():
        pytest.skip(f"{DATA / 'ibau' / name} is missing")
    classifier = read_network(DATA / "ibau" / name, "ibau_cnn")
    clean = read_data(DATA / "cifar10" / "test.h5").sample(250, seed=0)
    trigger = (
        BADNETS_TRIGGER
        if target == 8
        else read_added_picture(DATA / "ibau" / name.replace(f"_{target}_02_ckpt.pth", ".png"))
    )
    with torch.no_grad():
        accuracy = (classifier(clean.images()).argmax(1).numpy() == clean.targets).mean()
        triggered = poisoned_test_set(clean, Backdoor(trigger, target))
        success = (classifier(triggered.images()).argmax(1) == target).float().mean()
    assert accuracy == pytest.approx(0.78, abs=0.06)
    assert success > 0.95
