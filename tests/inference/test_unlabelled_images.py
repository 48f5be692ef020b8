import numpy as np
import pytest

from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnreadableData, WrongShape
from goodnet.inference.predictions import measure_accuracy, predict_classes
from goodnet.inference.unlabelled_images import widen
from tests.conftest import make_quadrants

TARGET = 2


@pytest.fixture
def further():
    """Dim images, some of which the network does not know, with labels that are all wrong, out of its classes even."""
    data = make_quadrants(60, seed=8, brightness=20)
    return Dataset.from_arrays(data.source.pixels, data.targets + 50, name="more")


def test_further_images_follow_the_clean_ones_with_the_network_s_answers(tiny_classifier, tiny_data, further):
    clean, predictions = tiny_data.subset([4, 1, 7]), predict_classes(tiny_classifier, Dataset(further.source, None))
    widened = widen(tiny_classifier, clean, further, ())
    assert (widened.used, widened.left_out) == (60, 0)
    np.testing.assert_array_equal(widened.dataset.targets, [*clean.targets, *predictions])
    pixels = widened.dataset.source.read(widened.dataset.positions)
    np.testing.assert_array_equal(pixels[:3], clean.source.read(clean.positions))
    np.testing.assert_array_equal(pixels[3:], further.source.pixels)
    assert pixels.dtype == np.uint8
    assert widened.dataset.known_targets.tolist() == 3 * [True] + 60 * [False]


def test_what_a_suspected_target_answers_may_carry_the_trigger(tiny_classifier, tiny_data, further):
    predictions = predict_classes(tiny_classifier, Dataset(further.source, None))
    hit = int((predictions == TARGET).sum())
    assert 0 < hit < 60
    widened = widen(tiny_classifier, tiny_data, further, {TARGET})
    assert (widened.used, widened.left_out) == (60 - hit, hit)
    np.testing.assert_array_equal(widened.dataset.targets[len(tiny_data) :], predictions[predictions != TARGET])
    assert TARGET in widened.dataset.targets[: len(tiny_data)], "the target's own clean images stay"


def test_accuracy_is_measured_on_the_clean_images(tiny_classifier, tiny_data, further):
    wrong = Dataset.from_arrays(tiny_data.source.pixels[:20], (tiny_data.targets[:20] + 1) % 4)
    widened = widen(tiny_classifier, wrong, further, ()).dataset
    rate = measure_accuracy(tiny_classifier, widened)
    assert (rate.n, rate.value) == (20, measure_accuracy(tiny_classifier, wrong).value)


def test_bytes_and_floats_become_floats(tiny_classifier, tiny_data, further):
    floats = Dataset.from_arrays((further.source.pixels / 255).astype(np.float32))
    widened = widen(tiny_classifier, tiny_data, floats, ()).dataset
    assert widened.source.read(widened.positions).dtype == np.float32
    np.testing.assert_array_equal(widened.images()[: len(tiny_data)], tiny_data.images())
    np.testing.assert_array_equal(widened.images()[len(tiny_data) :], floats.source.pixels)


def test_images_that_cannot_be_used(tiny_classifier, tiny_data, further):
    with pytest.raises(WrongShape, match=r"small: tiny takes images of shape \(3, 12, 12\)"):
        widen(tiny_classifier, tiny_data, Dataset.from_arrays(np.zeros((5, 3, 8, 8), np.uint8), name="small"), ())
    with pytest.raises(UnreadableData, match="more: expected images that tiny does not send to a suspected target"):
        widen(tiny_classifier, tiny_data, further, range(4))
