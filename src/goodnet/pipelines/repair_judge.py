"""What a defender can see of a repair: what fresh triggers still do, and what is lost, in all and of each class."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from goodnet.core.backdoor import Backdoor, targets_of
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.results import Record
from goodnet.inference.predictions import predict_classes
from goodnet.inference.quick_networks import copy_for_search
from goodnet.repairers.anchored_unlearning import find_temperature
from goodnet.triggers.trigger_search import TriggerSearch

#: Whether each of some images is right, (n,).
Mask = npt.NDArray[np.bool_]
#: A repair succeeds when no reverse-engineered trigger works on more than this share of the held-out images.
_HOLDS = 0.05
#: Standard errors of the images that changed sides beyond which a loss is believed.
_BEYOND_CHANCE = 1.64
#: Steps for which the judge's triggers follow a repaired network, and those that the second set takes on the original before.
#: Where the true trigger works on 0.00 to 0.02 of the images, triggers that follow for 60 steps work on 0.1 to 0.6.
_ON_ORIGINAL, _FOLLOWING = 60, 20
#: Held-out images for reverse-engineering triggers, and what makes their seed differ from that of the training.
_SEARCHED, _FRESH = 64, 1000


class CandidateRecord(Record):
    """One repair that was tried, by what was measured on held-out images; rates are fractions.

    The share that the worst class loses is of all clean images; old files lack it.
    """

    name: str
    fresh_triggers_work_on: float
    accuracy_lost: float
    worst_class: int | None = None
    worst_class_lost: float | None = None
    holds: bool


@dataclass(frozen=True)
class Share:
    """So many of so many images; a mean of counts may be no whole number."""

    count: float
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
class Loss:
    """Of so many `images`, `lost` were right with the original alone, and `gained` with the repaired network alone."""

    lost: int
    gained: int
    images: int

    @classmethod
    def of(cls, before: Mask, after: Mask) -> Loss:
        """Count what changed sides, of images that were right (n,) before and after."""
        return cls(int((before & ~after).sum()), int((~before & after).sum()), len(before))

    @property
    def share(self) -> float:
        """The fraction that is lost; below 0 more are gained."""
        return (self.lost - self.gained) / self.images

    def exceeds(self, budget: float) -> bool:
        """Whether more than `budget` is lost and chance does not explain it (one-sided, 5 %).

        Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions", 1947.
        """
        return self.lost - self.gained > budget * self.images + _BEYOND_CHANCE * math.sqrt(self.lost + self.gained)


@dataclass(frozen=True)
class Candidate:
    """A repaired network and what a defender can see of it.

    The best fresh trigger sends `moved` of the held-out images to its target. `held_out` is what happened to the images
    held out, `classes` to those of each class, among all clean images; `targets` are the suspected ones.
    """

    name: str
    classifier: Classifier
    moved: Share
    held_out: Loss
    classes: Mapping[int, Loss]
    targets: tuple[int, ...] = ()

    @property
    def success(self) -> float:
        """The share of held-out images that the best reverse-engineered trigger sends to its target."""
        return self.moved.value

    @property
    def accuracy_lost(self) -> float:
        """What the repair costs on the held-out images; below 0 it gains."""
        return self.held_out.share

    @property
    def cost(self) -> float:
        """The accuracy that is lost, and the share of its images that a target loses: what it gains makes up for nothing."""
        of_targets = [self.classes[label].share for label in self.targets if label in self.classes]
        return self.accuracy_lost + max([0.0, *of_targets])

    @property
    def worst_class(self) -> int:
        """The class that loses most."""
        return max(self.classes, key=lambda label: self.classes[label].share)

    def costs_more_than(self, budget: float, of_a_class: float) -> bool:
        """Whether more than `budget` of the accuracy is lost, or more than `of_a_class` of any one class."""
        return self.held_out.exceeds(budget) or any(loss.exceeds(of_a_class) for loss in self.classes.values())

    @property
    def holds(self) -> bool:
        """Whether the fresh triggers fail."""
        return self.success <= _HOLDS

    @property
    def damage(self) -> float:
        """What the triggers still do, nothing where it holds, and what the repair costs.

        The sum weighs what the defence effectiveness rating weighs, with fresh triggers instead of the attacker's, and what a
        target loses.
        """
        return (0.0 if self.holds else self.success) + self.cost

    def better_than(self, gentler: Candidate) -> bool:
        """Whether it is to be preferred to a gentler repair: by the damage, or else by the cost.

        Where triggers work on a network whatever is done, as on those that know little, their success differs by chance:
        by no more than one standard error. Then the stronger repair must cost no more. A larger bar would leave triggers
        that the stronger one removes.
        """
        if self.holds or abs(self.moved.errors_above(gentler.moved)) > 1:
            return self.damage < gentler.damage
        return (self.cost, self.success) < (gentler.cost, gentler.success)

    def record(self) -> CandidateRecord:
        """Return what is known of it without the network."""
        worst = self.worst_class
        return CandidateRecord(
            name=self.name,
            fresh_triggers_work_on=self.success,
            accuracy_lost=self.accuracy_lost,
            worst_class=worst,
            worst_class_lost=self.classes[worst].share,
            holds=self.holds,
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

    `searches` holds them as they were recovered from the original. They miss some large triggers, such as sunglasses, of
    which they hold no more than random bands. If so few images are held out that one of them is more than a repair that
    holds may leave, there is a second set, which has taken further steps on the original, and the mean counts.

    Two triggers are the exception: what the scan recovered takes part in training and judgement, and moves on from there in each,
    and a plane wave is sought among the same ones. `predictions` (n,) are the original's on `images`. Of the `clean` images,
    whose labels are known, its predictions are `right` for some, and some are `held_out`.
    """

    predictions: torch.Tensor
    clean: Dataset
    right: Mask
    held_out: Mask
    images: torch.Tensor
    searches: tuple[TriggerSearch, ...]
    targets: tuple[int, ...]
    seed: int
    temperature: float

    @classmethod
    def make(
        cls, original: Classifier, clean: Dataset, held_out: Dataset, suspected: Sequence[Backdoor], seed: int
    ) -> Judge:
        """Return the judge of the repairs of `original`: its fresh triggers are recovered once, from the original.

        `clean`: all images; where their labels are known they tell what each class loses. Of a class there are too few
        among those held out. Three quarters of them were trained on, so that a class loses at least what is seen.
        """
        images = held_out.sample(_SEARCHED, seed=seed).images().to(original.device)
        with torch.inference_mode():
            logits = original(images)
        predictions, temperature = logits.argmax(dim=1), find_temperature(logits)
        search = copy_for_search(original, images)
        searches = (TriggerSearch.start(search, images, suspected, 1, seed + _FRESH),)
        known = clean.with_known_labels()
        right = predict_classes(original, known) == known.targets
        unseen = np.isin(known.positions, held_out.positions)
        judge = cls(predictions, known, right, unseen, images, searches, targets_of(suspected), seed, temperature)
        return judge if len(images) * _HOLDS >= 1 else judge._with_second_set(search)

    def judge(self, name: str, repaired: Classifier) -> Candidate:
        """Measure one candidate: the triggers follow it for some steps, beginning with what they are on the original."""
        search = copy_for_search(repaired, self.images)
        counts, of = list[int](), 0
        for triggers in map(copy.deepcopy, self.searches):
            self._follow(search, triggers, _FOLLOWING)
            count, of = triggers.measure(repaired, self.images, self.predictions)
            counts.append(count)
        moved = Share(sum(counts) / len(counts), of)
        right = predict_classes(repaired, self.clean) == self.clean.targets
        of_class = {int(label): self.clean.targets == label for label in np.unique(self.clean.targets)}
        classes = {label: Loss.of(self.right[rows], right[rows]) for label, rows in of_class.items()}
        lost = Loss.of(self.right[self.held_out], right[self.held_out])
        return Candidate(name, repaired, moved, lost, classes, self.targets)

    def _with_second_set(self, network: Classifier) -> Judge:
        """Return the judge with a second set of triggers, which have taken steps on the original, here as `network`."""
        optimised = copy.deepcopy(self.searches[0])
        self._follow(network, optimised, _ON_ORIGINAL)
        return replace(self, searches=(*self.searches, optimised))

    def _follow(self, network: Classifier, triggers: TriggerSearch, steps: int) -> None:
        """Let triggers take so many steps on a network."""
        draws = torch.Generator().manual_seed(self.seed)
        for _ in range(steps):
            turns = triggers.draw(len(self.images), draws).to(self.images.device)
            triggers.step(network, self.images, self.predictions, turns, self.temperature)
