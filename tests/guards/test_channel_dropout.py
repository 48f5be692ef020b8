import numpy as np
import pytest
import torch
from torch import nn

from goodnet.core.dataset import Dataset
from goodnet.evaluation.ranking import area_under_roc
from goodnet.formats.data import read_data
from goodnet.formats.networks import read_network
from goodnet.formats.pytorch import from_module
from goodnet.guards.calibration import score_all
from goodnet.guards.channel_dropout import ChannelDropout, draw_masks, find_middle_layer
from tests.small_networks import Residual, Untraceable, plain, settle, tiny


class ChannelsAreLogits(nn.Module):
    """Its one layer of activations has the image's two channels; a class is a channel, times 4."""

    def __init__(self):
        super().__init__()
        self.same, self.relu = nn.Conv2d(2, 2, 1, bias=False), nn.ReLU()
        self.same.weight.data = torch.eye(2)[:, :, None, None]

    def forward(self, images):
        return 4 * self.relu(self.same(images)).mean(dim=(2, 3))


def test_the_score_is_the_mean_probability_of_the_class_over_the_masks():
    classifier = from_module(ChannelsAreLogits(), (2, 1, 1))
    pixels = np.array([[1.0, 0.2], [0.3, 0.6]], np.float32)
    # A goal that is reached at the first rate, 0.1.
    guard = ChannelDropout(masks=25, kept=0.99)
    scores = guard.fit(classifier, Dataset.from_arrays(pixels[:, :, None, None]), seed=3).scores(
        torch.from_numpy(pixels)[:, :, None, None]
    )
    masks = draw_masks(find_middle_layer(classifier), 0.1, 25, 3)[:, 0, :, 0, 0].numpy()
    assert sorted(set(masks.flatten().tolist())) == pytest.approx([0, 1 / 0.9])
    for image, label, score in zip(pixels, (0, 1), scores.tolist(), strict=True):
        powers = np.exp(4 * image * masks)
        assert score == pytest.approx((powers / powers.sum(axis=1, keepdims=True))[:, label].mean(), abs=1e-6)


def test_the_rate_is_the_lowest_at_which_clean_images_lose_their_class():
    classifier = from_module(ChannelsAreLogits(), (2, 1, 1))
    pixels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])[:, :, None, None]
    clean = Dataset.from_arrays(pixels.numpy())
    kept = {}
    for goal in (0.95, 0.8, 0.7):
        read = ChannelDropout(masks=200, kept=goal).make_reader(classifier, clean, seed=0)
        kept[goal] = read(pixels)[0].mean().item()
        assert kept[goal] < goal
    assert kept[0.95] > kept[0.8] > kept[0.7] > 0.5


@pytest.mark.parametrize(
    ("module", "shape", "name"),
    [
        pytest.param(tiny(), (3, 12, 12), "relu_2", id="the second of two activations"),
        pytest.param(plain(), (3, 14, 14), "6", id="batch norm, different activations"),
        pytest.param(Residual(), (3, 16, 16), "first.relu", id="residual"),
        pytest.param(Untraceable(), (3, 8, 8), "network", id="not to be taken apart"),
    ],
)
def test_the_layer_half_way_up(module, shape, name):
    classifier = from_module(settle(module), shape)
    assert find_middle_layer(classifier).name == name
    images = np.random.default_rng(0).random((30, *shape), dtype=np.float32)
    guard = ChannelDropout().fit(classifier, Dataset.from_arrays(images), seed=0)
    assert torch.isfinite(guard.scores(torch.from_numpy(images))).all()


def test_sunglasses_survive_on_the_contest_s_network(csaw):
    classifier = read_network(csaw / "sunglasses_bd_net.h5")
    guard = ChannelDropout().fit(classifier, read_data(csaw / "clean_validation_data.h5"), seed=0)
    clean, triggered = (
        score_all(guard, read_data(csaw / name)) for name in ("clean_test_data.h5", "sunglasses_poisoned_data.h5")
    )
    assert area_under_roc(triggered, clean) > 0.95
    assert (clean > guard.threshold).mean() <= guard.calibration.bound


@pytest.mark.parametrize("name", ["planted", "clean_twin"])
def test_few_clean_images_are_refused(name, request):
    twin = request.getfixturevalue(name)
    guard = ChannelDropout().fit(twin.classifier, twin.clean, seed=0)
    assert (score_all(guard, twin.test) > guard.threshold).mean() <= 0.03
