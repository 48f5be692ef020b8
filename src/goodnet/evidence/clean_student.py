"""What is known of a class by itself, where there are too few classes to compare: its trigger, and what a student has learnt.

A student learns the network's predictions on clean images alone. It has the classes' natural weaknesses, since these lie in the
images, and no planted one, since none of the images that it learns from carries one. So where a faint image moves the network
much further than the student, there is more than the clean images explain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import stdtr
from torch import Tensor

from goodnet.core.backdoor import Patch
from goodnet.core.classifier import Classifier
from goodnet.core.method import Progress, RunParts, no_progress, run_here
from goodnet.evidence.outliers import Scores
from goodnet.evidence.rounds import keep_smallest, mean_of
from goodnet.triggers.inversion import Inversions, Schedule, classes_of, invert_for_single_images, invert_triggers
from goodnet.triggers.maximum_margin import margins_of
from goodnet.triggers.patch_probe import ProbeSchedule, probe_shares
from goodnet.triggers.universal_blend import Budget, universal_margins

#: The kinds of evidence.
SIZE, SINGLE, BLEND = "trigger size", "trigger size beside single images", "universal blend beside a student"
#: Kind -> mean and standard deviation over the classes of clean networks (`benchmarks/few_classes.py usual`).
USUAL = {SIZE: (2.96, 0.54), SINGLE: (-0.86, 0.39), BLEND: (0.0, 0.37)}
#: Each kind in such deviations, added up: mean and deviation of the highest sum of a clean network, and how many they were.
HIGHEST, NETWORKS = (1.56, 1.20), 21
#: Clean images that are looked at, what is blended into them, and where small patches are tried.
_IMAGES, _BLENDED, _PATCHES = 120, Budget(opacity=0.1), ProbeSchedule(stride=4)
#: Images for each of which a trigger of its own is sought.
_SINGLES = 10


@dataclass(frozen=True)
class Comparison:
    """What is measured of each class: kind -> `values` (classes,), high ones are suspicious; and its smallest trigger."""

    values: dict[str, Scores]
    triggers: Inversions

    def trigger(self, label: int) -> Patch | None:
        """Return the trigger recovered for a class, None where none worked."""
        position = self.triggers.labels.index(label)
        return self.triggers.patch(position) if bool(self.triggers.worked[position]) else None

    def scores(self) -> tuple[dict[str, Scores], Scores]:
        """Return each kind in deviations from the usual mean, and minus the natural log of the p-value of their sum, (classes,).

        The p-value is the share of clean networks in which the sum of some class is as high, by Student's t distribution. NaN
        where there was no time.
        """
        deviations = {kind: (self.values[kind] - mean) / spread for kind, (mean, spread) in USUAL.items()}
        mean, spread = HIGHEST
        # Mean and spread are estimates: the distribution of one network more is wider by the root.
        total = (np.sum(list(deviations.values()), axis=0) - mean) / (spread * np.sqrt(1 + 1 / NETWORKS))
        scores: Scores = -np.log(stdtr(NETWORKS - 1, -total))
        return deviations, scores


def average(rounds: Sequence[Comparison]) -> Comparison:
    """Return the mean of the values of several rounds, and the smallest triggers."""
    values = {kind: mean_of([item.values[kind] for item in rounds]) for kind in rounds[0].values}
    return Comparison(values, keep_smallest([item.triggers for item in rounds]))


#: Triggers of fewer pixels are as good as equal, and so are gains below the second.
_LEAST_SIZE, _LEAST_GAIN = 0.5, 0.05


def compare_with_student(
    classifier: Classifier,
    student: Classifier,
    images: Tensor,
    schedule: Schedule,
    *,
    seed: int,
    run_parts: RunParts = run_here,
    progress: Progress = no_progress,
) -> Comparison:
    """Return how easily clean images (n, C, H, W) reach each class, and how much further they go than in the student.

    * trigger size: the logarithm of the image's pixels over those of the smallest trigger;
    * beside single images: the logarithm of what a single image needs (the median of ten) over what all need;
    * universal blend: the logarithm of the gain in the network over the gain in the student, less the mean of the other classes.
    """
    images = images[:_IMAGES]
    triggers = _invert(classifier, images, schedule, seed, run_parts, progress)
    sizes = torch.full((classifier.classes,), torch.nan)
    sizes[list(triggers.labels)] = triggers.sizes.clamp_min(_LEAST_SIZE)
    singles = measure_singles(classifier, images, schedule, seed=seed, run_parts=run_parts)
    own = measure_gains(classifier, images, seed=seed, run_parts=run_parts)
    further = (own / measure_gains(student, images, seed=seed)).log()
    others = (further.sum() - further) / (classifier.classes - 1)
    height, width = classifier.image_shape[1:]
    values = {SIZE: (height * width / sizes).log(), SINGLE: (singles / sizes).log(), BLEND: further - others}
    return Comparison({kind: value.double().numpy() for kind, value in values.items()}, triggers)


def _invert(
    classifier: Classifier, images: Tensor, schedule: Schedule, seed: int, run_parts: RunParts, progress: Progress
) -> Inversions:
    """Return the smallest trigger of each class; the search begins with its best small patch."""
    probes = probe_shares(classifier, images, _PATCHES, run_parts=run_parts, progress=progress).probes
    labels = range(classifier.classes)
    starts = {label: probes.patch(classifier, label) for label in labels} if probes else {}
    return invert_triggers(
        classifier, images, labels, schedule, seed=seed, starts=starts, run_parts=run_parts, progress=progress
    )


def measure_gains(classifier: Classifier, images: Tensor, *, seed: int, run_parts: RunParts = run_here) -> Tensor:
    """Return what one faint image, blended into clean ones (n, C, H, W), adds to their margins, for each class (classes,).

    In units of the images' mean distance from the class; NaN where there was no time. Cost: 128 passes for each class.
    """
    labels = range(classifier.classes)
    blended = universal_margins(classifier, images, labels, _BLENDED, seed=seed, run_parts=run_parts).cpu()
    before = torch.stack([_mean_margin(classifier, images, label) for label in labels])
    return ((blended - before) / before.abs().clamp_min(1e-9)).clamp_min(_LEAST_GAIN)


def _mean_margin(classifier: Classifier, images: Tensor, label: int) -> Tensor:
    """Return the mean margin (below 0) of a class on images of other classes, ()."""
    others = images[classes_of(classifier, images) != label]
    with torch.inference_mode():
        logits = classifier(others if len(others) else images)
    return margins_of(logits, torch.full((len(logits),), label, device=logits.device)).mean().cpu()


def measure_singles(
    classifier: Classifier, images: Tensor, schedule: Schedule, *, seed: int, run_parts: RunParts = run_here
) -> Tensor:
    """Return the median size of the smallest triggers for ten single images of other classes, (classes,); NaN: no time.

    Cost: 10 * steps passes forward and backward for each class.
    """
    parts = [(label,) for label in range(classifier.classes)]
    found = run_parts("singles", single_part, (classifier, images, schedule, seed), parts)
    return torch.stack([torch.tensor(torch.nan) if value is None else value[0] for value in found])


def single_part(
    classifier: Classifier, images: Tensor, schedule: Schedule, seed: int, labels: Sequence[int]
) -> tuple[Tensor]:
    """Return the median size for one class, (); one part of `measure_singles`."""
    (label,) = labels
    others = images[classes_of(classifier, images) != label][:_SINGLES]
    sizes = invert_for_single_images(classifier, others if len(others) else images[:1], label, schedule, seed=seed)
    return (sizes.clamp_min(_LEAST_SIZE).median(),)
