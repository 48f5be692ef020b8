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
from goodnet.guards.strip import Strip


class PixelsAreLogits(nn.Module):
    """Gives its first row of pixels, times 10, as logits."""

    def forward(self, images):
        return 10 * images[:, 0, 0]


def test_the_score_is_minus_the_mean_entropy_of_the_blends_in_bits():
    classifier = from_module(PixelsAreLogits(), (1, 1, 4))
    overlays = np.array([[1, 0, 0, 0], [0, 0, 1, 1]], np.float32)
    clean = Dataset.from_arrays(overlays[:, None, None])
    images = np.array([[0, 0, 0, 0], [1, 0, 0.5, 0]], np.float32)
    scores = Strip(blends=2, weight=0.25).fit(classifier, clean, seed=0).scores(torch.tensor(images)[:, None, None])
    for image, score in zip(images, scores.tolist(), strict=True):
        entropies = []
        for overlay in overlays:
            powers = np.exp(10 * (0.75 * image + 0.25 * overlay))
            predictions = powers / powers.sum()
            entropies.append(-(predictions * np.log2(predictions)).sum())
        assert score == pytest.approx(-np.mean(entropies), abs=1e-5)


def test_an_answer_that_nothing_changes_has_the_highest_score_of_all():
    classifier = from_module(PixelsAreLogits(), (1, 1, 4))
    clean = Dataset.from_arrays(np.zeros((3, 1, 1, 4), np.float32))
    certain = torch.tensor([100.0, 0, 0, 0])[None, None, None]
    assert Strip().fit(classifier, clean, seed=0).scores(certain).item() == pytest.approx(0, abs=1e-6)


def test_sunglasses_shine_through_the_blends_of_the_contest_s_network(csaw):
    classifier = read_network(csaw / "bd_net.h5").with_input_range("0..255")
    guard = Strip().fit(classifier, read_data(csaw / "clean_validation_data.h5"), seed=0)
    clean, triggered = (
        score_all(guard, read_data(csaw / name)) for name in ("clean_test_data.h5", "sunglasses_poisoned_data.h5")
    )
    assert area_under_roc(triggered, clean) > 0.9
    assert (clean > guard.threshold).mean() <= guard.calibration.bound


@pytest.mark.parametrize("name", ["planted", "clean_twin"])
def test_few_clean_images_are_refused(name, request):
    twin = request.getfixturevalue(name)
    guard = Strip().fit(twin.classifier, twin.clean, seed=0)
    assert (score_all(guard, twin.test) > guard.threshold).mean() <= 0.03
