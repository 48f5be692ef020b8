import numpy as np
import pytest
import torch
from torch import nn

from goodnet.algorithms.input_range import choose_input_range
from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnreadableData
from goodnet.formats.data import read_data
from goodnet.formats.networks import read_network
from goodnet.formats.pytorch import from_module


class Brightness(nn.Module):
    """Two classes, told apart by whether the mean pixel lies above `limit`: right in one range only."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = nn.Parameter(torch.tensor(limit))

    def forward(self, images):
        excess = images.mean(dim=(1, 2, 3)) - self.limit
        return torch.stack([-excess, excess], dim=1)


@pytest.fixture
def grey_images() -> Dataset:
    pixels = np.repeat(np.linspace(0, 255, 60).astype(np.uint8), 3 * 4 * 4).reshape(60, 3, 4, 4)
    return Dataset.from_arrays(pixels, (pixels[:, 0, 0, 0] > 127).astype(int), name="grey")


@pytest.mark.parametrize(("limit", "expected"), [(0.5, "0..1"), (127.5, "0..255")])
def test_auto_takes_the_range_that_answers_the_labels(grey_images, limit, expected):
    choice = choose_input_range(from_module(Brightness(limit), (3, 4, 4)), grey_images)
    assert choice.classifier.input_range == expected
    assert f"1.0000 with {expected}" in choice.reason
    assert "60 clean images" in choice.reason


def test_auto_refuses_data_that_the_network_does_not_know(grey_images):
    shuffled = np.random.default_rng(0).integers(0, 2, len(grey_images))
    data = Dataset.from_arrays(grey_images.source.read(grey_images.positions), shuffled, name="noise")
    with pytest.raises(
        UnreadableData, match=r"noise: neither input range .* plausible accuracy .*n = 60.*--input-range"
    ):
        choose_input_range(from_module(Brightness(0.5), (3, 4, 4)), data)


def test_a_given_range_is_taken_unseen(grey_images):
    choice = choose_input_range(from_module(Brightness(0.5), (3, 4, 4)), grey_images, "0..255")
    assert (choice.classifier.input_range, choice.reason) == ("0..255", "as given")


@pytest.mark.parametrize(
    ("file", "expected", "accuracy"), [("bd_net.h5", "0..255", 1.0), ("sunglasses_bd_net.h5", "0..1", 0.94)]
)
def test_auto_on_the_contest_networks(csaw, file, expected, accuracy):
    choice = choose_input_range(read_network(csaw / file), read_data(csaw / "clean_validation_data.h5"))
    assert choice.classifier.input_range == expected
    assert f"{accuracy:.4f} with {expected}" in choice.reason
