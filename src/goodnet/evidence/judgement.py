"""What is known of each class of a network, how rare it would be in a clean one, and which classes are suspected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from goodnet.core.backdoor import Backdoor, Patch
from goodnet.evidence import outliers
from goodnet.evidence.outliers import Scores, lead_score, least_unit, prior_of, robust_spread, tail_score
from goodnet.evidence.pair_sizes import PairSizes
from goodnet.evidence.square_margins import SquareMargins
from goodnet.evidence.usual_leads import GROUPS, USUAL_LEADS, Usual
from goodnet.triggers.class_pairs import name_pair
from goodnet.triggers.inversion import Inversions
from goodnet.triggers.patch_probe import Shares

#: The kinds of evidence.
MARGIN, BLEND, SIZE, PATCH, SQUARE, PAIR, ALL_TO_ALL = (
    "maximum margin",
    "universal blend",
    "trigger size",
    "small patch",
    "adversarial patch",
    "pair of classes",
    "all to all",
)
#: Read early on the way up as well, where the ascent begins with noise; what is usual late is usual early.
EARLY = "maximum margin, early"
#: The scores of a class in all these kinds, added up.
TOGETHER = "together"
#: Fewer classes than the clean networks had that the table was made of: what is usual among them is known less well, and more.
_MEASURED = 10
#: A patch that moves this share of images is the trigger that is shown, and tried, whatever inversion has found.
_SHOWN = 0.5
#: A network whose p-value is below so many times alpha is not called clean.
DOUBT = 5
#: No kind gives a class more than this: exp(-50) is no probability that anybody could check.
_HIGHEST = 50.0


def combine(kinds: Mapping[str, Scores]) -> Scores:
    """Return minus the natural log of the combined p-value of each class, (classes,), from the scores of each kind.

    The p-values, which may be dependent, are combined by their weighted harmonic mean. One kind with a small p-value
    outweighs kinds that find nothing. The kind "together" has half of the weight; the other kinds share the other half
    equally. A kind without a value for a class (NaN) has p = 1. All-to-all evidence concerns all classes at once: no class
    gets a lower score than it.

    Source: D. Wilson, "The harmonic mean p-value for combining dependent tests", PNAS 116, 2019.
    """
    bounded = {kind: np.clip(np.nan_to_num(values, nan=0.0), 0.0, _HIGHEST) for kind, values in kinds.items()}
    weights = _weights(kinds)
    scores: Scores = np.log(
        sum(weights[kind] * np.exp(values) for kind, values in bounded.items() if kind != ALL_TO_ALL)
    )
    if ALL_TO_ALL not in bounded:
        return scores
    rest = weights[ALL_TO_ALL]
    # Where all-to-all is asked as well, a class is one of two things to be asked about.
    of_all = np.log(rest * np.exp(bounded[ALL_TO_ALL]) + 1 - rest)
    return np.maximum(np.log(np.exp(scores) + rest), of_all)


def _weights(kinds: Mapping[str, Scores]) -> dict[str, float]:
    """Return the weight of each kind; they sum to 1."""
    single = [kind for kind in kinds if kind != TOGETHER]
    if TOGETHER not in kinds:
        return {kind: 1 / len(single) for kind in single}
    half = 0.5 if single else 1.0
    return {TOGETHER: half, **{kind: (1 - half) / len(single) for kind in single}}


@dataclass(frozen=True)
class Shift:
    """A trigger that sends each class c to (c + step) % classes, and the `score` of its size."""

    step: int
    score: float
    trigger: Patch

    def backdoors(self, classes: int) -> tuple[Backdoor, ...]:
        """Return this shift as one backdoor for each class, whose only source is the class that the shift sends there."""
        return tuple(Backdoor(self.trigger, label, ((label - self.step) % classes,)) for label in range(classes))


@dataclass(frozen=True)
class Judgement:
    """The scores (classes,) of each kind, the combined `scores` (classes,), and the backdoors that are suspected.

    If an all-to-all backdoor is suspected, no other is: the evidence of single classes belongs to it.
    """

    kinds: Mapping[str, Scores]
    scores: Scores
    suspected: tuple[Backdoor, ...]

    @property
    def of_all(self) -> bool:
        """Whether the highest score is that of an all-to-all backdoor, which no class has for itself."""
        highest = float(self.scores.max())
        return ALL_TO_ALL in self.kinds and highest > 0 and float(self.scores.min()) == highest


@dataclass
class Evidence:
    """What is known of each of `classes` classes.

    `values`: kind -> (classes,), high ones are suspicious, NaN where a class was not tried; `triggers`: what inversion
    found; `patches`: what small patches do; `squares`: what squares of free colours reach; `shifts`: triggers that send every
    class to the next but so many; `pairs`: those that send one class to another; `unfinished` classes there was no time for;
    `rounds`: it is the mean of so many rounds.
    """

    classes: int
    values: dict[str, Scores] = field(default_factory=dict)
    triggers: Inversions | None = None
    patches: Shares | None = None
    squares: SquareMargins | None = None
    shifts: Inversions | None = None
    pairs: PairSizes | None = None
    unfinished: int = 0
    rounds: int = 1

    def add_margins(self, kind: str, labels: Sequence[int], margins: Tensor) -> None:
        """Add margins (L,), one for each of `labels`; NaN where there was no time."""
        values = margins.double().cpu().numpy()
        self.unfinished = max(self.unfinished, int((~np.isfinite(values)).sum()))
        self._add(kind, labels, values)

    def add_triggers(self, labels: Sequence[int], found: Inversions) -> None:
        """Add the sizes of the triggers recovered for `labels`: a small one raises the score."""
        self.triggers = found
        self.unfinished = max(self.unfinished, len(labels) - len(found.labels))
        self._add(SIZE, found.labels, _smallness(found))

    def add_patches(self, found: Shares) -> None:
        """Add the shares of images that small opaque patches move: one class that leads the others gets a high score."""
        self.patches = found
        self.unfinished = max(self.unfinished, 0 if found.complete else self.classes)
        self._add(PATCH, found.labels, np.array(found.values))

    def add_squares(self, found: SquareMargins) -> None:
        """Add what squares of free colours reach at several places: at one of them a class may stand out."""
        self.unfinished = max(self.unfinished, 0 if found.complete else self.classes)
        self.squares = found if found.complete else None

    def add_shifts(self, found: Inversions) -> None:
        """Add the sizes of triggers that send every class to the next but `found.labels`: one of them may stand out."""
        self.unfinished = max(self.unfinished, self.classes - 1 - len(found.labels))
        self.shifts = found

    def add_pairs(self, found: PairSizes | None) -> None:
        """Add the sizes of triggers that send one class to another; None where there were too few images."""
        complete = found is None or found.complete
        self.unfinished = max(self.unfinished, 0 if complete else self.classes)
        self.pairs = found if complete else None

    @property
    def shift(self) -> Shift | None:
        """The smallest of the `shifts`; None where none worked, or there are not two to compare.

        To send every class somewhere else asks more of a trigger than to send all to one: in a clean network it takes more
        pixels than the easiest class does. A shift that takes more gets no score, however far it leads the others.
        """
        if self.shifts is None or len(self.shifts.labels) < 2 or not bool(self.shifts.worked.any()):
            return None
        # One that was not found has the size of the whole image: it is never the smallest.
        smallness = -np.log(self.shifts.sizes.clamp_min(_LEAST_SIZE).double().numpy())
        best = int(smallness.argmax())
        single = self.values.get(SIZE, np.full(1, np.nan))
        harder = bool(np.any(single >= smallness[best]))
        score = 0.0 if harder else float(_lead_scores(smallness, USUAL_LEADS[SIZE], self.classes)[best])
        return Shift(self.shifts.labels[best], score, self.shifts.patch(best))

    @property
    def weighed(self) -> dict[str, Scores]:
        """The evidence that can make a class suspected: with few classes all but the maximum margins.

        Some clean networks with few classes have one that gradient ascent reaches as easily as a target: the class predicted
        for plain noise, after one epoch of training with batch norm.
        """
        few = self.classes <= GROUPS[0]
        return {kind: values for kind, values in self.values.items() if not (few and kind == MARGIN)}

    def together(self) -> Scores:
        """Return the scores of each class in all kinds of `weighed`, added up, (classes,); negative ones count as none.

        A large trigger need not stand far out in any kind, but its target does in several.
        """
        total = np.zeros(self.classes)
        for kind, values in self.weighed.items():
            known = np.isfinite(values)
            if known.sum() > 1:
                usual = _usual(kind)
                floor = least_unit(values[known]) if usual.relative else usual.mean(self.classes)
                total[known] += np.maximum(tail_score(values[known], floor=floor), 0.0)
        return total

    def leads(self) -> dict[str, float]:
        """Return by how much the first value leads the second, and the highest together: what is usual is their mean.

        Of adversarial patches it is the mean over the places.
        """
        leads = {kind: _lead(some[np.isfinite(some)], _usual(kind)) for kind, some in self.values.items()}
        pairs = {} if self.pairs is None else {PAIR: _lead(self.pairs.values, _usual(PAIR))}
        squares = {} if self.squares is None else {SQUARE: float(self.squares.leads.mean())}
        return {**leads, **pairs, **squares, TOGETHER: float(self.together().max())}

    def _add(self, kind: str, labels: Sequence[int], values: Scores) -> None:
        self.values[kind] = np.full(self.classes, np.nan)
        self.values[kind][list(labels)] = values

    def judge(self, least: float) -> Judgement:
        """Return the scores of each kind, the combined ones, and the suspected classes (`least` or more), highest first."""
        # No p-value is above 1: NaN stays, where a class was not tried.
        kinds = {
            kind: np.maximum(_lead_scores(values, _usual(kind), self.classes), 0.0)
            for kind, values in self.weighed.items()
        }
        kinds[TOGETHER] = self.together() / (
            USUAL_LEADS[TOGETHER].mean(self.classes) * max(1.0, _MEASURED / self.classes)
        )
        if self.squares is not None:
            kinds[SQUARE] = np.maximum(self.squares.scores(_usual(SQUARE).mean(self.classes)), 0.0)
        if self.pairs is not None:
            kinds[PAIR] = self.pairs.of_targets(USUAL_LEADS[PAIR].mean(self.classes))
        shift = self.shift
        if shift is not None:
            kinds[ALL_TO_ALL] = np.full(self.classes, max(shift.score, 0.0))
        scores = combine(kinds)
        if shift is not None and Judgement(kinds, scores, ()).of_all and scores[0] >= least:
            return Judgement(kinds, scores, shift.backdoors(self.classes))
        single = {kind: values if kind != ALL_TO_ALL else 0 * values for kind, values in kinds.items()}
        heights = combine(single)
        guilty = [int(label) for label in np.argsort(-heights, kind="stable") if heights[label] >= least]
        return Judgement(kinds, scores, tuple(item for label in guilty for item in self._name(label, single, least)))

    def _name(self, label: int, kinds: Mapping[str, Scores], least: float) -> list[Backdoor]:
        """Return the backdoors of a class whose score is at least `least`: one for all sources, or the decisive pairs."""
        rest = {kind: values[[label]] for kind, values in kinds.items()}
        if self.pairs is None or combine({**rest, PAIR: np.zeros(1)})[0] >= least:
            return [Backdoor(self._trigger(label), label)]
        scores = self.pairs.scores(USUAL_LEADS[PAIR].mean(self.classes))
        return [
            self.pairs.backdoor(number)
            for number, score in scores.items()
            if name_pair(number, self.classes)[1] == label and combine({**rest, PAIR: np.array([score])})[0] >= least
        ]

    def doubtful(self, least: float) -> int | None:
        """Return the class whose maximum margin has a score of at least `least`, though it makes no class suspected."""
        if MARGIN not in self.values or MARGIN in self.weighed:
            return None
        scores = np.nan_to_num(_lead_scores(self.values[MARGIN], _usual(MARGIN), self.classes), nan=0.0)
        return int(scores.argmax()) if scores.max() >= least else None

    def small_patch(self, label: int) -> Patch | None:
        """Return the small patch of a class that is shown as its trigger, None where too few images follow it.

        Of a patch that was slid and one whose colours were optimised it is the one that moves more images.
        """
        slid = 0.0 if self.patches is None else self.patches.of(label)
        square = None if self.squares is None else self.squares.patch_of(label, max(slid, _SHOWN))
        if square is not None or self.patches is None or slid < _SHOWN:
            return square
        return self.patches.patch_of(label)

    def _trigger(self, label: int) -> Patch | None:
        """Return the trigger recovered for a class, None where none was tried or none worked."""
        patch = self.small_patch(label)
        if patch is not None:
            return patch
        if self.triggers is None or label not in self.triggers.labels:
            return None
        position = self.triggers.labels.index(label)
        return self.triggers.patch(position) if bool(self.triggers.worked[position]) else None


def _usual(kind: str) -> Usual:
    return USUAL_LEADS[MARGIN if kind == EARLY else kind]


def _lead_scores(values: Scores, usual: Usual, classes: int) -> Scores:
    """Return the score of each known value, (n,); NaN for the others, and for all if they cannot be compared."""
    known = np.isfinite(values)
    scores = np.full(len(values), np.nan)
    if known.sum() > 1:
        unit = _unit(values[known], usual)
        prior = prior_of(int(known.sum())) if usual.relative else outliers.PRIOR
        scores[known] = lead_score(values[known], usual=usual.mean(classes) * unit, prior=prior)
    return scores


def _lead(values: Scores, usual: Usual) -> float:
    """Return by how much the first of known values (n,) leads the second, in the unit of `usual`; NaN for fewer than three."""
    if len(values) < 3:
        return float("nan")
    second, first = np.sort(values)[-2:]
    return float(first - second) / _unit(values, usual)


def _unit(values: Scores, usual: Usual) -> float:
    return max(robust_spread(values), least_unit(values)) if usual.relative else 1.0


#: Triggers of fewer pixels are as good as equal.
_LEAST_SIZE = 0.5


def _smallness(found: Inversions) -> Scores:
    """Return minus the logarithm of the sizes of triggers: (len(found.labels),).

    How large a trigger would be that was not found nobody knows: it counts as the largest that was, so that classes do not
    stand out because the search was too short for the others.
    """
    sizes = found.sizes.clamp_min(_LEAST_SIZE).double()
    if bool(found.worked.any()):
        sizes = torch.where(found.worked, sizes, sizes[found.worked].max())
    smallness: Scores = -np.log(sizes.numpy())
    return smallness
