"""Which classes stand out from the others: robust scores that stay finite."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]

#: Makes the median absolute deviation of a normal distribution its standard deviation.
_NORMAL = 1.4826


def robust_z(values: npt.ArrayLike, *, floor: float = 0.0) -> Scores:
    """Return how many robust standard deviations each value lies above the median of the others, (classes,).

    Args:
        values: (classes,) finite numbers.
        floor: the least deviation that is believed, in the values' own unit. Few or equal values have a median absolute
            deviation near 0, which would make any difference enormous.

    Source: B. Iglewicz, D. Hoaglin, "How to detect and handle outliers", 1993 (modified z-score); each value is
    compared with the rest, so that with few classes an outlier does not widen its own yardstick.
    """
    values = np.asarray(values, dtype=np.float64)
    scores = np.empty_like(values)
    for index, value in enumerate(values):
        others = np.delete(values, index) if len(values) <= _FEW else values
        median = np.median(others)
        spread = max(_NORMAL * float(np.median(np.abs(others - median))), floor, 1e-12)
        scores[index] = (value - median) / spread
    return scores


#: With more classes than this leaving one out changes nothing.
_FEW = 200


def anomaly_index(norms: npt.ArrayLike) -> Scores:
    """Return Neural Cleanse's anomaly index, positive where a norm is *smaller* than the median, (classes,).

    Source: B. Wang et al., "Neural Cleanse", IEEE S&P 2019, section IV-B.
    """
    norms = np.asarray(norms, dtype=np.float64)
    median = np.median(norms)
    spread = _NORMAL * float(np.median(np.abs(norms - median)))
    index: Scores = (median - norms) / max(spread, 1e-12)
    return index


def expected_maximum(classes: int) -> float:
    """Return the expected largest of `classes` standard normal values: what the top score is without any outlier.

    Source: G. Blom, "Statistical estimates and transformed beta variables", 1958 (plotting position 0.375).
    """
    p = (classes - 0.375) / (classes + 0.25)
    return NormalDist().inv_cdf(p)
