import numpy as np
import pytest
from scipy.stats import median_abs_deviation

from goodnet.evidence.outliers import (
    PRIOR,
    anomaly_index,
    expected_maximum,
    lead_score,
    robust_spread,
    robust_z,
    tail_score,
)


def test_robust_z_compares_each_value_with_the_rest():
    values = np.array([1.0, 2.0, 3.0, 4.0, 50.0])
    rest = np.array([1.0, 2.0, 3.0, 4.0])
    expected = (50.0 - 2.5) / median_abs_deviation(rest, scale="normal")
    assert robust_z(values)[4] == pytest.approx(expected, rel=1e-3)


def test_many_values_share_one_yardstick():
    values = np.random.default_rng(0).normal(size=500)
    expected = (values - np.median(values)) / median_abs_deviation(values, scale="normal")
    np.testing.assert_allclose(robust_z(values), expected, rtol=1e-3)


def test_equal_values_and_two_classes_stay_finite():
    assert robust_z([3.0, 3.0, 3.0], floor=0.1).tolist() == [0.0, 0.0, 0.0]
    assert robust_z([1.0, 2.0], floor=0.5).tolist() == [-2.0, 2.0]
    assert robust_z([1.0, 1.0, 2.0], floor=0.5)[2] == 2.0


def test_anomaly_index_is_the_papers():
    norms = np.array([20.0, 60.0, 65.0, 70.0, 75.0])
    expected = abs(20 - np.median(norms)) / median_abs_deviation(norms, scale="normal")
    assert anomaly_index(norms)[0] == pytest.approx(expected, rel=1e-3)
    assert anomaly_index(norms)[4] < 0


@pytest.mark.parametrize("classes", [10, 100, 1283])
def test_expected_maximum_of_normal_values(classes):
    draws = np.random.default_rng(0).normal(size=(2000, classes)).max(axis=1).mean()
    assert expected_maximum(classes) == pytest.approx(draws, abs=0.06)


def test_the_p_value_of_a_lead_is_the_predictive_one():
    # 0.9 leads 0.4 by 0.5. Below it are the gaps 0 and 0.1, times 2 and 3; of five values the upper half has no more.
    values = [0.4, 0.9, 0.3, 0.4, 0.1]
    expected = (PRIOR + 2) * np.log1p(0.5 / (PRIOR * 0.1 + 2 * 0.0 + 3 * 0.1)) + np.log(0.75)
    scores = lead_score(values, usual=0.1)
    assert scores[1] == pytest.approx(expected)
    assert scores.tolist() == pytest.approx([-5.0, expected, -6.0, -5.0, -8.0])


def test_the_predictive_p_value_is_that_of_simulated_leads():
    # The scale has the conjugate prior: an inverse gamma. The lead of the largest of exponential values is exponential again.
    draws = np.random.default_rng(0)
    scale = PRIOR * 0.2 / draws.gamma(PRIOR, size=400_000)
    leads = draws.exponential(scale)
    (scores, _) = lead_score([1.5, 0.0], usual=0.2)
    assert 0.75 * np.exp(-scores) == pytest.approx(np.mean(leads > 1.5), rel=0.1)


def test_two_that_lead_together_do_not_hide_one_another():
    values = np.array([0.95, 1.0, *np.linspace(0.0, 0.3, 10)])
    scores = lead_score(values, usual=0.1)
    # Both lead the third by 0.65, twice that is to be explained; below it nine gaps of 1/30, the upper half of them count.
    share = 2 * 0.65 / (PRIOR * 0.1 + sum(range(3, 9)) / 30)
    assert scores[0] == scores[1] == pytest.approx((PRIOR + 6) * np.log1p(share) + np.log(0.75 / 4))
    assert max(scores[2:]) < 0.1


def test_a_value_behind_an_outlier_is_compared_with_the_rest_alone():
    values = np.array([9.0, 0.5, *np.linspace(0.0, 0.3, 10)])
    scores = lead_score(values, usual=0.1)
    assert scores[1] == pytest.approx(lead_score(values[1:], usual=0.1)[0])
    assert scores[0] > 25
    assert 0 < scores[1] < 3


def test_a_score_does_not_depend_on_order_shift_or_unit():
    values = np.random.default_rng(0).normal(size=50)
    shuffled = np.random.default_rng(1).permutation(50)
    whole = lead_score(values, usual=0.3)
    np.testing.assert_allclose(whole[shuffled], lead_score(values[shuffled], usual=0.3))
    np.testing.assert_allclose(whole, lead_score(7 * values - 3, usual=2.1))


def test_three_outliers_do_not_hide_one_another():
    values = np.concatenate([np.random.default_rng(0).normal(size=27), [20.0, 21.0, 30.0]])
    scores = lead_score(values, usual=0.4)
    assert (scores[27:] > 6).all()
    assert (scores[:27] < 2).all()


@pytest.mark.parametrize("classes", [3, 10, 43, 200, 1283])
def test_p_values_hold_among_classes_that_are_alike(classes):
    draws = np.random.default_rng(0)
    largest = np.array([lead_score(draws.exponential(size=classes), usual=1.0).max() for _ in range(2000)])
    for level in (0.1, 0.02):
        # The rule looks at several leads, and pays for it.
        assert np.mean(np.exp(-largest) <= level) <= 1.2 * level
    assert 0.2 <= np.mean(np.exp(-largest) <= 0.3) <= 0.36


@pytest.mark.parametrize("values", [[1.0, 5.0], [1.0, 1.0, 1.0], [2.0] * 10])
def test_few_or_equal_values_stay_finite(values):
    assert np.isfinite(lead_score(values, usual=0.1)).all()


def test_the_robust_spread_is_the_deviation_of_normal_values():
    assert robust_spread(np.random.default_rng(0).normal(3, 2, 20_000)) == pytest.approx(2, rel=0.03)
    assert robust_spread([1.0, 1.0, 1.0, 9.0]) == 0


def test_tail_score_is_the_log_of_the_number_expected_by_chance():
    # Below 20: nine values, the upper half of which exceeds the sixth largest, 4, by 5, 4, 3, 2, 1: median 3.
    values = np.array([20.0, 9, 8, 7, 6, 5, 4, 3, 2, 1])
    scale = 3 / np.log(2)
    expected = 5 * np.log1p((20 - 4) / scale / 5) - np.log(5)
    assert tail_score(values)[0] == pytest.approx(expected)
    assert tail_score(values).argmax() == 0


def test_tail_score_does_not_depend_on_order_shift_or_unit():
    values = np.random.default_rng(0).normal(size=50)
    shuffled = np.random.default_rng(1).permutation(50)
    np.testing.assert_allclose(tail_score(values)[shuffled], tail_score(values[shuffled]))
    np.testing.assert_allclose(tail_score(values), tail_score(7 * values - 3))


def test_in_the_tail_three_outliers_do_not_hide_one_another():
    values = np.concatenate([np.random.default_rng(0).normal(size=27), [20.0, 21.0, 30.0]])
    assert (tail_score(values)[27:] > 4).all()
    assert (tail_score(values)[:27] < 2).all()


@pytest.mark.parametrize("classes", [10, 43, 200, 1283])
def test_a_tail_score_of_three_is_rare_among_classes_that_are_alike(classes):
    largest = [tail_score(np.random.default_rng(seed).normal(size=classes)).max() for seed in range(100)]
    assert np.mean(np.array(largest) > 3) <= 0.05


@pytest.mark.parametrize("values", [[1.0, 5.0], [1.0, 1.0, 1.0], [2.0] * 10])
def test_tail_scores_of_few_or_equal_values_stay_finite(values):
    assert np.isfinite(tail_score(values, floor=0.1)).all()


def test_in_the_tail_two_classes_are_compared_by_the_floor_alone():
    assert tail_score([0.0, 4.0], floor=1.0)[1] == pytest.approx(2 * np.log(3))
