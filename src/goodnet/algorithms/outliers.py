"""Which classes stand out from the others: robust scores that stay finite."""

from __future__ import annotations

from statistics import NormalDist
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import stats

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
    if len(values) > _FEW:
        return _z_against(values, values, floor)
    return np.array([_z_against(value, np.delete(values, index), floor) for index, value in enumerate(values)])


def _z_against(values: Scores, others: Scores, floor: float) -> Scores:
    median = np.median(others)
    spread = max(_NORMAL * float(np.median(np.abs(others - median))), floor, 1e-12)
    scores: Scores = (values - median) / spread
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


class Surprise(Protocol):
    """How far one value lies above others, in nats: minus log of how many of them would lie as high by chance."""

    def __call__(self, value: float, others: Scores, floor: float, /) -> float:
        """Return the surprise of `value` among `others`, (n,) in descending order."""


def normal_surprise(values: npt.ArrayLike, *, floor: float = 0.0) -> Scores:
    """Return by how much each value surprises among the others if they are alike and normal, in nats, (classes,).

    For few classes, whose upper tail is too short to be estimated, and for values that have a common cause. Several
    outliers do not hide one another, see `tail_surprise`.

    Args:
        values: (classes,) finite numbers, at least 2.
        floor: the standard deviation is at least this, in the values' own unit.

    Source: F. Grubbs, "Procedures for detecting outlying observations in samples", Technometrics 11, 1969 (the value is
    left out of its own yardstick: Student's t); B. Rosner, Technometrics 25, 1983 (several outliers).
    """
    return _from_inside(np.asarray(values, dtype=np.float64), _among_normal, floor)


def _among_normal(value: float, others: Scores, floor: float) -> float:
    n = len(others)
    spread = float(others.std(ddof=1)) if n > 1 else 0.0
    t = (value - others.mean()) / (max(spread, floor, 1e-9) * np.sqrt(1 + 1 / n))
    return float(-stats.t.logsf(t, max(n - 1, 1)) - np.log(n + 1))


def lead_surprise(values: npt.ArrayLike, *, floor: float) -> Scores:
    """Return by how much each value leads those below it, in nats, (classes,): what leads are in clean networks is known.

    The largest of alike values leads the second by an exponential amount, however many they are. Several outliers do not hide
    one another: the first j of them lead the one after, less log j for having looked j times.

    Args:
        values: (classes,) finite numbers, at least 2.
        floor: the mean lead in clean networks, in the values' own unit.

    Source: A. Renyi, "On the theory of order statistics", Acta Mathematica Hungarica 4, 1953 (spacings of exponential values).
    """
    values = np.asarray(values, dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    most = max(1, min(len(values) // 4, _MOST_OUTLIERS))
    leads = (ranked[:most] - ranked[1 : most + 1]) / floor - np.log(np.arange(1, most + 1))
    nats = np.empty(len(values))
    nats[order[:most]] = np.maximum.accumulate(leads[::-1])[::-1]
    nats[order[most:]] = np.minimum((ranked[most:] - ranked[0]) / floor, 0.0)
    return nats


def tail_surprise(values: npt.ArrayLike, *, floor: float = 0.0) -> Scores:
    """Return by how much each value surprises, in nats: minus log of how many of the others would lie as high by chance.

    The others' upper tail is taken to be exponential above a high quantile, its scale unknown and estimated: 0 or less
    is as usual, 3 a class such as one network in twenty has by chance, whatever its number of classes. Unlike a z it
    asks how dense the top is, not how wide the middle. Several outliers do not hide one another: the j-th largest value
    is compared with those below it, less log j for having looked j times, and a value is never less surprising than one
    below it.

    Args:
        values: (classes,) finite numbers, at least 2.
        floor: the scale is at least this, in the values' own unit; with 2 or 3 classes it is all that there is.

    Source: J. Pickands, "Statistical inference using extreme order statistics", Annals of Statistics 3, 1975 (excesses
    over a threshold); B. Rosner, "Percentage points for a generalized ESD many-outlier procedure", Technometrics 25,
    1983 (from the inside outwards). Differs: an exponential tail; its scale from the median excess, its uncertainty by
    the predictive distribution.
    """
    return _from_inside(np.asarray(values, dtype=np.float64), _above_tail, floor)


def _from_inside(values: Scores, surprise: Surprise, floor: float) -> Scores:
    """Compare the highest values with those below them, from the inside outwards, and the rest with one another."""
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    most = max(1, min(len(values) // 4, _MOST_OUTLIERS))
    surprises = np.empty(len(values))
    highest = -np.inf
    for rank in range(most - 1, -1, -1):
        highest = max(highest, surprise(ranked[rank], ranked[rank + 1 :], floor) - np.log(rank + 1))
        surprises[rank] = highest
    rest = ranked[most:]
    surprises[most:] = [min(surprise(value, rest, floor), highest) for value in rest]
    result = np.empty(len(values))
    result[order] = surprises
    return result


#: At most so many outliers are looked for, and at most a quarter of the classes.
_MOST_OUTLIERS = 10
#: The tail's scale is at least this share of the robust deviation; a few values may lie together by chance.
_LEAST = 0.25
#: With at most this many values the upper half is the tail.
_SHORT = 11


def _tail_size(count: int) -> int:
    return min(max(4, round(0.1 * count)), 40) if count > _SHORT else max(0, min((count + 1) // 2, count - 1))


def _above_tail(value: float, others: Scores, floor: float) -> float:
    """Return the surprise of `value`: an exponential whose scale comes from k values has the tail (1 + e / k) ** -k."""
    edge, scale, k = _tail(others, floor)
    degrees = max(k, 2)
    return float(degrees * np.log1p(max(value - edge, 0.0) / scale / degrees) - np.log(max(k, 1)))


def _tail(others: Scores, floor: float) -> tuple[float, float, int]:
    """Return where the upper tail of descending values begins, its scale, and how many values lie in it."""
    k = _tail_size(len(others))
    edge = float(others[k])
    deviation = _NORMAL * float(np.median(np.abs(others - np.median(others))))
    scale = float(np.median(others[:k] - edge)) / np.log(2) if k else 0.0
    return edge, max(scale, _LEAST * deviation, floor, 1e-9), k
