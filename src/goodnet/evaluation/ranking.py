"""How well scores tell two groups apart, and means over cells, each with its n and a 95 % interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from goodnet.core.results import Rate, Record

Scores = npt.NDArray[np.float64]

#: Resamples of a bootstrap interval; its seed is fixed, so the same numbers give the same interval.
_RESAMPLES = 2000


class Mean(Record):
    """A number that is no share of cases, over `n` of them; its interval is a 95 % bootstrap, None where n is 1."""

    value: float
    n: int
    low: float | None
    high: float | None


def mean_of(values: Sequence[float]) -> Mean | None:
    """Return the mean of values with a percentile bootstrap interval (B. Efron, Annals of Statistics 7, 1979)."""
    if not len(values):
        return None
    array = np.asarray(values, np.float64)
    if len(array) == 1:
        return Mean(value=float(array[0]), n=1, low=None, high=None)
    drawn = np.random.default_rng(0).choice(array, (_RESAMPLES, len(array))).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Mean(value=float(array.mean()), n=len(array), low=float(low), high=float(high))


def area_under_roc(positive: npt.ArrayLike, negative: npt.ArrayLike) -> float:
    """Return the probability that a positive scores higher than a negative, ties counted half (Mann and Whitney, 1947)."""
    high, low = np.asarray(positive, np.float64), np.sort(np.asarray(negative, np.float64))
    below, not_above = np.searchsorted(low, high, "left"), np.searchsorted(low, high, "right")
    return float((below + not_above).sum() / (2 * len(high) * len(low)))


def area_with_interval(positive: Sequence[float], negative: Sequence[float]) -> Mean | None:
    """Return the area under the ROC curve, with a bootstrap interval; None if a group is empty.

    Each group is resampled by itself, and there is no interval if one has a single score. n is the size of both together.
    """
    if not len(positive) or not len(negative):
        return None
    value, n = area_under_roc(positive, negative), len(positive) + len(negative)
    if min(len(positive), len(negative)) == 1:
        return Mean(value=value, n=n, low=None, high=None)
    rng = np.random.default_rng(0)
    drawn = [
        area_under_roc(rng.choice(positive, len(positive)), rng.choice(negative, len(negative)))
        for _ in range(_RESAMPLES)
    ]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Mean(value=value, n=n, low=float(low), high=float(high))


def detected_at(triggered: npt.ArrayLike, clean: npt.ArrayLike, false_positives: float) -> Rate:
    """Return the share of triggered images above the lowest threshold that at most `false_positives` of the clean exceed.

    Args:
        triggered: (N,) scores, higher is more suspicious.
        clean: (M,) scores.
        false_positives: a fraction in [0, 1).
    """
    scores, ordered = np.asarray(triggered, np.float64), np.sort(np.asarray(clean, np.float64))[::-1]
    threshold = ordered[int(np.floor(false_positives * len(ordered)))]
    return Rate.of(int((scores > threshold).sum()), len(scores))
