from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from goodnet.core.dataset import Dataset
from goodnet.core.errors import MethodFailed, WrongShape
from goodnet.formats.pytorch import from_module
from goodnet.guards.calibration import CalibratedGuard, calibrate, score_all


@pytest.mark.parametrize(
    ("n", "false_refusals", "threshold", "expected"),
    [
        (99, 0.01, 99, 1 / 100),  # one of a hundred ranks lies above the largest of 99
        (199, 0.01, 198, 2 / 200),
        (50, 0.01, 50, 1 / 51),  # too few for a hundredth: the largest, and what that gives
        (9, 0.3, 7, 3 / 10),
        (1, 0.01, 1, 1 / 2),
    ],
)
def test_the_threshold_is_the_lowest_rank_that_keeps_the_rate(n, false_refusals, threshold, expected):
    scores = np.random.default_rng(0).permutation(np.arange(1.0, n + 1))
    found = calibrate(scores, false_refusals)
    assert (found.threshold, found.n) == (threshold, n)
    assert found.expected == pytest.approx(expected)
    # Clopper and Pearson: with the bound as the true rate, as few refused as here have probability 0.05.
    assert stats.binom.cdf(n - threshold, n, found.bound) == pytest.approx(0.05)


def test_the_bound_without_any_refused_is_the_rule_of_three():
    assert calibrate(np.arange(50.0), 0.01).bound == pytest.approx(1 - 0.05 ** (1 / 50))


def test_expected_rate_and_bound_hold_for_further_images():
    rng = np.random.default_rng(1)
    rates, bounds, expected = [], [], []
    for _ in range(2000):
        found = calibrate(rng.exponential(size=120), 0.02)
        rates.append(np.exp(-found.threshold))
        bounds.append(found.bound)
        expected.append(found.expected)
    assert np.mean(rates) == pytest.approx(expected[0], abs=0.001)
    assert np.mean(np.array(rates) <= bounds) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("scores", [[], [1.0, np.nan], [np.inf]])
def test_no_threshold_without_finite_scores(scores):
    with pytest.raises(MethodFailed, match="expected finite scores of clean images"):
        calibrate(scores, 0.01)


@pytest.mark.parametrize(("at_least", "threshold", "expected"), [(0.0, 99.0, 1 / 100), (200.0, 200.0, 1 / 100)])
def test_a_threshold_that_is_known_to_be_needed(at_least, threshold, expected):
    found = calibrate(np.arange(1.0, 100.0), 0.01, at_least=at_least)
    assert (found.threshold, found.expected) == (threshold, pytest.approx(expected))


def test_a_higher_threshold_refuses_less():
    found = calibrate(np.arange(1.0, 100.0), 0.1, at_least=95.5)
    assert (found.threshold, found.expected) == (95.5, pytest.approx(5 / 100))


class Brightness(CalibratedGuard):
    """Scores an image by its brightness above the mean of those that were fitted to; remembers them."""

    most_images = 60

    def make_reader(self, classifier, clean, *, suspected=(), repaired=None, seed):
        return lambda images: (images[:, 0, 0, 0],)

    def fit_judge(self, classifier, readings):
        (values,) = readings
        seen = set(values.tolist())

        def judge(given):
            self.judged.append((seen, set(given[0].tolist())))
            return given[0] - values.mean()

        return judge

    judged: ClassVar[list] = []


@pytest.fixture
def numbered():
    """Makes images of which each has a brightness of its own."""
    return lambda count: Dataset.from_arrays(np.linspace(0, 1, count, dtype=np.float32)[:, None, None, None])


@pytest.fixture
def any_network():
    return from_module(nn.Sequential(nn.Flatten(), nn.Linear(1, 2)), (1, 1, 1))


def test_no_clean_image_is_judged_by_what_was_fitted_to_it(any_network, numbered):
    clean = numbered(23)
    Brightness.judged.clear()
    fitted = Brightness().fit(any_network, clean, seed=0)
    assert all(not seen & judged for seen, judged in Brightness.judged)
    values = clean.images().flatten().numpy()
    assert set().union(*(judged for _, judged in Brightness.judged)) == set(values.tolist())
    assert len(fitted.judges) == 10
    # What an image scores when it is left out: the mean of the others does not know it.
    by_hand = {}
    for seen, judged in Brightness.judged:
        by_hand |= {value: value - np.mean(list(seen)) for value in judged}
    np.testing.assert_allclose(fitted.clean_scores, [by_hand[float(value)] for value in values], atol=1e-6)
    assert fitted.threshold == fitted.calibration.threshold == pytest.approx(fitted.clean_scores.max())
    # A new image is judged by all of them.
    new = fitted.scores(torch.full((1, 1, 1, 1), 0.7)).item()
    assert new == pytest.approx(np.mean([0.7 - np.mean(list(seen)) for seen, _ in Brightness.judged[:10]]), abs=1e-6)


def test_of_many_images_as_many_are_read_as_the_method_asks_for(any_network, numbered):
    fitted = Brightness().fit(any_network, numbered(100), seed=0)
    assert fitted.calibration.n == 60
    assert np.isfinite(fitted.clean_scores).sum() == 60


def test_a_single_image_cannot_be_both_fitted_to_and_judged(any_network, numbered):
    with pytest.raises(MethodFailed, match="at least 2 clean images"):
        Brightness().fit(any_network, numbered(1), seed=0)
    assert Brightness().fit(any_network, numbered(2), seed=0).calibration.n == 2


def test_images_that_do_not_fit_are_refused(any_network):
    with pytest.raises(WrongShape):
        Brightness().fit(any_network, Dataset.from_arrays(np.zeros((5, 3, 1, 1), np.float32)), seed=0)


class Scores:
    threshold = 0.5

    def scores(self, images):
        return images.flatten()


def test_scores_come_in_the_order_of_the_images(numbered):
    data = numbered(150)
    assert np.allclose(score_all(Scores(), data), np.linspace(0, 1, 150))


def test_a_score_that_is_not_a_number_is_an_error():
    class Nowhere(Scores):
        def scores(self, images):
            return torch.full((len(images),), torch.nan)

    with pytest.raises(MethodFailed, match="no score for 3 of 3 images of data"):
        score_all(Nowhere(), Dataset.from_arrays(np.zeros((3, 1, 1, 1), np.float32)))
