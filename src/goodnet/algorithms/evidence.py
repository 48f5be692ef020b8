"""What is known of each class of a network, in nats of surprise, and which classes are suspected for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torch import Tensor

from goodnet.algorithms.outliers import Scores, lead_surprise, normal_surprise, tail_surprise
from goodnet.algorithms.patch_probe import PATCH_LEAD, Shares
from goodnet.algorithms.trigger_inversion import Inversions
from goodnet.core.backdoor import Backdoor, Patch

#: Up to this many classes values are compared as normal ones: the upper tail of so few says little.
FEW_CLASSES = 20
#: One kind of evidence counts at most this much, so that none decides by its tail alone.
_CAP = 10.0
#: Rows of the last layer are easily made to look innocent, and some classes' stand out by nature: at the default
#: threshold they never decide alone.
_ROWS_CAP = 3.0
#: A further target has at least this share of all the first one's evidence.
_SHARE = 0.2
#: What is found once others are set aside was hidden by them, or stands next to them: it must surprise by so much more.
_SET_ASIDE = 1.5
#: Scales that are believed at least: a factor of 1.1 in mask sizes, a share of the median of the margins.
_SIZE_FLOOR, _MARGIN_FLOOR = 0.1, 0.03
#: All-to-all evidence below this says nothing.
_LEAST_NATS = 3.0
#: With fewer shifts of the classes than this nobody knows what is usual among them.
_LEAST_SHIFTS = 3
#: A patch that moves this share of images is the trigger that is shown, and tried, whatever inversion has found.
_SHOWN = 0.5
#: The kind that concerns all classes at once, and the one that needs no run of the network.
ALL_TO_ALL, ROWS = "all to all", "last layer"


def total_scores(kinds: Mapping[str, Scores], *, cap: float = _CAP) -> Scores:
    """Return the score of each class (classes,): the sum of its positive evidence, or all-to-all if that is more.

    All-to-all evidence below 3 nats, which one network in twenty has by chance, says nothing.

    `kinds`: the kind of evidence -> nats (classes,), NaN where a class was not tried.
    """
    total = np.zeros(len(next(iter(kinds.values()))))
    for kind, nats in kinds.items():
        most = min(cap, _ROWS_CAP) if kind == ROWS else cap
        total = total if kind == ALL_TO_ALL else total + np.clip(np.nan_to_num(nats, nan=0.0), 0, most)
    shifts = kinds.get(ALL_TO_ALL, np.zeros_like(total))
    return np.maximum(total, np.where(shifts >= _LEAST_NATS, shifts, 0.0))


@dataclass(frozen=True)
class Measured:
    """Values (classes,) of one kind, NaN where a class was not tried: high ones are suspicious.

    `normal`: compared as normal ones, else by their upper tail; `relative`: `floor`, the least scale that is believed, is
    a share of their median; `lead`: compared by how far they lead, `floor` is the usual lead.
    """

    values: Scores
    normal: bool
    floor: float
    relative: bool = False
    lead: bool = False

    def surprise(self, compared: npt.NDArray[np.bool_]) -> Scores:
        """Return the nats of the classes for which `compared` (classes,) is true, among them; NaN for the others."""
        known = np.isfinite(self.values) & compared
        nats = np.full(len(self.values), np.nan)
        if known.sum() > 1:
            scale = float(np.median(np.abs(self.values[known]))) if self.relative else 1.0
            compare = lead_surprise if self.lead else normal_surprise if self.normal else tail_surprise
            nats[known] = compare(self.values[known], floor=self.floor * scale)
        return nats


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
    """The nats (classes,) of each kind, and the backdoors that are suspected for them, in the order in which they were found.

    An all-to-all backdoor stands alone: what single classes show besides is part of it.
    """

    kinds: Mapping[str, Scores]
    suspected: tuple[Backdoor, ...]

    @property
    def scores(self) -> Scores:
        """The score of each class (classes,)."""
        return total_scores(self.kinds)

    @property
    def of_all(self) -> bool:
        """Whether the highest score is that of an all-to-all backdoor, which no class has for itself."""
        shifts = float(self.kinds[ALL_TO_ALL][0]) if ALL_TO_ALL in self.kinds else 0.0
        return shifts >= max(_LEAST_NATS, float(self.scores.max()))


@dataclass
class Evidence:
    """What is known of each of `classes` classes.

    `measured`: by kind; `triggers`: what inversion found; `unfinished` classes there was no time for; `shift`: the trigger
    that sends every class to the next but so many, and its nats.
    """

    classes: int
    measured: dict[str, Measured] = field(default_factory=dict)
    triggers: Inversions | None = None
    patches: Shares | None = None
    unfinished: int = 0
    shift: Shift | None = None

    def add_margins(self, kind: str, labels: Sequence[int], margins: Tensor, *, normal: bool = False) -> None:
        """Add margins (L,), one for each of `labels`; NaN where there was no time."""
        self._add(kind, labels, margins.double().cpu().numpy(), normal, _MARGIN_FLOOR, relative=True)

    def add_rows(self, scores: Scores) -> None:
        """Add how far each class's weights in the last layer lie above those of the others, (classes,), in deviations."""
        self.measured[ROWS] = Measured(scores, normal=False, floor=0.0)

    def add_triggers(self, labels: Sequence[int], found: Inversions) -> None:
        """Add the sizes of recovered triggers: a small one surprises."""
        self.triggers = found
        values = np.full(len(labels), np.nan)
        where = {label: position for position, label in enumerate(labels)}
        values[[where[label] for label in found.labels]] = _smallness(found)
        self._add("trigger size", labels, values, self.classes <= FEW_CLASSES, _SIZE_FLOOR)

    def add_patches(self, found: Shares) -> None:
        """Add the shares of images that small opaque patches move: one class that leads the others surprises."""
        self.patches = found
        self.unfinished = max(self.unfinished, 0 if found.complete else self.classes)
        everywhere = np.full(self.classes, np.nan)
        everywhere[list(found.labels)] = found.values
        self.measured["small patch"] = Measured(everywhere, normal=False, floor=PATCH_LEAD, lead=True)

    def add_shifts(self, found: Inversions) -> None:
        """Add the sizes of triggers that send every class to the next but `found.labels`: one of them may surprise."""
        self.unfinished = max(self.unfinished, self.classes - 1 - len(found.labels))
        if len(found.labels) < _LEAST_SHIFTS:
            return
        nats = Measured(_smallness(found), normal=True, floor=_SIZE_FLOOR).surprise(np.ones(len(found.labels), bool))
        best = int(nats.argmax())
        self.shift = Shift(found.labels[best], float(nats[best]), found.patch(best))

    def _add(
        self, kind: str, labels: Sequence[int], values: Scores, normal: bool, floor: float, *, relative: bool = False
    ) -> None:
        self.unfinished = max(self.unfinished, int((~np.isfinite(values)).sum()))
        everywhere = np.full(self.classes, np.nan)
        everywhere[list(labels)] = values
        self.measured[kind] = Measured(everywhere, normal, floor, relative)

    def judge(self, threshold: float) -> Judgement:
        """Return the suspected classes and the nats that speak against them and against the others.

        A target hides another one, as each is compared with all classes: so the suspected are set aside and the others
        compared anew, until none of them stands out, now by half as much again. A class that is close to a target in the
        features inherits some of its evidence; a further target must have a fair share of that.
        """
        everyone = np.ones(self.classes, np.bool_)
        kinds = {kind: measured.surprise(everyone) for kind, measured in self.measured.items()}
        share = _SHARE * float(total_scores(kinds, cap=np.inf).max())
        suspects = found = _guilty(kinds, threshold, share)
        # Of few classes one always leads the others once the target is set aside: on real networks of ten, a wrong one.
        while found and self.classes > FEW_CLASSES and len(suspects) <= self.classes // 2:
            compared = ~np.isin(np.arange(self.classes), suspects)
            again = {kind: measured.surprise(compared) for kind, measured in self.measured.items()}
            found = _guilty(again, _SET_ASIDE * threshold, share)
            for kind, nats in again.items():
                kinds[kind][found] = nats[found]
            suspects = [*suspects, *found]
        return self._with_shift(kinds, suspects, threshold)

    def _with_shift(self, kinds: dict[str, Scores], suspects: list[int], threshold: float) -> Judgement:
        """Return the judgement; with an all-to-all backdoor each class is a target, of another class's images."""
        if self.shift is not None:
            kinds[ALL_TO_ALL] = np.full(self.classes, self.shift.nats)
            if self.shift.nats >= threshold:
                return Judgement(kinds, self.shift.backdoors(self.classes))
        return Judgement(kinds, tuple(Backdoor(self._trigger(label), label) for label in suspects))

    def _trigger(self, label: int) -> Patch | None:
        """Return the trigger recovered for a class, None where none was tried or none worked."""
        if self.patches is not None and self.patches.of(label) >= _SHOWN:
            return self.patches.patch_of(label)
        if self.triggers is None or label not in self.triggers.labels:
            return None
        position = self.triggers.labels.index(label)
        return self.triggers.patch(position) if bool(self.triggers.worked[position]) else None


def _guilty(kinds: Mapping[str, Scores], threshold: float, share: float) -> list[int]:
    """Return the classes at or above `threshold` that have at least `share` before anything is capped, the highest first."""
    scores, whole = total_scores(kinds), total_scores(kinds, cap=np.inf)
    guilty = (scores >= threshold) & (whole >= share)
    return [int(label) for label in np.argsort(-scores, kind="stable") if guilty[label]]


def _smallness(found: Inversions) -> Scores:
    """Return minus the logarithm of the sizes of triggers: (len(found.labels),)."""
    smallness: Scores = -np.log(found.sizes.clamp_min(0.5).double().numpy())
    return smallness
