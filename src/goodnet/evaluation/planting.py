"""Planting a backdoor and measuring it: from data, an attack and an architecture to a BadNet whose truth is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from goodnet.attacks.poisoning import count_classes, poisoned_test_set
from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnreadableData
from goodnet.core.method import Attack, Poisoned, Progress, no_progress
from goodnet.core.results import Metrics
from goodnet.datasets.sources import Parts
from goodnet.devices import CPU, on_device
from goodnet.evaluation.comparison import evaluate_network
from goodnet.formats.networks import make_network
from goodnet.training import Training, train


@dataclass(frozen=True)
class Planted:
    """A trained network and the truth about it.

    `poisoned` is what it was trained on (None: on clean data); `triggered` holds test images with each trigger, by
    the trigger's name; `metrics` are measured on the test images, the rates by the same names.
    """

    classifier: Classifier
    attack: Attack | None
    training: Training
    seed: int
    train_images: int
    poisoned: Poisoned | None
    triggered: dict[str, Dataset]
    metrics: Metrics

    @property
    def backdoors(self) -> tuple[Backdoor, ...]:
        """The true backdoors; none in a network trained on clean data."""
        return self.poisoned.backdoors if self.poisoned else ()


def plant(
    parts: Parts,
    attack: Attack | None,
    architecture: str,
    training: Training,
    *,
    seed: int = 0,
    file_format: str = "pt",
    device: torch.device = CPU,
    test_images: int | None = None,
    checkpoint: Path | None = None,
    progress: Progress = no_progress,
) -> Planted:
    """Poison the training images, train a network on them, measure what came of it.

    Twins are made by two calls that differ in `attack` alone: the first weights and the order of the images are the
    same.

    Args:
        parts: training, validation and test images; the validation images are not touched.
        attack: what to plant; None trains a clean network.
        architecture: a name, or `package.module:factory`.
        training: the options of the training.
        seed: of poisoning, first weights and training.
        file_format: pt, safetensors, h5 or keras: how the network will be saved.
        device: where to train.
        test_images: at most so many triggered images are kept and measured for each trigger; None: all.
        checkpoint: see `train`.
        progress: called with the number of training steps that are done.

    Raises:
        InputError: data, attack and architecture do not fit one another; nothing has been trained.
        MethodFailed: the training did not succeed.
    """
    classes, shape = count_classes(parts.train), parts.train.image_shape
    classifier = make_network(architecture, classes, shape, file_format=file_format, seed=seed)
    poisoned = None if attack is None else attack.poison(parts.train, seed=seed)
    triggered = {} if poisoned is None else trigger_test_sets(parts.test, poisoned.backdoors, test_images)
    dataset = parts.train if poisoned is None else poisoned.dataset
    with on_device(device, classifier):
        train(classifier, dataset, training, seed=seed, checkpoint=checkpoint, progress=progress)
        metrics = evaluate_network(classifier, parts.test, list(triggered.values())).metrics
    return Planted(classifier, attack, training, seed, len(parts.train), poisoned, triggered, metrics)


def group_backdoors(backdoors: tuple[Backdoor, ...]) -> dict[str, tuple[Backdoor, ...]]:
    """Return the backdoors of each trigger, by the trigger's name; a second trigger of a name gets a number.

    The N backdoors of an all-to-all attack have one trigger.
    """
    groups: dict[str, tuple[Backdoor, ...]] = {}
    for _, items in groupby(backdoors, key=lambda item: id(item.trigger)):
        members = tuple(items)
        name, number = members[0].name, 2
        while name in groups:
            name, number = f"{members[0].name}_{number}", number + 1
        groups[name] = members
    return groups


def trigger_test_sets(test: Dataset, backdoors: tuple[Backdoor, ...], most: int | None = None) -> dict[str, Dataset]:
    """Return test images with each trigger on them, by the trigger's name, at most `most` of each.

    Raises:
        UnreadableData: a backdoor works on none of the images.
    """
    sets = {}
    for name, group in group_backdoors(backdoors).items():
        chosen = test if most is None else test.subset(_draw_attacked(test, group, most))
        sets[name] = replace(poisoned_test_set(chosen, group), name=name)
    return sets


def _draw_attacked(test: Dataset, group: tuple[Backdoor, ...], most: int) -> npt.NDArray[np.int64]:
    """Return the positions of at most `most` images that the backdoors of a group work on, drawn at random, sorted."""
    attacked = np.zeros(len(test), np.bool_)
    for backdoor in group:
        inside = np.ones(len(test), np.bool_) if backdoor.sources is None else np.isin(test.targets, backdoor.sources)
        attacked |= inside & (test.targets != backdoor.target)
    positions = np.flatnonzero(attacked)
    if not len(positions):
        raise UnreadableData(f"{test.name}: expected test images of classes that the backdoor works on, found none")
    return np.sort(np.random.default_rng(0).permutation(positions)[:most])


@dataclass(frozen=True)
class Preview:
    """Images (N, C, H, W) in [0, 1] without and with a trigger, and a line for each: trigger, true class, target."""

    clean: Tensor
    triggered: Tensor
    labels: tuple[str, ...]


def preview(parts: Parts, attack: Attack, *, seed: int = 0, count: int = 8) -> Preview:
    """Return about `count` test images, the same number for each trigger, before and after; nothing is trained.

    Raises:
        InputError: data and attack do not fit each other.
    """
    groups = group_backdoors(attack.poison(parts.train, seed=seed).backdoors)
    each = max(1, count // len(groups))
    shown = [(name, *pair) for name, group in groups.items() for pair in _pairs(parts.test, group, each)]
    return Preview(
        torch.cat([clean for _, clean, _ in shown]),
        torch.cat([triggered.images() for _, _, triggered in shown]),
        tuple(f"{name} {_classes(triggered)}" for name, _, triggered in shown),
    )


def _pairs(test: Dataset, group: tuple[Backdoor, ...], count: int) -> Iterator[tuple[Tensor, Dataset]]:
    for position in _draw_attacked(test, group, count):
        single = test.subset([int(position)])
        label = int(single.targets[0])
        backdoor = next(b for b in group if b.target != label and (b.sources is None or label in b.sources))
        yield single.images(), poisoned_test_set(single, backdoor)


def _classes(triggered: Dataset) -> str:
    truth = triggered.targets if triggered.true_targets is None else triggered.true_targets
    names = triggered.class_names
    before, after = int(truth[0]), int(triggered.targets[0])
    shown = [(names[label] if names else "") or str(label) for label in (before, after)]
    return " -> ".join(shown)
