"""What is known of each class of a network, how surprising it would be in a clean one, and which classes are suspected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from goodnet.algorithms.outliers import Scores, lead_surprise, robust_spread
from goodnet.algorithms.patch_probe import Shares
from goodnet.algorithms.trigger_inversion import Inversions
from goodnet.algorithms.usual_leads import USUAL_LEADS, UsualLead
from goodnet.core.backdoor import Backdoor, Patch

#: The kinds of evidence.
FREE, FAINT, SIZE, PATCH, ALL_TO_ALL = "free image", "faint image", "trigger size", "small patch", "all to all"
#: How high a class stands in all kinds together.
TOGETHER = "together"
#: A patch that moves this share of images is the trigger that is shown, and tried, whatever inversion has found.
_SHOWN = 0.5
#: More nats than this no kind has: exp(-50) is no probability that anybody could check.
_MOST_NATS = 50.0


def combine(kinds: Mapping[str, Scores]) -> Scores:
    """Return minus log of the combined p-value of each class, (classes,), from the nats of each kind, (classes,).

    The harmonic mean of p-values, which may depend on one another: one kind that is sure outweighs those that see nothing,
    at the price of having asked so many. A kind that says nothing of a class, NaN, has p = 1, and so has less than 0 nats.
    All-to-all evidence, which concerns all classes at once, is what no class can be below.

    Source: D. Wilson, "The harmonic mean p-value for combining dependent tests", PNAS 116, 2019.
    """
    nats = {kind: np.clip(np.nan_to_num(values, nan=0.0), 0.0, _MOST_NATS) for kind, values in kinds.items()}
    shifts = nats.pop(ALL_TO_ALL, None)
    count = len(kinds)
    single = np.exp(np.stack(list(nats.values()))).sum(axis=0)
    scores: Scores = np.log((single + (shifts is not None)) / count)
    if shifts is None:
        return scores
    return np.maximum(scores, np.log((np.exp(shifts) + count - 1) / count))


@dataclass(frozen=True)
class Shift:
    """A trigger that sends each class c to (c + step) % classes, and the nats by which its size surprises."""

    step: int
    nats: float
    trigger: Patch

    def backdoors(self, classes: int) -> tuple[Backdoor, ...]:
        """Return the same as one backdoor for each target."""
        return tuple(Backdoor(self.trigger, label, ((label - self.step) % classes,)) for label in range(classes))


@dataclass(frozen=True)
class Judgement:
    """The nats (classes,) of each kind, the `scores` (classes,) that they make, and the backdoors that are suspected for them.

    An all-to-all backdoor stands alone: what single classes show besides is part of it.
    """

    kinds: Mapping[str, Scores]
    scores: Scores
    suspected: tuple[Backdoor, ...]

    @property
    def of_all(self) -> bool:
        """Whether the highest score is that of an all-to-all backdoor, which no class has for itself."""
        return ALL_TO_ALL in self.kinds and float(self.scores.min()) == float(self.scores.max())


@dataclass
class Evidence:
    """What is known of each of `classes` classes.

    `values`: kind -> (classes,), high ones are suspicious, NaN where a class was not tried; `triggers`: what inversion
    found; `patches`: what small patches do; `shifts`: triggers that send every class to the next but so many;
    `unfinished` classes there was no time for.
    """

    classes: int
    values: dict[str, Scores] = field(default_factory=dict)
    triggers: Inversions | None = None
    patches: Shares | None = None
    shifts: Inversions | None = None
    unfinished: int = 0

    def add_margins(self, kind: str, labels: Sequence[int], margins: Tensor) -> None:
        """Add margins (L,), one for each of `labels`; NaN where there was no time."""
        values = margins.double().cpu().numpy()
        self.unfinished = max(self.unfinished, int((~np.isfinite(values)).sum()))
        self._add(kind, labels, values)

    def add_triggers(self, labels: Sequence[int], found: Inversions) -> None:
        """Add the sizes of the triggers recovered for `labels`: a small one surprises."""
        self.triggers = found
        self.unfinished = max(self.unfinished, len(labels) - len(found.labels))
        self._add(SIZE, found.labels, _smallness(found))

    def add_patches(self, found: Shares) -> None:
        """Add the shares of images that small opaque patches move: one class that leads the others surprises."""
        self.patches = found
        self.unfinished = max(self.unfinished, 0 if found.complete else self.classes)
        self._add(PATCH, found.labels, np.array(found.values))

    def add_shifts(self, found: Inversions) -> None:
        """Add the sizes of triggers that send every class to the next but `found.labels`: one of them may surprise."""
        self.unfinished = max(self.unfinished, self.classes - 1 - len(found.labels))
        self.shifts = found

    @property
    def shift(self) -> Shift | None:
        """The smallest of the `shifts`; None where there are not two to compare."""
        if self.shifts is None or len(self.shifts.labels) < 2:
            return None
        nats = _surprise(_smallness(self.shifts), USUAL_LEADS[ALL_TO_ALL])
        best = int(nats.argmax())
        return Shift(self.shifts.labels[best], float(nats[best]), self.shifts.patch(best))

    def compared(self) -> dict[str, Scores]:
        """Return the values (classes,) of all kinds, and how high each class stands in them together.

        A large trigger need not lead by much in any kind, but its target stands high in all of them.
        """
        heights = np.array([_heights(values, USUAL_LEADS[kind]) for kind, values in self.values.items()])
        together = np.nansum(heights, axis=0)
        # A class that was tried in no kind has no height; where all stand as high, one deviation is one.
        together[np.isnan(heights).all(axis=0)] = np.nan
        known = together[np.isfinite(together)]
        return {**self.values, TOGETHER: together / max(robust_spread(known) if len(known) else 0.0, 1.0)}

    def leads(self) -> dict[str, float]:
        """Return by how much the first value leads the second, for each kind: what `usual_leads.toml` has the means of."""
        values = self.compared()
        if self.shifts is not None:
            values[ALL_TO_ALL] = _smallness(self.shifts)
        return {kind: _lead(some[np.isfinite(some)], USUAL_LEADS[kind]) for kind, some in values.items()}

    def _add(self, kind: str, labels: Sequence[int], values: Scores) -> None:
        self.values[kind] = np.full(self.classes, np.nan)
        self.values[kind][list(labels)] = values

    def judge(self, least: float) -> Judgement:
        """Return the nats of each kind, the score of each class, and as suspected those with at least `least`, highest first."""
        kinds = {kind: _surprise(values, USUAL_LEADS[kind]) for kind, values in self.compared().items()}
        shift = self.shift
        if shift is not None:
            kinds[ALL_TO_ALL] = np.full(self.classes, shift.nats)
        scores = combine(kinds)
        if shift is not None and Judgement(kinds, scores, ()).of_all and scores[0] >= least:
            return Judgement(kinds, scores, shift.backdoors(self.classes))
        single = combine({kind: nats if kind != ALL_TO_ALL else 0 * nats for kind, nats in kinds.items()})
        guilty = [int(label) for label in np.argsort(-single, kind="stable") if single[label] >= least]
        return Judgement(kinds, scores, tuple(Backdoor(self._trigger(label), label) for label in guilty))

    def _trigger(self, label: int) -> Patch | None:
        """Return the trigger recovered for a class, None where none was tried or none worked."""
        if self.patches is not None and self.patches.of(label) >= _SHOWN:
            return self.patches.patch_of(label)
        if self.triggers is None or label not in self.triggers.labels:
            return None
        position = self.triggers.labels.index(label)
        return self.triggers.patch(position) if bool(self.triggers.worked[position]) else None


def _surprise(values: Scores, usual: UsualLead) -> Scores:
    """Return the nats of each value among those that are known, (n,); NaN for the others and where none can be compared."""
    known = np.isfinite(values)
    nats = np.full(len(values), np.nan)
    if known.sum() > 1:
        unit = _unit(values[known]) if usual.relative else 1.0
        nats[known] = lead_surprise(values[known], usual=usual.mean * unit)
    return nats


def _heights(values: Scores, usual: UsualLead) -> Scores:
    """Return how many robust deviations each value lies above the median of those that are known; NaN for the others, (n,)."""
    known = np.isfinite(values)
    if not known.any():
        return np.full(len(values), np.nan)
    unit = max(_unit(values[known]), 0.0 if usual.relative else usual.mean)
    heights: Scores = (values - np.median(values[known])) / unit
    return heights


def _lead(values: Scores, usual: UsualLead) -> float:
    """Return by how much the first of known values (n,) leads the second, in the unit of `usual`; NaN for fewer than three."""
    if len(values) < 3:
        return float("nan")
    second, first = np.sort(values)[-2:]
    return float(first - second) / (_unit(values) if usual.relative else 1.0)


def _unit(values: Scores) -> float:
    """Return the robust deviation of values (n,); at least a share of their median, as more than half may be equal."""
    return max(robust_spread(values), _LEAST_SPREAD * float(np.median(np.abs(values))), _TINY)


#: The least deviation that is believed, as a share of the median; and where all values are 0.
_LEAST_SPREAD, _TINY = 0.03, 1e-9


def _smallness(found: Inversions) -> Scores:
    """Return minus the logarithm of the sizes of triggers: (len(found.labels),)."""
    smallness: Scores = -np.log(found.sizes.clamp_min(0.5).double().numpy())
    return smallness
