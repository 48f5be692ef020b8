"""The default repair: unlearn the suspected backdoors at the lowest learning rate that works, and report the cost."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
from pydantic import Field, PrivateAttr

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import BudgetSpent, MethodFailed
from goodnet.core.method import Progress, Repairer, no_progress
from goodnet.core.repairs import (
    AttackSuccess,
    Change,
    HeldOutLoss,
    Repair,
    RepairedNetwork,
    Trace,
)
from goodnet.inference.defender_labels import with_labels
from goodnet.inference.predictions import require_fit
from goodnet.pipelines.repair_difference import accuracy_of, difference
from goodnet.pipelines.repair_judge import Candidate, CandidateRecord, Judge, choose
from goodnet.repairers.anchored_unlearning import AnchoredUnlearning
from goodnet.surgery.class_bias import raise_rare_predictions
from goodnet.time_limits import OutOfTime, TimeLimit

#: Learning rates that are tried, the gentlest first: the smallest that holds costs least. Small networks need the highest.
_RATES = (3e-4, 1e-3, 3e-3)
#: A repair that holds and costs at most this much ends the search. One that costs more may be beaten at a higher rate, with
#: the bias raised.
_CHEAP = 0.1
#: Share of the clean images that no candidate is trained on.
_HELD_OUT = 0.25


class Unlearned(Change):
    """The `method` that was chosen, the share of held-out images that fresh triggers still move, and whether it `holds`."""

    method: str
    fresh_triggers_work_on: float
    holds: bool


class Candidates(Trace):
    """All repairs that were tried, the gentlest first."""

    candidates: tuple[CandidateRecord, ...]


@dataclass
class _Found:
    """What a repair has found so far, which is what there is when its time is up."""

    original: float | None = None
    candidates: list[Candidate] = field(default_factory=list)
    out_of_time: str | None = None


class AutoRepair(Repairer):
    """Unlearns suspected backdoors at the lowest learning rate that succeeds on held-out images; rolls back a repair that costs
    too much.

    Suspected backdoors are unlearned with the original's logits as an anchor (`repairers/anchored_unlearning.py`), at rising
    learning rates. Each repaired network is tested with other triggers than those that it was trained on: they are recovered
    from the original once, and a copy is optimised for 20 steps on each repaired network. The search over rates ends when these
    triggers fail on held-out images at little cost, when a repair costs too much, or after three rates. Of the repairs that do
    not cost too much, the one with the lowest sum of trigger success (0 if the triggers fail) and cost is taken; where successes
    differ by chance alone, the cheaper one. The cost is the accuracy lost on held-out images, plus the largest loss
    on the own images of any suspected target.

    A repaired network may predict a target too rarely, so at each rate there is a second candidate, with the biases of the
    targets raised (`surgery/class_bias.py`). Every class can still be predicted; `repairers/quarantine.py` removes targets
    instead. A repair is rolled back if it costs more accuracy on held-out images than the options allow, or more of any one
    class, and chance does not explain it.

    **Source** our own; the docstrings of its parts name their sources.
    **Differs** from the evaluation behind published tables, where the method and its strength are chosen on the attacker's
    test set.
    **Needs** clean images, labels where there are some; suspected backdoors, else nothing is changed.
    **Cost** that of one to three anchored unlearnings, and of up to seven searches for fresh triggers.
    **Fails when** the scan has missed the backdoor: the network then stays as it is.
    """

    word: ClassVar[str | None] = "auto"
    needs_suspects: ClassVar[bool] = True
    _seconds: float | None = PrivateAttr(None)

    max_accuracy_drop: float = Field(
        0.05,
        ge=0,
        le=1,
        description="largest loss of clean accuracy on held-out images, beyond what chance explains",
    )
    max_class_drop: float = Field(
        0.2,
        ge=0,
        le=1,
        description="largest loss of accuracy on the clean images of any one class, beyond what chance explains",
    )

    @classmethod
    def name(cls) -> str:
        """The method's name on the command line."""
        return "auto"

    def within(self, seconds: float | None) -> Self:
        """Return the same method with a limit: after so many seconds the best repair that is finished is taken."""
        limited = self.model_copy()
        limited._seconds = seconds
        return limited

    def repair(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        suspected: Sequence[Backdoor] = (),
        seed: int,
        progress: Progress = no_progress,
    ) -> Repair:
        """Return the repaired network, or the original where nothing is suspected or the cost is too high.

        Raises:
            MethodFailed: training diverges at every rate.
            BudgetSpent: the time was up before the first repair was finished.
        """
        require_fit(classifier, clean)
        labelled = with_labels(classifier, clean)
        training, held_out = split(labelled, seed)
        found = self._try(classifier, labelled, training, held_out, suspected, seed, progress)
        candidates = found.candidates
        chosen = choose(self._affordable(candidates))
        network = classifier.copy() if chosen is None else chosen.classifier
        changes = self._changes(chosen, candidates)
        before, after = accuracy_of(classifier, held_out), accuracy_of(network, held_out)
        success = None
        if found.original is not None:
            success = AttackSuccess(before=found.original, after=found.original if chosen is None else chosen.success)
        budget = None
        if chosen is not None:
            budget = HeldOutLoss(lost=chosen.accuracy_lost, of=len(held_out), allowed=self.max_accuracy_drop)
        trace = Candidates(
            candidates=tuple(item.record() for item in candidates),
            diff=difference(classifier, network, clean, success),
            held_out_accuracy=budget,
            out_of_time=found.out_of_time,
        )
        return Repair((RepairedNetwork("auto", network, after, changes),), before, trace)

    def _try(
        self,
        classifier: Classifier,
        labelled: Dataset,
        training: Dataset,
        held_out: Dataset,
        suspected: Sequence[Backdoor],
        seed: int,
        progress: Progress,
    ) -> _Found:
        """Return the repairs to choose from, and what fresh triggers do to the original; nothing if nothing is suspected."""
        found, complete, limit = _Found(), False, TimeLimit(self._seconds)
        if not suspected:
            return found
        try:
            with limit:
                judge = Judge.make(classifier, labelled, held_out, suspected, seed)
                for candidate in self._candidates(classifier, training, suspected, judge, seed, progress):
                    found.candidates.append(candidate)
                complete = True
                found.original = judge.judge("original", classifier).success
        except OutOfTime:
            if not limit.is_over:
                raise
            if not found.candidates:
                raise BudgetSpent(
                    f"the time for the repair ({self._seconds:.3g} s) was up before its first candidate was finished; "
                    "give a larger budget"
                ) from None
            left = "fresh triggers were not tried on the original" if complete else "no further candidate was tried"
            found.out_of_time = f"the time was up after {found.candidates[-1].name}: {left}"
        return found

    def _candidates(
        self,
        classifier: Classifier,
        training: Dataset,
        suspected: Sequence[Backdoor],
        judge: Judge,
        seed: int,
        progress: Progress,
    ) -> Iterator[Candidate]:
        """Yield the repairs to choose from, the gentlest first."""
        search = AnchoredUnlearning().start_search(classifier, training, suspected, seed)
        for rate in _RATES:
            try:
                repair = AnchoredUnlearning(learning_rate=rate).unlearn(
                    classifier, training, copy.deepcopy(search), suspected=suspected, seed=seed, progress=progress
                )
            except MethodFailed:
                if rate == _RATES[0]:
                    raise
                return  # What diverges at this rate leaves the gentler repair as it is.
            name = f"anchored_unlearning at {rate:g}"
            last = judge.judge(name, repair.classifier)
            yield last
            if self._suffices(last):
                return
            raised = repair.classifier.copy()
            if raise_rare_predictions(classifier, raised, training, judge.targets, judge.temperature):
                last = judge.judge(f"{name}, bias raised", raised)
                yield last
            if self._suffices(last) or last.held_out.exceeds(self.max_accuracy_drop):
                return  # A higher rate costs more.

    def _suffices(self, item: Candidate) -> bool:
        return item.holds and item.cost <= _CHEAP and not self._too_dear(item)

    def _affordable(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        return [item for item in candidates if not self._too_dear(item)]

    def _too_dear(self, item: Candidate) -> bool:
        return item.costs_more_than(self.max_accuracy_drop, self.max_class_drop)

    def _changes(self, chosen: Candidate | None, candidates: Sequence[Candidate]) -> Change:
        if chosen is not None:
            return Unlearned(method=chosen.name, fresh_triggers_work_on=chosen.success, holds=chosen.holds)
        if not candidates:
            return Change(why="nothing is suspected, so nothing was changed")
        least = min(item.accuracy_lost for item in candidates)
        worst = min(candidates, key=lambda item: item.classes[item.worst_class].share)
        return Change(
            why=f"rolled back: every repair lost {least:.3f} or more of the clean accuracy on held-out images, "
            f"{self.max_accuracy_drop:g} is allowed (max_accuracy_drop), or {worst.classes[worst.worst_class].share:.3f} or "
            f"more of one class, {self.max_class_drop:g} is allowed (max_class_drop)"
        )


def split(labelled: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """Return the images to train with and those to judge by, whose labels are known; of a very few, all serve both."""
    known = np.flatnonzero(labelled.known_targets)
    count = round(_HELD_OUT * len(known))
    if count < 2:
        return labelled, labelled.with_known_labels()
    held_out = np.random.default_rng(seed).permutation(known)[:count]
    return labelled.subset(np.setdiff1d(np.arange(len(labelled)), held_out)), labelled.subset(np.sort(held_out))
