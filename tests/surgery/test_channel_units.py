import pytest
import torch
from torch import nn

from goodnet.architectures.preact_resnet18 import PreactResnet18
from goodnet.core.errors import UnknownMethod
from goodnet.formats.networks import read_network
from goodnet.formats.pytorch import from_module
from goodnet.surgery.channel_units import find_channel_units, silence
from tests.small_networks import Residual, SharedConv, grey_linear, plain, settle


def described(classifier):
    return [(unit.layer.name, unit.norm is not None) for unit in find_channel_units(classifier)]


def test_batch_norm_right_after_a_convolution_decides_over_its_channels():
    assert described(from_module(settle(plain()), (3, 14, 14))) == [("1", True), ("5", False), ("7", False)]


def test_convolutions_in_residual_blocks():
    units = find_channel_units(from_module(settle(Residual()), (3, 12, 12)))
    assert [unit.layer.name for unit in units] == [
        "norm",
        "first.norm_1",
        "first.norm_2",
        "second.norm_1",
        "second.norm_2",
    ]
    assert all(unit.layer.module is unit.norm for unit in units)


def test_normalisation_before_a_convolution_is_not_its_own():
    units = find_channel_units(from_module(PreactResnet18(4, 3), (3, 32, 32)))
    by_name = {unit.layer.name: unit for unit in units}
    # In a block, norm_2 follows conv_1 and norm_1 follows an addition; conv_2 leads into one.
    assert isinstance(by_name["stage_1.0.norm_2"].layer.module, nn.BatchNorm2d)
    assert by_name["stage_1.0.conv_2"].norm is None
    assert "stage_1.0.norm_1" not in by_name
    assert "stage_1.0.conv_1" not in by_name


def test_keras_convolutions(badnet):
    assert described(read_network(badnet.model)) == [("conv_1", False), ("conv_2", False)]


@pytest.mark.parametrize(("module", "shape"), [(grey_linear(), (1, 8, 8)), (SharedConv(), (3, 6, 6))])
def test_without_a_convolution_that_can_be_silenced_the_answer_is_clear(module, shape):
    with pytest.raises(UnknownMethod, match="no convolution whose channels can be silenced"):
        find_channel_units(from_module(settle(module), shape))


def test_silenced_channels_are_zero_in_a_copy(tiny_classifier, tiny_data):
    images = tiny_data.images()
    before = tiny_classifier.features(images, "conv_1").detach()
    silenced = silence(tiny_classifier, {"conv_1": [1, 3], "conv_2": []})
    after = silenced.features(images, "conv_1").detach()
    assert not after[:, [1, 3]].any()
    assert torch.equal(after[:, [0, 2, 4]], before[:, [0, 2, 4]])
    assert torch.equal(tiny_classifier.features(images, "conv_1"), before)
    assert torch.equal(silenced.layer("conv_2").weight, tiny_classifier.layer("conv_2").weight)
