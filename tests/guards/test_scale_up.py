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
from goodnet.guards.scale_up import ScaleUp, class_statistics


class Brighter(nn.Module):
    """Two pixels: class 0 while the first is brighter, by the log of their ratio."""

    def forward(self, images):
        values = images.flatten(1) + 0.01
        return values.log()


def consistency(image, scales):
    """The mean probability of an image's class over its scaled versions, by hand."""
    original = int(image[1] > image[0])
    kept = []
    for scale in scales:
        first, second = (min(1.0, scale * pixel) + 0.01 for pixel in image)
        kept.append((first, second)[original] / (first + second))
    return np.mean(kept)


def test_the_score_is_how_far_the_kept_probability_lies_above_that_of_the_class():
    rng = np.random.default_rng(0)
    pixels = rng.random((60, 2)).astype(np.float32) * 0.5
    pixels[50:] = pixels[50:].max(axis=1, keepdims=True) * [1.0, 0.5]
    pixels[:50] = np.sort(pixels[:50], axis=1)  # fifty of class 1, ten of class 0
    scales = (2.0, 4.0)
    values = np.array([consistency(pair, scales) for pair in pixels])
    classifier = from_module(Brighter(), (1, 1, 2))
    guard = ScaleUp(scales=scales)
    read = guard.make_reader(classifier, Dataset.from_arrays(pixels[:, None, None]), seed=0)
    judge = guard.fit_judge(classifier, read(torch.from_numpy(pixels)[:, None, None]))
    for image in ((0.1, 0.4), (0.3, 0.02), (0.2, 0.21)):
        own = values[:50] if image[1] > image[0] else values[50:]
        expected = (consistency(image, scales) - own.mean()) / own.std()
        assert judge(read(torch.tensor(image)[None, None, None])).item() == pytest.approx(expected, abs=1e-3)


def test_classes_with_few_images_share_mean_and_deviation():
    values = torch.cat([torch.linspace(0, 1, 10), torch.tensor([5.0, 6.0])])
    classes = torch.tensor([2] * 10 + [0, 1])
    means, deviations = class_statistics(values, classes, 4)
    assert means[2].item() == pytest.approx(0.5)
    assert deviations[2].item() == pytest.approx(np.linspace(0, 1, 10).std())
    for label in (0, 1, 3):
        assert means[label].item() == pytest.approx(values.mean().item())
        assert deviations[label].item() == pytest.approx(values.numpy().std())


def test_a_class_of_equal_images_gives_no_infinite_scores():
    means, deviations = class_statistics(torch.full((20,), 0.7), torch.zeros(20, dtype=torch.int64), 2)
    assert means.tolist() == pytest.approx([0.7, 0.7])
    assert deviations.min() > 0


def test_sunglasses_survive_the_bleaching_on_the_contest_s_network(csaw):
    classifier = read_network(csaw / "sunglasses_bd_net.h5").with_input_range("0..1")
    guard = ScaleUp().fit(classifier, read_data(csaw / "clean_validation_data.h5"), seed=0)
    clean, triggered = (
        score_all(guard, read_data(csaw / name)) for name in ("clean_test_data.h5", "sunglasses_poisoned_data.h5")
    )
    assert area_under_roc(triggered, clean) > 0.9
    assert (clean > guard.threshold).mean() <= guard.calibration.bound


@pytest.mark.parametrize("name", ["planted", "clean_twin"])
def test_few_clean_images_are_refused(name, request):
    twin = request.getfixturevalue(name)
    guard = ScaleUp().fit(twin.classifier, twin.clean, seed=0)
    assert (score_all(guard, twin.test) > guard.threshold).mean() <= 0.03
