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
    if len(values) > _FEW:
        return _z_against(values, values, floor)
    return np.array([_z_against(value, np.delete(values, index), floor) for index, value in enumerate(values)])


def _z_against(values: Scores, others: Scores, floor: float) -> Scores:
    median = np.median(others)
    spread = max(robust_spread(others), floor, 1e-12)
    scores: Scores = (values - median) / spread
    return scores


#: With more classes than this leaving one out changes nothing.
_FEW = 200


def anomaly_index(norms: npt.ArrayLike) -> Scores:
    """Return Neural Cleanse's anomaly index, positive where a norm is *smaller* than the median, (classes,).

    Source: B. Wang et al., "Neural Cleanse", IEEE S&P 2019, section IV-B.
    """
    norms = np.asarray(norms, dtype=np.float64)
    index: Scores = (np.median(norms) - norms) / max(robust_spread(norms), 1e-12)
    return index


def expected_maximum(classes: int) -> float:
    """Return the expected largest of `classes` standard normal values: what the top score is without any outlier.

    Source: G. Blom, "Statistical estimates and transformed beta variables", 1958 (plotting position 0.375).
    """
    p = (classes - 0.375) / (classes + 0.25)
    return NormalDist().inv_cdf(p)


#: How many leads the usual one counts as: it is the mean of about so many clean networks' leads.
PRIOR = 27.0


#: Fewer classes than this say little about one another.
LEAST_CLASSES = 4


def prior_of(count: int) -> float:
    """Return how many leads the usual one counts as where the unit of `count` values comes from these values.

    Where they are few, the unit is no better known than a few leads are.
    """
    return min(PRIOR, count / 2)


def lead_score(values: npt.ArrayLike, *, usual: float, prior: float = PRIOR) -> Scores:
    """Return the score of each value, (classes,): minus the natural log of its p-value among values of one distribution.

    If the upper tail of that distribution is exponential, the lead of the j-th highest value over the next is exponentially
    distributed, with a mean that is 1/j of the first one's. So j times the lead has the same distribution for every j. The
    leads further down show how large a lead is usual in this network. `usual`, the mean in clean networks, counts as `prior`
    further leads. It matters most where there are few values.

    Several outliers do not hide one another. The j whose lead has the highest score sets the first j values apart together.
    A number of j outliers is taken to be four times less likely than j - 1; this pays for trying several j. Then the
    others are compared again, and never get a higher score than those before them.

    Args:
        values: (classes,) finite numbers, at least 2; high ones are suspicious.
        usual: the mean lead of the first value over the second in clean networks, in the values' own unit.
        prior: how many leads `usual` counts as; fewer where it is not known well.

    Source: A. Renyi, "On the theory of order statistics", Acta Mathematica Hungarica 4, 1953 (spacings of exponential
    values); J. Pickands, Annals of Statistics 3, 1975 (the upper tail of most distributions is exponential); B. Rosner,
    Technometrics 25, 1983 (several outliers). The prior is conjugate, so that the predictive p-value of j leads is (1 + j *
    lead_j / (prior * usual + sum of i * lead_i)) ** -(prior + n), for the n leads below, see A. Gelman et al., "Bayesian Data
    Analysis", 2013, section 2.6.
    """
    values = np.asarray(values, dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    found = np.minimum((ranked - ranked[0]) / usual, 0.0)
    start, highest, most = 0, np.inf, max(1, len(values) // 4)
    while start < most:
        score, count = _cut_off(ranked[start:], most - start, usual, prior)
        if score <= 0:
            break
        highest = min(score, highest)
        found[start : start + count] = highest
        start += count
    scores = np.empty(len(values))
    scores[order] = found
    return scores


#: How likely one outlier more is; the chances of all counts sum to 1.
_FURTHER = 0.25


def _cut_off(ranked: Scores, most: int, usual: float, prior: float) -> tuple[float, int]:
    """Return the highest score that the first of descending values get, and how many of them (at most `most`) get it."""
    spacings = np.arange(1, len(ranked)) * -np.diff(ranked)
    found = []
    for count in range(1, most + 1):
        below = spacings[count : count + len(ranked) // 2]
        share = spacings[count - 1] / (prior * usual + below.sum())
        chance = (1 - _FURTHER) * _FURTHER ** (count - 1)
        found.append(((prior + len(below)) * float(np.log1p(share)) + float(np.log(chance)), count))
    return max(found)


def robust_spread(values: npt.ArrayLike) -> float:
    """Return the median absolute deviation of values (n,), as large as the standard deviation of normal ones."""
    values = np.asarray(values, dtype=np.float64)
    return _NORMAL * float(np.median(np.abs(values - np.median(values))))


def least_unit(values: Scores) -> float:
    """Return the least deviation of values (n,) that is believed: a share of their median, as more than half may be equal."""
    return max(_LEAST_SPREAD * float(np.median(np.abs(values))), _TINY)


#: The share of the median, and what there is where all values are 0.
_LEAST_SPREAD, _TINY = 0.03, 1e-9


def tail_score(values: npt.ArrayLike, *, floor: float = 0.0) -> Scores:
    """Return the score of each value: minus the natural log of how many of the others would be as high by chance.

    The others' upper tail is taken to be exponential above a high quantile, its scale unknown and estimated: 0 or less
    is as usual, 3 a class such as one network in twenty has by chance, whatever its number of classes. Unlike a z it
    measures the upper end of the values, not the middle. Several outliers do not hide one another: the j-th largest value
    is compared with those below it, minus log j because j values were tried. A value never has a lower score than one
    below it.

    Args:
        values: (classes,) finite numbers, at least 2.
        floor: the scale is at least this, in the values' own unit; with 2 or 3 classes it is all that there is.

    Source: J. Pickands, "Statistical inference using extreme order statistics", Annals of Statistics 3, 1975 (excesses
    over a threshold); B. Rosner, "Percentage points for a generalized ESD many-outlier procedure", Technometrics 25,
    1983 (from the inside outwards). Differs: an exponential tail; its scale from the median excess, its uncertainty by
    the predictive distribution.
    """
    return _from_inside(np.asarray(values, dtype=np.float64), floor)


def _from_inside(values: Scores, floor: float) -> Scores:
    """Compare the highest values with those below them, from the inside outwards, and the rest with one another."""
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    most = max(1, len(values) // 4)
    scores = np.empty(len(values))
    highest = -np.inf
    for rank in range(most - 1, -1, -1):
        highest = max(highest, _above_tail(ranked[rank], ranked[rank + 1 :], floor) - np.log(rank + 1))
        scores[rank] = highest
    rest = ranked[most:]
    scores[most:] = [min(_above_tail(value, rest, floor), highest) for value in rest]
    result = np.empty(len(values))
    result[order] = scores
    return result


#: The tail's scale is at least this share of the robust deviation; a few values may lie together by chance.
_LEAST = 0.25
#: With at most this many values the upper half is the tail.
_SHORT = 11


def _tail_size(count: int) -> int:
    return min(max(4, round(0.1 * count)), 40) if count > _SHORT else max(0, min((count + 1) // 2, count - 1))


def _above_tail(value: float, others: Scores, floor: float) -> float:
    """Return the score of `value`: an exponential whose scale comes from k values has the tail (1 + e / k) ** -k."""
    edge, scale, k = _tail(others, floor)
    degrees = max(k, 2)
    return float(degrees * np.log1p(max(value - edge, 0.0) / scale / degrees) - np.log(max(k, 1)))


def _tail(others: Scores, floor: float) -> tuple[float, float, int]:
    """Return where the upper tail of descending values begins, its scale, and how many values lie in it."""
    k = _tail_size(len(others))
    edge = float(others[k])
    deviation = robust_spread(others)
    scale = float(np.median(others[:k] - edge)) / np.log(2) if k else 0.0
    return edge, max(scale, _LEAST * deviation, floor, 1e-9), k
