"""Neural Cleanse: the smallest trigger that sends every image to a class is unusually small for a backdoor's target."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from pydantic import Field

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import InvalidOption
from goodnet.core.method import Progress, RunParts, Scanner, no_progress, run_here
from goodnet.core.results import Detection
from goodnet.evidence.held_out import Trial, hold_out, try_triggers
from goodnet.evidence.outliers import Scores, anomaly_index
from goodnet.triggers.inversion import Inversions, Schedule, invert_triggers


class NeuralCleanse(Scanner):
    """Suspects a class if the trigger recovered for it is unusually small: an outlier among the classes.

    For every class a mask and a pattern are optimised so that stamped clean images are classified as that class, with a
    small L1 norm of the mask. Norms are compared by their median absolute deviation: an anomaly index above 2 on the
    small side makes a class suspected. All classes are inverted in batches that share their images. With more than 64
    classes, this first run takes a third of the steps; the classes with the smallest triggers, and as many random others to
    compare with, are then inverted again from the start, with all steps.

    **Source** B. Wang, Y. Yao, S. Shan, H. Li, B. Viswanath, H. Zheng, B. Y. Zhao, "Neural Cleanse: Identifying and
    mitigating backdoor attacks in neural networks", IEEE S&P 2019, sections IV and V.
    **Differs** Classes in batches, few images and steps by default; the paper's schedule is steps 1000, images 32,
    keep 1. Dropping classes follows its low-cost mode (section V-D), with one cut instead of a moving overlap. A class whose
    trigger fails on held-out images is not suspected.
    **Needs** clean images (labels are not used); gradients.
    **Cost** classes * steps * images * (1/3 + 2 * keep) passes forward and backward; classes * steps * images for up to 64
    classes, none of which is dropped; one pass for each trigger on the held-out third of the images.
    **Fails when** the trigger is large (sunglasses), warps or blends, or more than a quarter of the classes are
    targets.
    """

    steps: int = Field(60, ge=1, description="optimisation steps per class")
    images: int = Field(8, ge=1, description="clean images per step")
    labels: tuple[int, ...] | None = Field(None, description="classes to invert; default: all")
    keep: float = Field(
        0.25, gt=0, le=1, description="share of the classes that is kept after a third of the steps; 1: all"
    )
    threshold: float = Field(2.0, gt=0, description="anomaly index above which a class is suspected")

    def examine(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        seed: int,
        run_parts: RunParts = run_here,
        progress: Progress = no_progress,
    ) -> Detection:
        """Return the anomaly index of every class.

        A class that was dropped early gets an index of 0 or less; a class that was not inverted gets minus infinity.

        Raises:
            InvalidOption: a class that was asked for is not among the network's.
        """
        images, held_out = hold_out(clean.sample(_MOST_IMAGES, seed=seed).images(), self.images)
        scores = np.full(classifier.classes, -np.inf)
        labels: Sequence[int] = self._labels(classifier.classes)
        invert = partial(invert_triggers, classifier, images, seed=seed, run_parts=run_parts, progress=progress)
        if len(labels) > _FEW and self.keep < 1:
            first = invert(labels, Schedule(max(1, self.steps // 3), self.images))
            scores[list(first.labels)] = np.minimum(anomaly_index(first.sizes.numpy()), 0.0)
            labels = self._promising(first, seed)
        found = invert(labels, Schedule(self.steps, self.images))
        index = anomaly_index(found.sizes.numpy()) if found.labels else np.zeros(0)
        scores[list(found.labels)] = index
        trials = try_triggers(classifier, held_out, self._suspects(found, index))
        doubts = ["the time was up before all classes were done"] if len(found.labels) < len(labels) else []
        if found.worked.float().mean() < _WORKED:
            doubts.append(
                f"a trigger was found for {int(found.worked.sum())} of {len(labels)} classes alone: take more steps"
            )
        return self._judge(scores, trials, doubts)

    def _judge(self, scores: Scores, trials: Sequence[Trial], doubts: Sequence[str]) -> Detection:
        suspected = tuple(item for trial in trials if not trial.refuted for item in trial.backdoors)
        unscanned = tuple(int(label) for label in np.flatnonzero(np.isneginf(scores)))
        doubtful = bool(unscanned) or bool(doubts) or len(scores) <= 2 or any(trial.refuted for trial in trials)
        reasons = [f"{len(trials)} classes with an anomaly index above {self.threshold:g}", *map(str, trials), *doubts]
        return Detection(
            verdict="backdoored" if suspected else "inconclusive" if doubtful else "clean",
            scores=tuple(float(score) for score in scores),
            threshold=self.threshold,
            suspected=suspected,
            unscanned=unscanned,
            reason="; ".join(reasons),
        )

    def _labels(self, classes: int) -> tuple[int, ...]:
        labels = self.labels or tuple(range(classes))
        if outside := [label for label in labels if not 0 <= label < classes]:
            raise InvalidOption(f"neural_cleanse: option 'labels': class {outside[0]} is not among 0 to {classes - 1}")
        return tuple(dict.fromkeys(labels))

    def _promising(self, first: Inversions, seed: int) -> list[int]:
        """Return the classes with the smallest triggers and a few random others, which say what is usual."""
        ranked = [first.labels[int(position)] for position in np.argsort(first.sizes.numpy(), kind="stable")]
        count = max(_FEW // 2, round(self.keep * len(ranked)))
        rest = np.random.default_rng(seed).permutation(ranked[count:])[:count]
        return [*ranked[:count], *(int(label) for label in rest)]

    def _suspects(self, found: Inversions, index: Scores) -> tuple[Backdoor, ...]:
        infected = [p for p in np.argsort(-index) if index[p] > self.threshold and bool(found.worked[p])]
        return tuple(Backdoor(found.patch(int(p)), found.labels[p], name=self.name()) for p in infected)


#: Where fewer of the classes have a trigger that works, the search was too short to compare them.
_WORKED = 0.5
#: Clean images from which the optimisation draws: more do not change the triggers.
_MOST_IMAGES = 200
#: Up to this many classes none is dropped: the rest would not say what is usual.
_FEW = 64
