import numpy as np
import pytest
from scipy.stats import median_abs_deviation, ttest_ind

from goodnet.algorithms.outliers import (
    anomaly_index,
    expected_maximum,
    lead_surprise,
    normal_surprise,
    robust_z,
    tail_surprise,
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


def test_surprise_is_the_log_of_the_number_expected_by_chance():
    # Below 20: nine values, the upper half of which exceeds the sixth largest, 4, by 5, 4, 3, 2, 1: median 3.
    values = np.array([20.0, 9, 8, 7, 6, 5, 4, 3, 2, 1])
    scale = 3 / np.log(2)
    expected = 5 * np.log1p((20 - 4) / scale / 5) - np.log(5)
    assert tail_surprise(values)[0] == pytest.approx(expected)
    assert tail_surprise(values).argmax() == 0


def test_surprise_does_not_depend_on_order_shift_or_unit():
    values = np.random.default_rng(0).normal(size=50)
    shuffled = np.random.default_rng(1).permutation(50)
    np.testing.assert_allclose(tail_surprise(values)[shuffled], tail_surprise(values[shuffled]))
    np.testing.assert_allclose(tail_surprise(values), tail_surprise(7 * values - 3))


def test_three_outliers_do_not_hide_one_another():
    values = np.concatenate([np.random.default_rng(0).normal(size=27), [20.0, 21.0, 30.0]])
    assert (tail_surprise(values)[27:] > 4).all()
    assert (tail_surprise(values)[:27] < 2).all()


@pytest.mark.parametrize("classes", [10, 43, 200, 1283])
def test_a_surprise_of_three_is_rare_among_classes_that_are_alike(classes):
    largest = [tail_surprise(np.random.default_rng(seed).normal(size=classes)).max() for seed in range(100)]
    assert np.mean(np.array(largest) > 3) <= 0.05


@pytest.mark.parametrize("values", [[1.0, 5.0], [1.0, 1.0, 1.0], [2.0] * 10])
def test_few_or_equal_values_stay_finite(values):
    assert np.isfinite(tail_surprise(values, floor=0.1)).all()


def test_two_classes_are_compared_by_the_floor_alone():
    assert tail_surprise([0.0, 4.0], floor=1.0)[1] == pytest.approx(2 * np.log(3))


def test_normal_surprise_is_the_log_of_classes_times_the_p_value_of_a_t_test():
    values = np.array([5.0, 1.0, 2.0, 1.5, 0.5, 2.5, 1.2])
    p = ttest_ind(values[:1], values[1:], alternative="greater").pvalue
    assert normal_surprise(values)[0] == pytest.approx(-np.log(len(values) * p))


def test_normal_surprise_finds_two_outliers_together():
    values = np.concatenate([np.random.default_rng(0).normal(size=8), [9.0, 10.0]])
    assert (normal_surprise(values)[8:] > 3.5).all()
    assert (normal_surprise(values)[:8] < 2).all()


@pytest.mark.parametrize("classes", [4, 10, 20])
def test_a_normal_surprise_of_three_is_rare_among_classes_that_are_alike(classes):
    largest = [normal_surprise(np.random.default_rng(seed).normal(size=classes)).max() for seed in range(200)]
    assert np.mean(np.array(largest) > 3) <= 0.06


@pytest.mark.parametrize("values", [[1.0, 5.0], [1.0, 1.0, 1.0], [2.0] * 10])
def test_normal_surprise_of_few_or_equal_values_stays_finite(values):
    assert np.isfinite(normal_surprise(values, floor=0.1)).all()


def test_a_lead_is_counted_in_usual_leads():
    # 0.9 leads 0.4 by 0.5, five times the usual 0.1; the others lead nobody and lie below the first.
    nats = lead_surprise([0.4, 0.9, 0.3, 0.4, 0.1], floor=0.1)
    assert nats[1] == pytest.approx(5.0)
    assert max(np.delete(nats, 1)) <= 0
    assert nats[4] == pytest.approx(-8.0)


def test_two_that_lead_together_do_not_hide_one_another():
    values = [0.95, 1.0, *np.linspace(0.0, 0.3, 10)]
    nats = lead_surprise(values, floor=0.1)
    # The first leads the second by 0.05; both lead the third by 0.65, less log 2 for looking twice.
    assert nats[0] == nats[1] == pytest.approx(6.5 - np.log(2))
    assert max(nats[2:]) <= 0
