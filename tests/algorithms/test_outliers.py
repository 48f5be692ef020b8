import numpy as np
import pytest
from scipy.stats import median_abs_deviation

from goodnet.algorithms.outliers import anomaly_index, expected_maximum, robust_z


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
