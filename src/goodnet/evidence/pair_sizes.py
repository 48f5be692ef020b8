"""Triggers from one class to another, in the network and in students: a planted one means nothing to a student.

The smallest trigger of a pair tells little by itself. In clean networks, too, some class is near another: a short stroke makes a
9 of a 4. But students that have seen the same clean images (`student.py`) have these weaknesses as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.method import Progress, RunParts, no_progress, run_here
from goodnet.evidence.outliers import Scores, lead_score
from goodnet.evidence.student import teach_student
from goodnet.triggers.class_pairs import PairImages, PairSchedule, choose_pairs, invert_pairs, name_pair
from goodnet.triggers.inversion import Inversions, Schedule, classes_of

#: Triggers of fewer pixels are as good as equal.
_LEAST_SIZE = 0.5
#: Students that are asked, as one of them may miss a natural weakness, and images that each sees while it learns.
_STUDENTS, _LESSONS = 2, 8000
#: With fewer images a student learns too little; of fewer sources or pairs nothing can be compared.
_LEAST_IMAGES, _LEAST_PAIRS = 60, 4


@dataclass(frozen=True)
class PairSizes:
    """The smallest `triggers` of some pairs, whose numbers are their labels, and their sizes in a student, `beside` (L,).

    Of several students it is the smallest. It is that of the whole image where no trigger works there. `unasked`: the classes
    that were no source, for they have too few images or a student does not know them. `complete`: whether there was time
    for all.
    """

    classes: int
    triggers: Inversions
    beside: Tensor
    unasked: tuple[int, ...] = ()
    complete: bool = True

    @property
    def values(self) -> Scores:
        """The logarithm of each trigger's size in the student over that in the network, (L,): high ones are suspicious.

        How large a trigger would be that was not found in the student nobody knows: it counts as the largest that was.
        """
        whole = self.triggers.masks[0].numel()
        found = self.beside < whole
        beside = torch.where(found, self.beside, self.beside[found].max()) if bool(found.any()) else self.beside
        values: Scores = (beside / self.triggers.sizes.clamp_min(_LEAST_SIZE)).double().log().numpy()
        return values

    def scores(self, usual: float) -> dict[int, float]:
        """Return minus the natural log of each pair's p-value; `usual` is the mean lead in clean networks."""
        found = lead_score(self.values, usual=usual)
        return dict(zip(self.triggers.labels, found.clip(min=0.0).tolist(), strict=True))

    def of_targets(self, usual: float) -> Scores:
        """Return the score of each class as a target, (classes,): that of its highest pair, 0 where it has none."""
        highest = np.zeros(self.classes)
        for number, score in self.scores(usual).items():
            _, target = name_pair(number, self.classes)
            highest[target] = max(highest[target], score)
        return highest

    def backdoor(self, number: int, name: str = "") -> Backdoor:
        """Return a pair as a backdoor that bears this name."""
        source, target = name_pair(number, self.classes)
        return Backdoor(self.triggers.patch(self.triggers.labels.index(number)), target, (source,), name)


def compare_pairs(
    classifier: Classifier,
    images: Tensor,
    schedule: PairSchedule,
    *,
    seed: int,
    among: Sequence[int] | None = None,
    run_parts: RunParts = run_here,
    progress: Progress = no_progress,
) -> PairSizes | None:
    """Return the smallest triggers of the pairs that are reached most easily, and their sizes in students.

    None if there are too few images.

    Args:
        classifier: the network; its weights stay as they are.
        images: clean images (n, C, H, W) in [0, 1]; their classes are the network's predictions.
        schedule: how triggers are sought.
        seed: seeds the students, the initial values and the draws of images.
        among: the pairs to look into; otherwise those are chosen that are reached most easily.
        run_parts: where the work runs.
        progress: called with the number of parts that are done.

    Cost: that of `choose_pairs` unless `among` is given; steps * images * 2 passes forward and backward for each pair, in the
    network and in two students; 8,000 to train each student.
    """
    chosen = PairImages.draw(classifier, images, schedule, seed)
    if len(images) < _LEAST_IMAGES or len(chosen.sources) * (classifier.classes - 1) < _LEAST_PAIRS:
        return None
    choice = choose_pairs(classifier, chosen, schedule, seed=seed, among=among, run_parts=run_parts, progress=progress)
    if not choice.complete:
        return PairSizes(classifier.classes, Inversions.none(classifier), torch.zeros(0), complete=False)
    students = [_Student.teach(classifier, images, chosen, seed, number) for number in range(_STUDENTS)]
    known = set.intersection(*(set(student.agreed.predictions.tolist()) for student in students))
    numbers = [number for number in choice.numbers if name_pair(number, classifier.classes)[0] in known]
    if len(numbers) < _LEAST_PAIRS:
        return None
    found = invert_pairs(
        classifier,
        chosen,
        numbers,
        schedule.deep,
        stage="network",
        seed=seed,
        starts=choice.starts,
        run_parts=run_parts,
        progress=progress,
    )
    beside = [student.invert(found, schedule.deep, seed, run_parts) for student in students]
    if any(item.labels != tuple(numbers) for item in (found, *beside)):
        return PairSizes(classifier.classes, found, torch.zeros(0), complete=False)
    smallest = torch.stack([item.sizes for item in beside]).amin(dim=0)
    return PairSizes(classifier.classes, found, smallest, tuple(sorted({*range(classifier.classes)} - known)))


@dataclass(frozen=True)
class _Student:
    """A student, the images to whose classes it agrees, and its number in this round."""

    classifier: Classifier
    agreed: PairImages
    number: int

    @classmethod
    def teach(cls, classifier: Classifier, images: Tensor, chosen: PairImages, seed: int, number: int) -> _Student:
        student = teach_student(classifier, images, _LESSONS, seed=seed + number)
        return cls(student, chosen.only(classes_of(student, chosen.pixels) == chosen.predictions), number)

    def invert(self, found: Inversions, schedule: Schedule, seed: int, run_parts: RunParts) -> Inversions:
        """Return the smallest triggers of the same pairs; the search begins with those found in the network."""
        return invert_pairs(
            self.classifier,
            self.agreed,
            found.labels,
            schedule,
            stage=f"student_{self.number}",
            seed=seed,
            starts={number: found.patch(row) for row, number in enumerate(found.labels)},
            run_parts=run_parts,
        )
