"""Pairs of classes: how small a trigger sends images of one class to another?

A source-specific backdoor works on images of one class alone, an all-to-all backdoor sends each class elsewhere. Neither
makes a class easy to reach from all others; both make some pairs of classes closer than they are by nature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from goodnet.algorithms.outliers import Scores
from goodnet.algorithms.trigger_inversion import Inversions, Schedule, classes_of, invert_maps
from goodnet.core.backdoor import Backdoor, Patch
from goodnet.core.classifier import Classifier
from goodnet.core.method import Progress, RunParts, no_progress, run_here

#: A class of which there are fewer images is no source: what moves two or three images says little of the class.
_LEAST_IMAGES = 4
#: Rounds of taking out what the classes are by nature; the medians hardly change after a few.
_ROUNDS = 10
#: No trigger counts as smaller than half a pixel.
_LEAST_SIZE = 0.5


@dataclass(frozen=True)
class Pairs:
    """The triggers of pairs of `classes` classes: the labels of `found` are source * classes + target.

    `wanted` pairs were to be tried.
    """

    classes: int
    found: Inversions
    wanted: int

    @property
    def smallness(self) -> Scores:
        """How much smaller the trigger of each pair is than source and target explain, (source, target); NaN if not tried.

        Minus the residual of the logarithm of the size, when the medians of the rows and of the columns are taken out in turn:
        some classes are left easily by nature, some are reached easily, and the target of an ordinary backdoor is reached
        from everywhere.

        Source: J. Tukey, "Exploratory data analysis", 1977, chapter 11 (median polish).
        """
        rest = self._logarithms()
        for _ in range(_ROUNDS):
            for axis in (1, 0):
                known = np.isfinite(rest).any(axis=axis, keepdims=True)
                middle = np.nanmedian(np.where(known, rest, 0.0), axis=axis, keepdims=True)
                rest = rest - middle
        return -rest

    @property
    def complete(self) -> bool:
        """Whether there was time for all pairs that were to be tried."""
        return self.wanted == len(self.found.labels)

    @property
    def shifts(self) -> Scores:
        """How much smaller triggers are, in the mean, that send each class c to c + k: (classes - 1,) for k = 1, 2, ...

        NaN where fewer than half of the classes were tried as sources.
        """
        smallness, sources = self.smallness, np.arange(self.classes)
        by_step = [smallness[sources, (sources + step) % self.classes] for step in range(1, self.classes)]
        enough = [2 * np.isfinite(values).sum() >= self.classes for values in by_step]
        return np.array(
            [np.nanmean(values) if known else np.nan for values, known in zip(by_step, enough, strict=True)]
        )

    def patch(self, source: int, target: int) -> Patch | None:
        """Return the trigger of a pair; None where it was not tried or none worked."""
        code = source * self.classes + target
        if code not in self.found.labels:
            return None
        position = self.found.labels.index(code)
        return self.found.patch(position) if bool(self.found.worked[position]) else None

    def _logarithms(self) -> Scores:
        """Return the logarithm of the sizes; one that was not found counts as the largest that was."""
        sizes = self.found.sizes.double().clamp_min(_LEAST_SIZE)
        if bool(self.found.worked.any()):
            sizes = torch.where(self.found.worked, sizes, sizes[self.found.worked].max())
        table = np.full(self.classes**2, np.nan)
        table[list(self.found.labels)] = np.log(sizes.numpy())
        return table.reshape(self.classes, self.classes)


def invert_pairs(
    classifier: Classifier,
    images: Tensor,
    schedule: Schedule,
    *,
    seed: int,
    run_parts: RunParts = run_here,
    progress: Progress = no_progress,
) -> Pairs:
    """Return the smallest trigger found for each pair of classes.

    Args:
        classifier: the network; its weights stay as they are.
        images: clean images (n, C, H, W) in [0, 1]. A class of which there are fewer than four is no source.
        schedule: steps and images.
        seed: of the start values and the draws.
        run_parts: where the work runs; pairs that there was no time for are left out.
        progress: is told the pairs done.

    Cost: classes * (classes - 1) * steps * images passes forward and backward.

    Source: B. Wang et al., "Neural Cleanse", IEEE S&P 2019, section V, of one class at a time; Z. Xiang, D. J. Miller,
    G. Kesidis, "Detection of backdoors in trained classifiers without access to the training set", IEEE TNNLS 2022 (pairs).
    """
    classes = classifier.classes
    counts = torch.bincount(classes_of(classifier, images), minlength=classes)
    sources = [source for source in range(classes) if counts[source] >= _LEAST_IMAGES]
    maps = {
        source * classes + target: _only(source, target, classes)
        for source in sources
        for target in range(classes)
        if source != target
    }
    found = invert_maps(classifier, images, maps, schedule, seed=seed, run_parts=run_parts, progress=progress)
    return Pairs(classes, found, len(maps))


def _only(source: int, target: int, classes: int) -> Tensor:
    """Return the map that moves one class and leaves the others, (classes,)."""
    one = torch.arange(classes)
    one[source] = target
    return one


#: A trigger that several pairs share need not work on all images: an all-to-all backdoor seldom does.
_SHARED = Schedule(steps=150, images=8, success=0.55, least=0.6)


def share_trigger(
    classifier: Classifier, images: Tensor, suspected: Sequence[Backdoor], *, seed: int
) -> tuple[Backdoor, ...]:
    """Return suspected backdoors, those that name a source with one trigger for all of them, if there is one.

    An attack on several pairs, all to all among them, mostly has a single trigger, which shows more than one for each pair.

    Cost: 1,200 passes forward and backward, where at least two backdoors have a source.
    """
    of_pairs = [item for item in suspected if item.sources is not None]
    if len(of_pairs) < 2:
        return tuple(suspected)
    goals = torch.arange(classifier.classes)
    for item in reversed(of_pairs):  # The first named for a source is the surest.
        goals[list(item.sources or ())] = item.target
    found = invert_maps(classifier, images, {0: goals}, _SHARED, seed=seed)
    if not bool(found.worked[0]):
        return tuple(suspected)
    patch = found.patch(0)
    return tuple(item if item.sources is None else replace(item, trigger=patch) for item in suspected)
