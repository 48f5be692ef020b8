"""Pruning: take away the channels that clean images use least, until clean accuracy has fallen by a stated amount."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier, Layer
from goodnet.core.dataset import Dataset
from goodnet.core.errors import MethodFailed
from goodnet.core.method import Progress, Repairer, no_progress
from goodnet.core.repairs import Change, PruningSweep, Repair, RepairedNetwork, Trace
from goodnet.core.results import Rate
from goodnet.inference.predictions import require_fit
from goodnet.surgery.channels import (
    HeadOutputs,
    count_matches,
    find_prunable_layer,
    mean_activations,
    sweep_predictions,
)

Order = Literal["ascending", "descending", "random"]


class Pruning(Repairer):
    """Removes the channels of one late layer that clean images activate least, one network per accuracy threshold.

    Channels are ranked by their mean activation over the clean data and set to zero one by one. For a threshold X,
    the method returns the network at the step where clean accuracy has first dropped by X or more. This network classifies
    most clean images as before, and a backdoor that lives in dormant channels is gone or weakened. What makes
    this defence useful is the disagreement of the original and the pruned network (`pair/goodnet.py`), not the pruned network
    alone.

    **Source** K. Liu, B. Dolan-Gavitt, S. Garg, "Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural
    Networks", RAID 2018, section 3.1 (the pruning defence); thresholds as in the CSAW-HackML-2020 course project.
    **Differs** Stops at several thresholds in one sweep; besides ascending order, descending and random as controls.
    **Needs** clean images with labels; activations, no gradients.
    **Cost** one pass of the layers up to the pruned one, and for each of its channels one pass of the layers
    after it over the images on which the channel is active.
    **Fails when** backdoor and clean features share channels (pruning-aware attacks; large triggers): the attack
    success rate then stays high until accuracy is lost.
    """

    layer: str | None = Field(None, description="layer to prune; default: the last convolution or pooling stage")
    order: Order = Field("ascending", description="order of mean activation in which channels go")
    thresholds: tuple[float, ...] = Field(
        (0.02, 0.04, 0.10), min_length=1, description="drops of clean accuracy, fractions; one network each"
    )

    @field_validator("thresholds")
    @classmethod
    def _sorted_thresholds(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < value <= 1 for value in values):
            raise ValueError("thresholds are fractions, above 0 and at most 1 (2 % is 0.02)")
        return tuple(sorted(set(values)))

    def refuse(self, classifier: Classifier, clean: Dataset) -> None:
        """Refuse images without labels, and networks in which there is nothing to prune, before a scan."""
        clean.require_labels()
        find_prunable_layer(classifier, self.layer)

    def repair(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        suspected: Sequence[Backdoor] = (),
        seed: int,
        progress: Progress = no_progress,
    ) -> Repair:
        """Return one pruned network per threshold, the most pruned one last.

        Raises:
            MethodFailed: no threshold is reached even with all channels gone.
        """
        require_fit(classifier, clean)
        clean = clean.with_known_labels()
        layer = find_prunable_layer(classifier, self.layer)
        outputs = HeadOutputs(classifier, clean, layer.name, progress=progress)
        means = mean_activations(outputs)
        order = self._rank(means, seed)
        correct = count_matches(sweep_predictions(outputs, order, progress=progress), clean.targets)
        levels = {x: k for x in self.thresholds if (k := first_drop(correct, len(clean), x)) is not None}
        if not levels:
            raise MethodFailed(
                f"accuracy never falls by {self.thresholds[0]:g} or more, even without layer '{layer.name}': choose another layer"
            )
        networks = [
            self._prune(classifier, layer, order[:k], x, Rate.of(correct[k], len(clean))) for x, k in levels.items()
        ]
        sweep = PruningSweep(
            layer=layer.name,
            order=self.order,
            channels=tuple(order),
            mean_activations=tuple(map(float, means)),
            accuracy=tuple(hits / len(clean) for hits in correct),
            pruned_at_threshold={x: levels.get(x) for x in self.thresholds},
        )
        return Repair(tuple(networks), Rate.of(correct[0], len(clean)), Trace(sweep=sweep))

    def _rank(self, means: npt.NDArray[np.float64], seed: int) -> list[int]:
        if self.order == "random":
            ranked = np.random.default_rng(seed).permutation(len(means))
        else:
            ranked = np.argsort(means if self.order == "ascending" else -means, kind="stable")
        return [int(channel) for channel in ranked]

    def _prune(
        self, classifier: Classifier, layer: Layer, channels: Sequence[int], threshold: float, accuracy: Rate
    ) -> RepairedNetwork:
        pruned = classifier.copy()
        pruned.layer(layer.name).silence(channels)
        changes = Change(
            layer=layer.name,
            channels_pruned=tuple(channels),
            channels=layer.channels,
            order=self.order,
            threshold=threshold,
        )
        return RepairedNetwork(f"{100 * threshold:g}_percent", pruned, accuracy, changes)


def first_drop(correct: Sequence[int], n: int, threshold: float) -> int | None:
    """Return the first level whose accuracy lies `threshold` or more below that of level 0; None if there is none.

    Args:
        correct: images classified correctly at each level.
        n: number of images.
        threshold: a fraction.
    """
    # Counts are whole, the threshold is not: 0.02 * 50 must be 1, not 1.0000000000000002.
    return next((k for k, hits in enumerate(correct) if correct[0] - hits >= threshold * n - 1e-9), None)
