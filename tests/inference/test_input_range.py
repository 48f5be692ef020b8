import re

import numpy as np
import pytest
import torch
from torch import nn

from goodnet.api.loading import load_both
from goodnet.core.dataset import Dataset
from goodnet.core.errors import InvalidOption, UnreadableData
from goodnet.core.preprocessing import Preprocessing, name_range, usual_preprocessings
from goodnet.core.reading import Reading
from goodnet.formats.data import read_data
from goodnet.formats.networks import read_network
from goodnet.formats.pytorch import from_module
from goodnet.inference.input_range import _choose, _Tried, choose_input_range, choose_unlabelled_range
from goodnet.inference.predictions import measure_accuracy


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
    assert re.search(rf"1\.0000 \(cross-entropy 0\.\d\d\) with {expected}", choice.reason)
    assert "60 clean images" in choice.reason


def test_auto_refuses_data_that_the_network_does_not_know(grey_images):
    shuffled = np.random.default_rng(0).integers(0, 2, len(grey_images))
    data = Dataset.from_arrays(grey_images.source.read(grey_images.positions), shuffled, name="noise")
    with pytest.raises(
        UnreadableData, match=r"noise: no usual input range .* plausible accuracy .*n = 60.*--input-range"
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
    assert re.search(rf"{accuracy:.4f} \(cross-entropy 0\.\d\d\) with {expected}", choice.reason)


class Balance(nn.Module):
    """Two classes, told apart by which half is the brighter one, without biases: right in every range, sure in one."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, images):
        excess = self.gain * (images[..., :2].mean(dim=(1, 2, 3)) - images[..., 2:].mean(dim=(1, 2, 3)))
        return torch.stack([-excess, excess], dim=1)


def halves(wrong: int) -> Dataset:
    """60 images of two halves; of so many the label is the other one."""
    draws = np.random.default_rng(0)
    pixels = np.repeat(draws.integers(0, 256, (60, 1, 1, 2)), 2, axis=3).repeat(4, axis=2).astype(np.uint8)
    pixels[:, :, :, :2][(pixels[..., :2] == pixels[..., 2:]).all(axis=(1, 2, 3))] = 255
    labels = (pixels[:, 0, 0, 0] > pixels[:, 0, 0, 2]).astype(int)
    labels[:wrong] = 1 - labels[:wrong]
    return Dataset.from_arrays(pixels, labels, name="halves")


@pytest.mark.parametrize(("gain", "expected"), [(3.0, "0..1"), (3.0 / 255, "0..255")])
def test_where_both_ranges_answer_alike_likelihood_decides(gain, expected):
    choice = choose_input_range(from_module(Balance(gain), (1, 4, 4)), halves(wrong=6))
    assert choice.reason.count("0.9000") == 2
    assert choice.classifier.input_range == expected


def test_a_network_that_is_sure_and_right_in_both_ranges_needs_no_brighter_pixels():
    choice = choose_input_range(from_module(Balance(300.0), (1, 4, 4)), halves(wrong=0))
    assert choice.reason.count("1.0000") == 2
    assert choice.classifier.input_range == "0..1"


def test_a_network_of_saturated_units_that_is_sure_in_0_to_1_needs_no_brighter_pixels():
    class Saturated(Balance):
        """Classifies some images otherwise in 0..255, where nothing but the sign of the difference is left."""

        def forward(self, images):
            excess = images[..., :2].mean(dim=(1, 2, 3)) - images[..., 2:].mean(dim=(1, 2, 3))
            held = 0.9 * torch.tanh(self.gain * excess + 0.9)
            return torch.stack([-held, held], dim=1)

    data = halves(wrong=3)
    choice = choose_input_range(from_module(Saturated(15.0), (1, 4, 4)), data)
    assert choice.classifier.input_range == "0..1"
    assert choice.reason.count("0.9500") == 1
    assert choice.reason.count("0.9333") == 1


def test_clearly_more_right_answers_in_the_larger_range_are_no_tie():
    """350 and 390 of 500 are right, with 120 predictions that differ: 3.65 standard errors, and likelihoods alike."""
    right = torch.zeros(2, 500, dtype=torch.bool)
    right[0, :350] = True
    right[1, 40:430] = True
    unit, byte = (_Tried(None, some, torch.full((500,), loss)) for some, loss in zip(right, (0.90, 0.85), strict=True))
    assert _choose({"0..1": unit, "0..255": byte}, 10) is None
    alike = _Tried(None, unit.right, torch.full((500,), 0.85))
    assert _choose({"0..1": unit, "0..255": alike}, 10) == "0..1"


def test_a_tie_asks(grey_images):
    class Either(Brightness):
        """Knows some images in one range and as many others in the other one, and is never sure."""

        def forward(self, images):
            means = images.mean(dim=(1, 2, 3))
            unit = torch.where(means < 0.9, means - 0.5, 0.4 - means)
            byte = torch.where(means > 25, means / 255 - 0.5, 0.5 - means / 255)
            excess = torch.where(means <= 1, unit, byte)
            return torch.stack([-excess, excess], dim=1)

    with pytest.raises(
        InvalidOption, match=r"expected clean images that tell the range .*give --input-range 0\.\.1 or"
    ):
        choose_input_range(from_module(Either(0.5), (3, 4, 4)), grey_images)


@pytest.mark.parametrize(("gain", "expected"), [(6.0, "0..1"), (6.0 / 255, "0..255")])
def test_without_labels_the_range_is_one_in_which_answers_tell_the_images_apart(gain, expected):
    choice = choose_unlabelled_range(from_module(Balance(gain), (1, 4, 4)), halves(wrong=0))
    assert choice.classifier.input_range == expected


COLOURS = torch.rand(10, 3, 4, 4, generator=torch.Generator().manual_seed(5))


class Templates(nn.Module):
    """Ten pictures; an image belongs to the nearest. It takes pixels as `preprocessing` leaves them."""

    def __init__(self, preprocessing: str) -> None:
        super().__init__()
        self.templates = nn.Parameter(Preprocessing.read(preprocessing).apply(COLOURS).flatten(1))
        self.spread = float(self.templates.detach().std())

    def forward(self, images):
        return -8 * (images.flatten(1)[:, None] - self.templates).div(self.spread).pow(2).mean(2)


class DimmedTemplates(Templates):
    """The same ten pictures in dim light."""

    def __init__(self, preprocessing: str) -> None:
        super().__init__(preprocessing)
        self.templates = nn.Parameter(Preprocessing.read(preprocessing).apply(0.35 * COLOURS + 0.03).flatten(1))
        self.spread = float(self.templates.detach().std())


def dimmed(data: Dataset) -> Dataset:
    pixels = 0.35 * data.source.read(data.positions) + 8
    return Dataset.from_arrays(pixels.astype(np.uint8), data.targets, name="dimmed")


def noisy_colours(count: int) -> Dataset:
    draws = np.random.default_rng(1)
    labels = draws.integers(0, 10, count)
    noise = draws.normal(0, 0.8, (count, 3, 4, 4))
    pixels = np.clip(COLOURS.numpy()[labels] + noise, 0, 1)
    return Dataset.from_arrays((255 * pixels).astype(np.uint8), labels, name="colours")


@pytest.mark.parametrize("name", usual_preprocessings(3))
def test_auto_finds_the_usual_normalisations(name):
    choice = choose_input_range(from_module(Templates(name), (3, 4, 4)), noisy_colours(200))
    network = choice.classifier
    if name in ("imagenet", "cifar10", "imagenet+bgr", "cifar10+bgr"):  # They are much the same.
        assert network.input_range.removesuffix("+bgr") in ("imagenet", "cifar10")
        assert network.input_range.endswith("+bgr") == name.endswith("+bgr")
    else:
        assert network.input_range == name
    right = float((network(noisy_colours(200).images()).argmax(1).numpy() == noisy_colours(200).targets).mean())
    assert 0.7 < right < 0.99, "some predictions are wrong, as a real network's are"
    assert f"{right:.4f} (cross-entropy" in choice.reason


@pytest.mark.parametrize("bgr", [False, True])
@pytest.mark.parametrize("bytes_", [False, True])
def test_auto_finds_a_normalisation_by_the_figures_of_the_data_itself(bgr, bytes_):
    data = dimmed(noisy_colours(200))
    pixels = data.images()
    mean, std = (values.tolist() for values in (pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))))
    if bytes_:
        std = [1 / 255] * 3
    if bgr:
        mean, std = mean[::-1], std[::-1]
    given = name_range(mean, std, bgr=bgr)
    network = DimmedTemplates(given)
    found = choose_input_range(from_module(network, (3, 4, 4)), data).classifier
    assert found.input_range.endswith("+bgr") == bgr
    read, made = Preprocessing.read(found.input_range), Preprocessing.read(given)
    assert read.mean == pytest.approx(made.mean, abs=1e-4)
    assert read.std == pytest.approx(made.std, rel=1e-3)


def test_the_figures_of_the_data_do_not_displace_a_usual_normalisation_that_fits_as_well():
    found = choose_input_range(from_module(Templates("cifar10"), (3, 4, 4)), noisy_colours(200)).classifier
    assert found.input_range in ("cifar10", "imagenet")


def test_a_network_that_is_right_is_not_tried_with_normalisations():
    choice = choose_input_range(from_module(Templates("0..1"), (3, 4, 4)), noisy_colours(200).subset(range(40)))
    assert choice.classifier.input_range == "0..1"
    easy = Dataset.from_arrays((255 * COLOURS.numpy()).astype(np.uint8), np.arange(10), name="easy")
    reason = choose_input_range(from_module(Templates("0..1"), (3, 4, 4)), easy).reason
    assert "with 0..1" in reason
    assert "imagenet" not in reason


def test_a_normalisation_that_is_better_by_chance_is_not_taken():
    """Half of the predictions are wrong whatever is done to the pixels: no choice may rest on that."""
    data = noisy_colours(200)
    labels = data.targets.copy()
    labels[::2] = np.random.default_rng(2).integers(0, 10, 100)
    spoilt = Dataset.from_arrays(data.source.read(data.positions), labels, name="spoilt")
    assert choose_input_range(from_module(Templates("0..1"), (3, 4, 4)), spoilt).classifier.input_range == "0..1"


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("cifar_patch_target3.pt", "0..1"),
        ("cifar_patch_minus1_plus1.pt", "-1..1"),
        ("cifar_patch_meanstd.pt", "cifar10"),
    ],
)
def test_one_network_for_three_kinds_of_pixels(shared_cases, file, expected, monkeypatch):
    monkeypatch.chdir(shared_cases)
    monkeypatch.syspath_prepend(str(shared_cases))
    classifier, data = load_both(file, "cifar_clean.npz", reading=Reading(architecture="networks:small"))
    choice = choose_input_range(classifier, data)
    assert choice.classifier.input_range == expected
    accuracy = measure_accuracy(choice.classifier, data)
    assert accuracy.value > 0.6
