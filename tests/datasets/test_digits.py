"""scikit-learn's digits as a data set."""

import sys

import numpy as np
import pytest

from goodnet.core.errors import InvalidOption, UnreadableData
from goodnet.datasets.digits import read_digits

sklearn = pytest.importorskip("sklearn.datasets")


@pytest.mark.parametrize("size", [8, 16, 28])
def test_there_are_1797_grey_digits_of_the_size(size):
    digits = read_digits(size)
    assert len(digits) == 1797
    assert digits.image_shape == (1, size, size)
    assert digits.source.read(np.arange(3)).dtype == np.uint8
    assert np.bincount(digits.targets).min() >= 170
    assert digits.class_names == tuple("0123456789")


def test_at_their_own_size_the_pixels_are_those_stored():
    stored = sklearn.load_digits()["images"]
    pixels = read_digits(8).source.read(np.arange(1797))[:, 0]
    assert np.abs(pixels - stored / 16 * 255).max() <= 0.5


def test_scaled_up_they_keep_their_brightness():
    small, large = (read_digits(size).images().mean((1, 2, 3)) for size in (8, 16))
    assert large.numpy() == pytest.approx(small.numpy(), abs=0.02)


@pytest.mark.parametrize("size", [7, 257])
def test_other_sizes_are_refused(size):
    with pytest.raises(InvalidOption, match=f"8 to 256 pixels, got {size}"):
        read_digits(size)


def test_without_scikit_learn_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UnreadableData, match="pip install scikit-learn"):
        read_digits()
