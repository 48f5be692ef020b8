"""A network compared with a student that learnt its answers on clean images alone: what else has the network learnt?

A student has the classes' natural triggers, since these lie in the images, and no planted one, since no image of its carries
it. So a trigger that the network has and the student has not was planted. No class is compared with another: this works with
two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import t as student_t
from torch import Tensor, nn

from goodnet.core.backdoor import Patch
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.graph import trace
from goodnet.core.method import Progress, RunParts, no_progress, run_here
from goodnet.evidence.outliers import Scores
from goodnet.training import Training, train
from goodnet.triggers.inversion import Inversions, Schedule, classes_of, invert_for_single_images, invert_triggers
from goodnet.triggers.maximum_margin import margins_of
from goodnet.triggers.patch_probe import ProbeSchedule, probe_shares
from goodnet.triggers.universal_blend import Budget, universal_margins

#: The kinds of evidence, each for one class by itself.
SIZE, SINGLE, STUDENT, BLEND = (
    "trigger size",
    "trigger size beside single images",
    "trigger size beside a student",
    "universal blend beside a student",
)
#: Kind -> mean and standard deviation over the classes of clean networks; the deviation of the sum of all kinds, each in such
#: deviations; and how many networks these were (`benchmarks/few_classes.py usual`).
USUAL = {SIZE: (2.89, 0.51), SINGLE: (-0.9, 0.46), STUDENT: (-0.19, 0.57), BLEND: (-0.31, 0.65)}
USUAL_SUM, NETWORKS = 2.5, 11
#: Clean images that are looked at, what is blended into them, and where small patches are tried.
_IMAGES, _BLENDED, _PATCHES = 120, Budget(opacity=0.1), ProbeSchedule(stride=4)
#: Images for each of which a trigger of its own is sought.
_SINGLES = 10
#: Sides of the images, in pixels, for which the student's first layer has 3 x 3 kernels.
_SIDE = 32


def make_student(classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """Return a small network with fresh weights: four convolutions with batch norm; on larger images it begins more coarsely."""
    channels, height, width = image_shape
    unit = max(1, round(min(height, width) / _SIDE))
    layers: list[nn.Module] = []
    for outputs, side, stride in ((16, 2 * unit + 1, unit), (32, 3, 2), (64, 3, 2), (64, 3, 2)):
        layers += [
            nn.Conv2d(channels, outputs, side, stride, side // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]
        channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * channels, classes))


def teach_student(classifier: Classifier, images: Tensor, seen: int, *, seed: int) -> Classifier:
    """Return a small network that has learnt the answers of `classifier` to clean images (n, C, H, W), and nothing else.

    It sees about `seen` images, in whole passes, each shifted anew by up to a tenth.

    Cost: one pass of the network; `seen` forward and backward of the student.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = trace(make_student(classifier.classes, classifier.image_shape))
    student = Classifier(network, image_shape=classifier.image_shape, name="student").to(classifier.device)
    lessons = Dataset.from_arrays(images.numpy(), classes_of(classifier, images).numpy())
    epochs = max(1, round(seen / len(images)))
    train(student, lessons, Training(epochs=epochs, learning_rate=2e-3, batch_size=32, augmentation="shift"), seed=seed)
    return student


@dataclass(frozen=True)
class Reach:
    """How easily each class of a network is reached: by its smallest trigger, and by a faint blend.

    `triggers` of the classes that there was time for; `gains` (classes,): what one faint image, blended into clean ones, adds to
    their margins, over their mean distance from the class; NaN where there was no time.
    """

    triggers: Inversions
    gains: Tensor

    def sizes(self) -> Tensor:
        """Return the size of each class's trigger, (classes,); NaN where there was no time."""
        sizes = torch.full_like(self.gains, torch.nan)
        sizes[list(self.triggers.labels)] = self.triggers.sizes.clamp_min(_LEAST_SIZE)
        return sizes


#: Triggers of fewer pixels are as good as equal, and so are gains below the second.
_LEAST_SIZE, _LEAST_GAIN = 0.5, 0.05


@dataclass(frozen=True)
class Comparison:
    """What is measured of each class: kind -> `values` (classes,), high ones are suspicious; `triggers` are the network's."""

    values: dict[str, Scores]
    triggers: Inversions

    def trigger(self, label: int) -> Patch | None:
        """Return the trigger recovered for a class, None where none worked."""
        position = self.triggers.labels.index(label)
        return self.triggers.patch(position) if bool(self.triggers.worked[position]) else None

    def surprises(self) -> tuple[dict[str, Scores], Scores]:
        """Return minus the natural log of the p-value of each class: by each kind, and by their sum, (classes,).

        The p-value is the share of clean networks in which any class is as easy to reach: Student's t of the deviation from
        the usual mean, times the number of classes (Bonferroni). NaN where there was no time.
        """
        deviations = {kind: (self.values[kind] - mean) / spread for kind, (mean, spread) in USUAL.items()}
        total = np.sum(list(deviations.values()), axis=0) / USUAL_SUM
        return {kind: _nats(values) for kind, values in deviations.items()}, _nats(total)


def _nats(deviations: Scores) -> Scores:
    p = len(deviations) * student_t.sf(deviations, NETWORKS - 1)
    nats: Scores = -np.log(np.clip(p, 1e-20, 1.0))
    return nats


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
    """Return how easily clean images (n, C, H, W) reach each class of a network, and of its student."""
    images = images[:_IMAGES]
    own = measure_reach(classifier, images, schedule, seed=seed, run_parts=run_parts, progress=progress)
    singles = measure_singles(classifier, images, schedule, seed=seed, run_parts=run_parts)
    theirs = measure_reach(student, images, schedule, seed=seed)
    logs = {name: size.log() for name, size in (("own", own.sizes()), ("single", singles), ("theirs", theirs.sizes()))}
    height, width = classifier.image_shape[1:]
    values = {
        SIZE: np.log(height * width) - logs["own"],
        SINGLE: logs["single"] - logs["own"],
        STUDENT: logs["theirs"] - logs["own"],
        BLEND: own.gains.clamp_min(_LEAST_GAIN).log() - theirs.gains.clamp_min(_LEAST_GAIN).log(),
    }
    return Comparison({kind: value.double().numpy() for kind, value in values.items()}, own.triggers)


def measure_reach(
    classifier: Classifier,
    images: Tensor,
    schedule: Schedule,
    *,
    seed: int,
    run_parts: RunParts = run_here,
    progress: Progress = no_progress,
) -> Reach:
    """Return how easily clean images (n, C, H, W) reach each class; the cost is that of the three searches."""
    labels = list(range(classifier.classes))
    probes = probe_shares(classifier, images, _PATCHES, run_parts=run_parts, progress=progress).probes
    starts = {label: probes.patch(classifier, label) for label in labels} if probes else {}
    triggers = invert_triggers(
        classifier, images, labels, schedule, seed=seed, starts=starts, run_parts=run_parts, progress=progress
    )
    blended = universal_margins(classifier, images, labels, _BLENDED, seed=seed, run_parts=run_parts)
    before = torch.stack([_mean_margin(classifier, images, label) for label in labels])
    return Reach(triggers, (blended.cpu() - before) / before.abs().clamp_min(1e-9))


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


#: Images for each of which a trigger of its own is sought.
_SINGLES = 10


def single_part(
    classifier: Classifier, images: Tensor, schedule: Schedule, seed: int, labels: Sequence[int]
) -> tuple[Tensor]:
    """Return the median size for one class, (); one part of `measure_singles`."""
    (label,) = labels
    others = images[classes_of(classifier, images) != label][:_SINGLES]
    sizes = invert_for_single_images(classifier, others if len(others) else images[:1], label, schedule, seed=seed)
    return (sizes.clamp_min(_LEAST_SIZE).median(),)
