"""What is done to pixels before they enter a network, by hand-computed values."""

import numpy as np
import pytest
import torch
from torch import nn

from goodnet.core.errors import InvalidOption
from goodnet.core.preprocessing import Preprocessing, usual_preprocessings
from goodnet.core.reading import Reading
from goodnet.formats.pytorch import from_module

#: One pixel: red 1.0, green 0.5, blue 0.0.
PIXEL = torch.tensor([1.0, 0.5, 0.0]).reshape(1, 3, 1, 1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0..1", [1.0, 0.5, 0.0]),
        ("0..255", [255.0, 127.5, 0.0]),
        ("-1..1", [1.0, 0.0, -1.0]),
        ("imagenet", [2.2489, 0.1964, -1.8044]),
        ("cifar10", [2.0591, 0.0731, -1.7068]),
        ("caffe", [-103.939, 10.721, 131.32]),
        ("0..1+bgr", [0.0, 0.5, 1.0]),
        ("-1..1+bgr", [-1.0, 0.0, 1.0]),
        ("0.5,0.25,0/0.5,0.25,2", [1.0, 1.0, 0.0]),
        ("0.25/0.5", [1.5, 0.5, -0.5]),
    ],
)
def test_pixels_as_the_network_takes_them(name, expected):
    preprocessing = Preprocessing.read(name)
    fed = preprocessing.apply(PIXEL)
    torch.testing.assert_close(fed.flatten(), torch.tensor(expected), rtol=1e-4, atol=2e-4)
    torch.testing.assert_close(preprocessing.undo(fed), PIXEL, rtol=1e-5, atol=1e-6)


def test_a_plain_range_is_one_exact_multiplication():
    images = torch.arange(256, dtype=torch.float32).reshape(1, 1, 16, 16) / 255
    assert torch.equal(Preprocessing.read("0..255").apply(images), images * 255.0)
    assert torch.equal(Preprocessing.read("0..255").undo(images), images / 255.0)
    assert Preprocessing.read("0..1").apply(images) is images
    assert (Preprocessing.read("0..255").scale, Preprocessing.read("0..1").scale) == (255.0, 1.0)


@pytest.mark.parametrize("text", ["", "auto", "0..2", "imagenet+rgb", "1,2/3", "0/0", "0/-1", "nan/1", "a/b", "1/2/3"])
def test_what_names_nothing_is_refused(text):
    with pytest.raises(InvalidOption, match="expected"):
        Preprocessing.read(text)


def test_what_does_not_go_with_the_channels_is_refused():
    with pytest.raises(InvalidOption, match="'imagenet' does not go with images of 1 channels"):
        from_module(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), (1, 2, 2)).with_input_range("imagenet")
    assert not Preprocessing.read("0..1+bgr").fits(1)
    assert not Preprocessing.read("0,0/1,1").fits(3)


def test_the_usual_ones_begin_with_the_plain_ranges():
    assert usual_preprocessings(1) == ["0..1", "0..255", "-1..1", "mnist"]
    colour = usual_preprocessings(3)
    assert colour[:2] == ["0..1", "0..255"]
    assert {"imagenet", "cifar10", "caffe", "0..255+bgr", "imagenet+bgr"} <= set(colour)
    assert not {"mnist", "caffe+bgr"} & set(colour)


def test_a_live_network_keeps_its_normalisation():
    from goodnet.api.loading import load
    from goodnet.core.dataset import Dataset

    network = from_module(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), (3, 2, 2)).with_input_range("0.3/0.7")
    images = Dataset.from_arrays(np.random.default_rng(0).integers(0, 256, (40, 3, 2, 2), dtype=np.uint8))
    loaded = load(network, images)
    assert (loaded.classifier.input_range, loaded.reason) == ("0.3/0.7", "as the network has it")
    assert load(network, images, reading=Reading(input_range="0..255")).classifier.input_range == "0..255"


def test_a_card_does_not_take_a_range_for_other_channels():
    from goodnet.pair.deployment import DeployedCard

    card = {"name": "n", "classes": 2, "layout": "NCHW"}
    assert DeployedCard(**card, image_shape=(3, 2, 2), input_range="imagenet").input_range == "imagenet"
    for input_range in ("imagenet", "0..1+bgr"):
        with pytest.raises(ValueError, match="expected an input range for 1 channels"):
            DeployedCard(**card, image_shape=(1, 2, 2), input_range=input_range)
