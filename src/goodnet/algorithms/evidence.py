"""What is known of each class of a network, how surprising it would be in a clean one, and which classes are suspected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.stats import gamma
from torch import Tensor

from goodnet.algorithms import outliers
from goodnet.algorithms.outliers import Scores, lead_surprise, robust_spread, tail_surprise
from goodnet.algorithms.patch_probe import Shares
from goodnet.algorithms.trigger_inversion import Inversions
from goodnet.algorithms.usual_leads import USUAL_LEADS, Usual
from goodnet.core.backdoor import Backdoor, Patch

#: The kinds of evidence.
FREE, FAINT, SIZE, PATCH, ALL_TO_ALL = "free image", "faint image", "trigger size", "small patch", "all to all"
#: What is measured for small patches: a larger one reaches more classes by nature, so that each is compared with its like.
PATCHES = ("smaller patch", "larger patch")
#: How densely the top lies is asked of all these kinds at once as well, but for patches.
TOGETHER = "together"
#: Read early on the way up as well, where free images begin as noise; what is usual late is usual early.
EARLY = "free image, early"
#: What the lower of two p-values costs: it is doubled.
_TWO = float(np.log(2))
#: A patch that moves this share of images is the trigger that is shown, and tried, whatever inversion has found.
_SHOWN = 0.5
#: More nats than this no kind has: exp(-50) is no probability that anybody could check.
_MOST_NATS = 50.0


def combine(kinds: Mapping[str, Scores]) -> Scores:
    """Return minus log of the combined p-value of each class, (classes,), from the nats of each kind, (classes,).

    Fisher's method: were the p-values of m kinds independent, the sum of their nats would have a Gamma distribution with m
    degrees. They are not, as one class may be the easiest in every kind; but in each kind only those that lead have any
    nats, and the p-value of the lead counts all classes. So the sum is that of m independent p-values even where the same
    class leads in all kinds, as long as how far it leads in one says nothing of how far it leads in another. A kind that
    says nothing of a class, NaN, has p = 1.

    What the kinds say together is the second of two questions, so that the lower of both p-values is doubled.

    Source: R. Fisher, "Statistical methods for research workers", 4th edition, 1932, section 21.1.
    """
    nats = {kind: np.clip(np.nan_to_num(some, nan=0.0), 0.0, _MOST_NATS) for kind, some in kinds.items()}
    together = nats.pop(TOGETHER, None)
    scores: Scores = -gamma.logsf(sum(nats.values()), len(nats)) if nats else np.zeros_like(together)
    return scores if together is None else np.maximum(np.maximum(scores, together) - _TWO, 0.0)


def score(kinds: Mapping[str, Scores]) -> Scores:
    """Return minus log of the p-value of each class, (classes,), when all `kinds` (classes,) are asked.

    All to all is asked for besides, so that its p-value is doubled; those of single targets are already.
    """
    single = {kind: nats for kind, nats in kinds.items() if kind != ALL_TO_ALL}
    if ALL_TO_ALL not in kinds:
        return combine(single)
    of_all = np.maximum(kinds[ALL_TO_ALL] - _TWO, 0.0)
    highest: Scores = np.maximum(combine(single), of_all) if single else of_all
    return highest


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

    `of_all`: whether the highest score is that of an all-to-all backdoor, which no class has for itself.
    """

    kinds: Mapping[str, Scores]
    scores: Scores
    suspected: tuple[Backdoor, ...]
    of_all: bool = False


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
    patches: tuple[Shares, ...] = ()
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

    def add_patches(self, found: Sequence[Shares]) -> None:
        """Add the odds by which opaque patches of two sizes move images: one class that leads the others surprises."""
        self.patches = tuple(found)
        for kind, shares in zip(PATCHES, found, strict=False):
            self.unfinished = max(self.unfinished, 0 if shares.probes.complete else self.classes)
            self._add(kind, shares.labels, shares.log_odds)

    def add_shifts(self, found: Inversions) -> None:
        """Add the sizes of triggers that send every class to the next but `found.labels`: one of them may surprise."""
        self.unfinished = max(self.unfinished, self.classes - 1 - len(found.labels))
        self.shifts = found

    @property
    def shift(self) -> Shift | None:
        """The smallest of the `shifts`; None where there are not two to compare."""
        if self.shifts is None or len(self.shifts.labels) < 2:
            return None
        nats = _surprise(_shift_smallness(self.shifts), USUAL_LEADS[ALL_TO_ALL], self.classes)
        best = int(nats.argmax())
        return Shift(self.shifts.labels[best], float(nats[best]), self.shifts.patch(best))

    def together(self) -> Scores:
        """Return the surprises of each class in all kinds but patches, added up, (classes,); negative ones count as none.

        A large trigger need not lead by far in any kind, but its target stands above a dense top in several. Patches are for
        small ones.
        """
        surprises = [self._tail_surprise(kind) for kind in self.values if kind not in PATCHES]
        total: Scores = np.sum([np.zeros(self.classes), *surprises], axis=0)
        return total

    def _tail_surprise(self, kind: str) -> Scores:
        values, surprise = self.values[kind], np.zeros(self.classes)
        known = np.isfinite(values)
        if known.sum() > 1:
            usual = _usual(kind)
            floor = _least_unit(values[known]) if usual.relative else usual.mean(self.classes)
            surprise[known] = np.maximum(tail_surprise(values[known], floor=floor), 0.0)
        return surprise

    def leads(self) -> dict[str, float]:
        """Return by how much the first value leads the second, and the highest together: what is usual is their mean."""
        values = dict(self.values)
        if self.shifts is not None:
            values[ALL_TO_ALL] = _shift_smallness(self.shifts)
        leads = {kind: _lead(some[np.isfinite(some)], _usual(kind)) for kind, some in values.items()}
        sizes = [leads.pop(kind) for kind in PATCHES if kind in leads]
        return leads | ({PATCH: float(np.mean(sizes))} if sizes else {}) | {TOGETHER: float(self.together().max())}

    def _add(self, kind: str, labels: Sequence[int], values: Scores) -> None:
        self.values[kind] = np.full(self.classes, np.nan)
        self.values[kind][list(labels)] = values

    def judge(self, least: float) -> Judgement:
        """Return the nats of each kind, the score of each class, and as suspected those with at least `least`, highest first."""
        kinds = {**self._nats(), TOGETHER: self.together() / USUAL_LEADS[TOGETHER].mean(self.classes)}
        single, shift = combine(kinds), self.shift
        if shift is None:
            return Judgement(kinds, score(kinds), tuple(self._by_class(single, least)))
        of_all = max(shift.nats, 0.0)
        kinds[ALL_TO_ALL] = np.full(self.classes, of_all)
        scores = score(kinds)
        whole = of_all > _TWO and of_all - _TWO >= single.max()
        if whole and scores.max() >= least:
            return Judgement(kinds, scores, shift.backdoors(self.classes), whole)
        return Judgement(kinds, scores, tuple(self._by_class(single, least)), whole)

    def _nats(self) -> dict[str, Scores]:
        """Return the nats of each class, kind -> (classes,), NaN where it was not tried."""
        # No p-value is above 1: NaN stays.
        nats = {
            kind: np.maximum(_surprise(values, _usual(kind), self.classes), 0.0) for kind, values in self.values.items()
        }
        sizes = [nats.pop(kind) for kind in PATCHES if kind in nats]
        if sizes:
            # The size at which a class surprises most, as likely as that is among so many sizes.
            nats[PATCH] = np.maximum(np.fmax.reduce(sizes) - np.log(len(sizes)), 0.0)
        return nats

    def _by_class(self, scores: Scores, least: float) -> list[Backdoor]:
        guilty = [int(label) for label in np.argsort(-scores, kind="stable") if scores[label] >= least]
        return [Backdoor(self._trigger(label), label) for label in guilty]

    def _trigger(self, label: int) -> Patch | None:
        """Return the trigger recovered for a class, None where none was tried or none worked."""
        for shares in self.patches:  # The smallest that works.
            if shares.of(label) >= _SHOWN:
                return shares.patch_of(label)
        if self.triggers is None or label not in self.triggers.labels:
            return None
        position = self.triggers.labels.index(label)
        return self.triggers.patch(position) if bool(self.triggers.worked[position]) else None


def _usual(kind: str) -> Usual:
    if kind in PATCHES:
        return USUAL_LEADS[PATCH]
    return USUAL_LEADS[FREE if kind == EARLY else kind]


def _surprise(values: Scores, usual: Usual, classes: int) -> Scores:
    """Return the nats of each value among those that are known, (n,); NaN for the others and where none can be compared."""
    known = np.isfinite(values)
    nats = np.full(len(values), np.nan)
    if known.sum() > 1:
        unit, prior = _unit(values[known], usual), outliers.PRIOR
        if usual.relative:
            # The unit comes from the same values: where they are few it is no better known than a few gaps are.
            prior = min(prior, known.sum() / 2)
        nats[known] = lead_surprise(values[known], usual=usual.mean(classes) * unit, prior=prior)
    return nats


def _lead(values: Scores, usual: Usual) -> float:
    """Return by how much the first of known values (n,) leads the second, in the unit of `usual`; NaN for fewer than three."""
    if len(values) < 3:
        return float("nan")
    second, first = np.sort(values)[-2:]
    return float(first - second) / _unit(values, usual)


def _unit(values: Scores, usual: Usual) -> float:
    return max(robust_spread(values), _least_unit(values)) if usual.relative else 1.0


def _least_unit(values: Scores) -> float:
    """Return the least deviation of values (n,) that is believed: a share of their median, as more than half may be equal."""
    return max(_LEAST_SPREAD * float(np.median(np.abs(values))), _TINY)


#: The share of the median, and what there is where all values are 0.
_LEAST_SPREAD, _TINY = 0.03, 1e-9


def _smallness(found: Inversions) -> Scores:
    """Return minus the logarithm of the sizes of triggers: (len(found.labels),).

    How large a trigger would be that was not found nobody knows: it counts as the largest that was, so that classes do not
    stand out because the search was too short for the others.
    """
    sizes = found.sizes.clamp_min(0.5).double()
    if bool(found.worked.any()):
        sizes = torch.where(found.worked, sizes, sizes[found.worked].max())
    smallness: Scores = -np.log(sizes.numpy())
    return smallness


def _shift_smallness(found: Inversions) -> Scores:
    """Return minus the logarithm of the sizes of triggers that move all classes: (len(found.labels),).

    In most networks there is none that moves every class to another. One that was not found counts as the whole image, so that
    the only one that there is does stand out; whether it works, held-out images say.
    """
    smallness: Scores = -np.log(found.sizes.clamp_min(0.5).double().numpy())
    return smallness
