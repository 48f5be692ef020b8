"""The repair without a method named: unlearn what was found, as gently as holds, and show what it cost."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import MethodFailed
from goodnet.core.method import Progress, Repairer, no_progress
from goodnet.core.repairs import (
    AttackSuccess,
    Change,
    ClassAccuracy,
    Difference,
    HeldOutLoss,
    Repair,
    RepairedNetwork,
    Trace,
)
from goodnet.core.results import Rate, Record
from goodnet.inference.defender_labels import with_labels
from goodnet.inference.predictions import predict_classes, require_fit
from goodnet.repairers.anchored_unlearning import AnchoredUnlearning, find_temperature
from goodnet.triggers.trigger_search import TriggerSearch

#: Learning rates that are tried, the gentlest first: the smallest that holds costs least.
_RATES = (3e-4, 6e-4, 1e-3)
#: Share of the clean images that no candidate is trained on.
_HELD_OUT = 0.25
#: A repair succeeds when no reverse-engineered trigger works on more than this share of the held-out images.
_HOLDS = 0.05
#: Standard errors of the images that changed sides beyond which a loss is believed.
_BEYOND_CHANCE = 1.64
#: Steps for which fresh triggers are reverse-engineered on the repaired network.
_SEARCH_STEPS = 60


class Unlearned(Change):
    """The `method` that was chosen, the share of held-out images that fresh triggers still move, and whether it `holds`."""

    method: str
    fresh_triggers_work_on: float
    holds: bool


class CandidateRecord(Record):
    """One repair that was tried, by what was measured on held-out images; rates are fractions."""

    name: str
    fresh_triggers_work_on: float
    accuracy_lost: float
    holds: bool


class Candidates(Trace):
    """All repairs that were tried, the gentlest first."""

    candidates: tuple[CandidateRecord, ...]


class AutoRepair(Repairer):
    """Takes the lowest learning rate at which unlearning succeeds on held-out images, and undoes it if it costs too much.

    Suspected backdoors are unlearned with the original's answers as an anchor (`repairers/anchored_unlearning.py`), at
    rising learning rates. The search ends when triggers that are reverse-engineered anew on the repaired network fail on
    held-out images. If they never fail, a higher rate is taken only if they succeed less often, by more than chance, or
    if it costs less. Every class stays an answer; `repairers/quarantine.py` removes targets instead. A repair is rolled
    back if it costs more accuracy on held-out images than stated, and more than chance explains.

    **Source** our own; the docstrings of its parts name their sources.
    **Differs** from published tables, where the method and its strength are chosen on the attacker's test set.
    **Needs** clean images, labels where there are some; suspected backdoors, else nothing is changed.
    **Cost** that of one to three anchored unlearnings, and of up to four searches for fresh triggers.
    **Fails when** the scan has missed the backdoor: the network then stays as it is.
    """

    word: ClassVar[str | None] = "auto"
    needs_suspects: ClassVar[bool] = True

    max_accuracy_drop: float = Field(
        0.05,
        ge=0,
        le=1,
        description="clean accuracy that may be lost on held-out images, beyond what chance explains",
    )

    @classmethod
    def name(cls) -> str:
        """The method's name on the command line."""
        return "auto"

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
        """
        require_fit(classifier, clean)
        training, held_out = split(with_labels(classifier, clean), seed)
        judge = Judge.make(classifier, held_out, suspected, seed) if suspected else None
        candidates = [] if judge is None else self._candidates(classifier, training, suspected, judge, seed, progress)
        chosen = choose(self._affordable(candidates))
        network = classifier.copy() if chosen is None else chosen.classifier
        changes = self._changes(chosen, candidates)
        before, after = accuracy_of(classifier, held_out), accuracy_of(network, held_out)
        success = None
        if judge is not None:
            untouched = judge.judge("original", classifier).success
            success = AttackSuccess(before=untouched, after=untouched if chosen is None else chosen.success)
        budget = None
        if chosen is not None:
            budget = HeldOutLoss(lost=chosen.accuracy_lost, of=chosen.images, allowed=self.max_accuracy_drop)
        trace = Candidates(
            candidates=tuple(item.record() for item in candidates),
            diff=difference(classifier, network, clean, success),
            held_out_accuracy=budget,
        )
        return Repair((RepairedNetwork("auto", network, after, changes),), before, trace)

    def _candidates(
        self,
        classifier: Classifier,
        training: Dataset,
        suspected: Sequence[Backdoor],
        judge: Judge,
        seed: int,
        progress: Progress,
    ) -> list[Candidate]:
        """Return the repairs to choose from, the gentlest first."""
        search = AnchoredUnlearning().start_search(classifier, training, suspected, seed)
        tried: list[Candidate] = []
        for rate in _RATES:
            try:
                repair = AnchoredUnlearning(learning_rate=rate).unlearn(
                    classifier, training, copy.deepcopy(search), suspected=suspected, seed=seed, progress=progress
                )
            except MethodFailed:
                if not tried:
                    raise
                break  # What diverges at this rate leaves the gentler repair as it is.
            tried.append(judge.judge(f"anchored_unlearning at {rate:g}", repair.classifier))
            if tried[-1].holds:
                break
        return tried

    def _affordable(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        return [item for item in candidates if not item.costs_more_than(self.max_accuracy_drop)]

    def _changes(self, chosen: Candidate | None, candidates: Sequence[Candidate]) -> Change:
        if chosen is not None:
            return Unlearned(method=chosen.name, fresh_triggers_work_on=chosen.success, holds=chosen.holds)
        if not candidates:
            return Change(why="nothing is suspected, so nothing was changed")
        least = min(item.accuracy_lost for item in candidates)
        return Change(
            why=f"rolled back: every repair lost {least:.3f} or more of the clean accuracy on held-out images, "
            f"{self.max_accuracy_drop:g} is allowed (max_accuracy_drop)"
        )


@dataclass(frozen=True)
class Share:
    """So many of so many images."""

    count: int
    of: int

    @property
    def value(self) -> float:
        """The fraction; 0 of none."""
        return self.count / max(self.of, 1)

    def errors_above(self, other: Share) -> float:
        """Return by how many standard errors it lies above another, as if each were measured on images of its own.

        Source: A. Agresti, B. Caffo, "Simple and effective confidence intervals for proportions and differences of
        proportions", The American Statistician 54, 2000: one success and one failure are added to both.
        """
        mine, others = ((share.count + 1) / (share.of + 2) for share in (self, other))
        return (mine - others) / math.sqrt(mine * (1 - mine) / (self.of + 2) + others * (1 - others) / (other.of + 2))


@dataclass(frozen=True)
class Candidate:
    """A repaired network and what a defender can see of it.

    The best fresh trigger sends `moved` of the held-out images to its target. Of all `images` held out, `lost` were right
    with the original alone and `gained` with the repaired network alone.
    """

    name: str
    classifier: Classifier
    moved: Share
    lost: int
    gained: int
    images: int

    @property
    def success(self) -> float:
        """The share of held-out images that the best reverse-engineered trigger sends to its target."""
        return self.moved.value

    @property
    def accuracy_lost(self) -> float:
        """What the repair costs on the held-out images; below 0 it gains."""
        return (self.lost - self.gained) / self.images

    def costs_more_than(self, budget: float) -> bool:
        """Whether more accuracy than `budget` is lost and chance does not explain it (one-sided, 5 %).

        Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions", 1947.
        """
        return self.lost - self.gained > budget * self.images + _BEYOND_CHANCE * math.sqrt(self.lost + self.gained)

    @property
    def holds(self) -> bool:
        """Whether the fresh triggers fail."""
        return self.success <= _HOLDS

    @property
    def damage(self) -> float:
        """What the triggers still do, nothing where it holds, and what the repair costs.

        The sum weighs what the defence effectiveness rating weighs, with fresh triggers instead of the attacker's.
        """
        return (0.0 if self.holds else self.success) + self.accuracy_lost

    def better_than(self, gentler: Candidate) -> bool:
        """Whether it is to be preferred to a gentler repair: by the damage, or else by the cost.

        Where triggers work on a network whatever is done, as on those that know little, their success differs by chance:
        by no more than one standard error. Then the stronger repair must cost no more. A larger bar would leave triggers
        that the stronger one removes.
        """
        if self.holds or abs(self.moved.errors_above(gentler.moved)) > 1:
            return self.damage < gentler.damage
        return (self.accuracy_lost, self.success) < (gentler.accuracy_lost, gentler.success)

    def record(self) -> CandidateRecord:
        """Return what is known of it without the network."""
        return CandidateRecord(
            name=self.name, fresh_triggers_work_on=self.success, accuracy_lost=self.accuracy_lost, holds=self.holds
        )


def choose(candidates: Sequence[Candidate]) -> Candidate | None:
    """Return the gentlest of candidates, the gentlest first, to which no stronger one is better; None of none."""
    chosen = None
    for item in candidates:
        if chosen is None or item.better_than(chosen):
            chosen = item
    return chosen


@dataclass(frozen=True)
class Judge:
    """Measures candidates on held-out images with triggers that no candidate was trained on.

    Two are the exception: what the scan recovered takes part in training and judgement, and moves on from there in each,
    and a plane wave is sought among the same ones.
    """

    original: Classifier
    held_out: Dataset
    images: torch.Tensor
    triggers: TriggerSearch
    seed: int
    temperature: float

    @classmethod
    def make(cls, original: Classifier, held_out: Dataset, suspected: Sequence[Backdoor], seed: int) -> Judge:
        """Return the judge of the repairs of `original`: its fresh triggers are recovered once, from the original."""
        images = held_out.sample(_SEARCHED, seed=seed).images().to(original.device)
        with torch.inference_mode():
            temperature = find_temperature(original(images))
        triggers = TriggerSearch.start(original, images, suspected, 1, seed + _FRESH)
        return cls(original, held_out, images, triggers, seed, temperature)

    def judge(self, name: str, repaired: Classifier) -> Candidate:
        """Measure one candidate: the fresh triggers are reverse-engineered on the repaired network."""
        images, triggers = self.images, copy.deepcopy(self.triggers)
        with torch.inference_mode():
            answers = self.original(images).argmax(dim=1)
        draws = torch.Generator().manual_seed(self.seed)
        for _ in range(_SEARCH_STEPS):
            turns = triggers.draw(len(images), draws).to(images.device)
            triggers.step(repaired, images, answers, turns, self.temperature)
        right = [
            predict_classes(network, self.held_out) == self.held_out.targets for network in (self.original, repaired)
        ]
        lost, gained = int((right[0] & ~right[1]).sum()), int((~right[0] & right[1]).sum())
        moved = Share(*triggers.measure(repaired, images, answers))
        return Candidate(name, repaired, moved, lost, gained, len(self.held_out))


#: Held-out images for reverse-engineering triggers, and what makes their seed differ from that of the training.
_SEARCHED, _FRESH = 64, 1000


def split(labelled: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """Return the images to train with and those to judge by, whose labels are known; of a very few, all serve both."""
    known = np.flatnonzero(labelled.known_targets)
    count = round(_HELD_OUT * len(known))
    if count < 2:
        return labelled, labelled.with_known_labels()
    held_out = np.random.default_rng(seed).permutation(known)[:count]
    return labelled.subset(np.setdiff1d(np.arange(len(labelled)), held_out)), labelled.subset(np.sort(held_out))


def accuracy_of(classifier: Classifier, labelled: Dataset) -> Rate:
    """Return the share of the images that get their label."""
    return Rate.of(int((predict_classes(classifier, labelled) == labelled.targets).sum()), len(labelled))


def difference(
    original: Classifier, repaired: Classifier, clean: Dataset, success: AttackSuccess | None = None
) -> Difference:
    """Return the repair diff on all clean images: agreement with the original, and accuracy by class with labels."""
    clean = clean.with_known_labels()
    before, after = predict_classes(original, clean), predict_classes(repaired, clean)
    agreement = Rate.of(int((before == after).sum()), len(clean))
    rows: list[ClassAccuracy] = []
    if clean.labels is not None:
        for label in np.unique(clean.targets):
            of_class = clean.targets == label
            rows.append(
                ClassAccuracy(
                    label=int(label),
                    before=float((before[of_class] == label).mean()),
                    after=float((after[of_class] == label).mean()),
                    n=int(of_class.sum()),
                )
            )
    return Difference(agreement=agreement, per_class=tuple(rows), surrogate_attack_success=success)
