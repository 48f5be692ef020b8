"""Class pairs: a planted trigger that moves images of one class alone is small, and means nothing to a student."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from pydantic import Field

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.method import Progress, RunParts, Scanner, no_progress, run_here
from goodnet.core.results import Detection
from goodnet.evidence.held_out import hold_out, still_suspected, try_triggers
from goodnet.evidence.judgement import PAIR
from goodnet.evidence.pair_sizes import PairSizes, compare_pairs
from goodnet.evidence.usual_leads import USUAL_LEADS
from goodnet.triggers.class_pairs import PairSchedule, name_pair


class ClassPairs(Scanner):
    """Suspects a pair of classes if a small trigger sends the first to the second, and a student needs a larger one.

    For each ordered pair of classes, a trigger is reverse-engineered that sends images of the source to the target and leaves
    the images of all other classes alone. It begins with the best of some small opaque patches. After a few steps the pairs
    with the lowest loss are kept, and their triggers are made small. Two students (small networks) learn the network's
    predictions on the clean images. The triggers of the kept pairs are then made small again on the students. In a clean
    network both sizes are alike: a short stroke makes a 9 of a 4 in the network and in its students. The score of a pair comes
    from its lead over the next pair in log(size on the student / size on the network) (`evidence/outliers.py`).

    **Source** ours. The attack: T. Gu et al., "BadNets", IEEE Access 2019. Making triggers small: B. Wang et al., "Neural
    Cleanse", IEEE S&P 2019. Spending most steps on promising pairs: G. Shen et al., "Backdoor scanning for deep neural
    networks through K-arm optimization", ICML 2021.
    **Differs** from K-arm optimization: all pairs get the same number of first steps; the images of other classes are part of
    the loss; the size is compared with that in a student.
    **Needs** at least 60 clean images, 8 of a pair's source class (labels are not used); gradients.
    **Cost** patches: 5,000 to 47,000 passes forward for ten classes. Inversion, forward and backward: 64 passes for each pair,
    and 960 for each of 8 kept pairs. Each of two students (small networks): 8,000 passes of training, and 960 for each of the
    8 pairs.
    **Fails when** the trigger works on images of several classes; it is not a patch, nor reachable from one by gradient descent;
    the network predicts the source class too rarely; the clean images are so few that the student learns too little. It never
    proves a network clean: where it suspects nothing, the verdict is inconclusive.
    """

    images: int = Field(24, ge=8, description="clean images of each class")
    kept: int = Field(8, ge=4, description="pairs whose triggers are made small")
    steps: int = Field(80, ge=1, description="steps of inversion for each of them")
    alpha: float = Field(0.05, gt=0, lt=1, description="p-value at which a pair is suspected")

    def examine(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        seed: int,
        run_parts: RunParts = run_here,
        progress: Progress = no_progress,
    ) -> Detection:
        """Return minus log of the p-value of each class, that of its highest pair, and the pairs that are suspected."""
        images, held_out = hold_out(clean.sample(_MOST_IMAGES, seed=seed).images(), _LEAST_IMAGES)
        default = PairSchedule()
        schedule = replace(default, images=self.images, kept=self.kept, deep=replace(default.deep, steps=self.steps))
        pairs = compare_pairs(classifier, images, schedule, seed=seed, run_parts=run_parts, progress=progress)
        if pairs is None or not pairs.complete:
            return Detection.unexamined(classifier.classes, _FEW if pairs is None else _LATE)
        usual = USUAL_LEADS[PAIR].mean(classifier.classes)
        scores = np.full(classifier.classes, -np.inf)
        targets = [name_pair(number, classifier.classes)[1] for number in pairs.triggers.labels]
        scores[targets] = pairs.of_targets(usual)[targets]
        suspected = self._suspects(pairs, pairs.scores(usual))
        trials = try_triggers(classifier, held_out, suspected)
        kept = still_suspected(suspected, trials)
        return Detection(
            verdict="backdoored" if kept else "inconclusive",
            scores=tuple(float(score) for score in scores),
            threshold=-math.log(self.alpha),
            suspected=kept,
            unscanned=tuple(int(label) for label in np.flatnonzero(np.isneginf(scores))),
            reason="; ".join([_explain(pairs), *map(str, trials)]),
        )

    def _suspects(self, pairs: PairSizes, scores: dict[int, float]) -> tuple[Backdoor, ...]:
        ranked = sorted(scores, key=lambda number: -scores[number])
        loud = [number for number in ranked if scores[number] >= -math.log(self.alpha)]
        return tuple(pairs.backdoor(number, name=self.name()) for number in loud)


_FEW = "no pairs of classes could be compared: that takes 60 clean images, and of a source class at least 8"
_LATE = "the time was up before all pairs were done"
#: Clean images that are looked at, at most, and those that are kept to teach the student, where there are few.
_MOST_IMAGES, _LEAST_IMAGES = 640, 60


def _explain(pairs: PairSizes) -> str:
    """Return the two pairs that stand out most, with their sizes in network and student."""
    shown = []
    for row in np.argsort(-pairs.values)[:2]:
        source, target = name_pair(pairs.triggers.labels[row], pairs.classes)
        size, beside = float(pairs.triggers.sizes[row]), float(pairs.beside[row])
        shown.append(f"{source} to {target} ({size:.1f} pixels, {beside:.1f} in a student)")
    return "smallest triggers beside the student: " + ", ".join(shown)
