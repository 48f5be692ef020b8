"""Fine-pruning: take away what clean images do not need, then train what is left on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.method import Progress, Repairer, no_progress
from goodnet.core.repairs import Change, PruningSweep, Repair, RepairedNetwork, Trace
from goodnet.core.results import Rate
from goodnet.inference.defender_labels import with_labels
from goodnet.inference.predictions import measure_accuracy
from goodnet.surgery.channels import (
    HeadOutputs,
    count_matches,
    find_prunable_layer,
    mean_activations,
    sweep_predictions,
)
from goodnet.surgery.zero_weights import (
    Zeros,
    count_zeros,
    keeping_zero,
    set_to_zero,
    silenced_weights,
    smallest_weights,
)
from goodnet.training import Training, train


class WeightsZeroed(Change):
    """The weights set to zero in one of several rounds: how many, and their share of each layer's."""

    round: int
    sparsity: float
    weights_pruned: int


class FinePruning(Repairer):
    """Prunes, then fine-tunes what is left on the clean images; what was pruned stays zero.

    As in the paper (rounds 0), the channels of one late layer that clean images activate least are silenced, as many
    as the allowed drop of accuracy permits. With `rounds`, the smallest weights of every kernel and matrix are pruned instead,
    more in each round, and the network is trained after each round. After round k of n the share sparsity * (1 - (1 - k / n)^3)
    is zero. A round prunes less if the accuracy before its training would fall by more than `max_accuracy_drop`.

    **Source** K. Liu, B. Dolan-Gavitt, S. Garg, "Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural
    Networks", RAID 2018, section 3; the rounds: M. Zhu, S. Gupta, "To Prune, or Not to Prune: Exploring the Efficacy of
    Pruning for Model Compression", ICLR 2018 workshop, equation 1, per layer, as CSAW-HackML-2020 teams used it.
    **Differs** The rounds have a limit on the accuracy drop, since training on few images cannot restore what pruning
    removed; `max_accuracy_drop` 1 disables it. Adam at 1e-5 for 10 epochs, as those teams did.
    **Needs** clean images, with labels or without; activations, gradients.
    **Cost** rounds 0: one pass of the layers up to the pruned one, one of those after it per channel, and `epochs` passes
    forward and backward; rounds n: n times (`epochs` passes forward and backward, and up to 7 forward).
    **Fails when** backdoor and clean features share channels or large weights, and training on clean images alone has no
    reason to change them.
    """

    rounds: int = Field(0, ge=0, description="rounds of weight pruning and training; 0: channels once, as in the paper")
    max_accuracy_drop: float = Field(
        0.01, ge=0, le=1, description="largest drop of clean accuracy by pruning, before training; 0.04 in the paper"
    )
    layer: str | None = Field(
        None, description="layer whose channels go, rounds 0; default: the last convolution or pooling stage"
    )
    sparsity: float = Field(0.8, gt=0, lt=1, description="share of each layer's weights to prune, after all rounds")
    epochs: int = Field(10, ge=1, description="passes over the clean images after each pruning")
    learning_rate: float = Field(1e-5, gt=0, description="learning rate of Adam")
    batch_size: int = Field(64, ge=1, description="images per step")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.rounds and self.layer is not None:
            raise ValueError("rounds prune the weights of all layers, and 'layer' is for channels (rounds 0)")
        if not self.rounds and "sparsity" in self.model_fields_set:
            raise ValueError("'sparsity' is for rounds, and without any (rounds 0) the allowed drop says how much goes")
        return self

    def repair(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        suspected: Sequence[Backdoor] = (),
        seed: int,
        progress: Progress = no_progress,
    ) -> Repair:
        """Return the network after the last training; the pruned and trained ones before it are its `steps`.

        Raises:
            UnknownMethod: no layer's channels can be pruned (rounds 0).
            MethodFailed: training diverges.
        """
        labelled = with_labels(classifier, clean)
        before = measure_accuracy(classifier, labelled)
        if self.rounds == 0:
            networks, trace = self._prune_channels(classifier, labelled, seed, progress)
        else:
            networks, trace = self._prune_in_rounds(classifier, labelled, before, seed, progress), Trace()
        return Repair(tuple(networks[-1:]), before, trace, steps=tuple(networks[:-1]))

    def _prune_channels(
        self, classifier: Classifier, data: Dataset, seed: int, progress: Progress
    ) -> tuple[list[RepairedNetwork], Trace]:
        layer = find_prunable_layer(classifier, self.layer)
        known = data.with_known_labels()
        outputs = HeadOutputs(classifier, known, layer.name, progress=progress)
        means = mean_activations(outputs)
        order = [int(channel) for channel in np.argsort(means, kind="stable")]
        correct = count_matches(sweep_predictions(outputs, order, progress=progress), known.targets)
        count = last_allowed(correct, len(known), self.max_accuracy_drop)
        pruned = classifier.copy()
        pruned.layer(layer.name).silence(order[:count])
        zeros = silenced_weights(pruned, pruned.layer(layer.name), order[:count])
        changes = Change(
            layer=layer.name,
            channels_pruned=tuple(order[:count]),
            channels=layer.channels,
            order="ascending",
            threshold=self.max_accuracy_drop,
        )
        sweep = PruningSweep(
            layer=layer.name,
            order="ascending",
            channels=tuple(order),
            mean_activations=tuple(map(float, means)),
            accuracy=tuple(hits / len(known) for hits in correct),
            pruned_at_threshold={self.max_accuracy_drop: count},
        )
        first = RepairedNetwork("pruned", pruned, Rate.of(correct[count], len(known)), changes)
        return [first, self._train("repaired", first, zeros, data, seed, progress)], Trace(sweep=sweep)

    def _prune_in_rounds(
        self, classifier: Classifier, data: Dataset, before: Rate, seed: int, progress: Progress
    ) -> list[RepairedNetwork]:
        networks: list[RepairedNetwork] = []
        current, sparsity = classifier, 0.0
        for number in range(1, self.rounds + 1):
            wanted = self.sparsity * (1 - (1 - number / self.rounds) ** 3)
            sparsity = self._allowed_sparsity(current, (sparsity, wanted), data, before)
            zeros = smallest_weights(current, sparsity)
            pruned = current.copy()
            set_to_zero(pruned, zeros)
            changes = WeightsZeroed(round=number, sparsity=round(sparsity, 4), weights_pruned=count_zeros(zeros))
            made = RepairedNetwork(f"round_{number}_pruned", pruned, measure_accuracy(pruned, data), changes)
            repaired = self._train(f"round_{number}_repaired", made, zeros, data, seed + number, progress)
            networks += [made, repaired]
            current = repaired.classifier
        return networks

    def _allowed_sparsity(
        self, classifier: Classifier, between: tuple[float, float], data: Dataset, before: Rate
    ) -> float:
        """Return the wanted sparsity, the second of `between`, or how much of the way to it accuracy permits."""
        low, high = between
        if self._is_allowed(classifier, high, data, before):
            return high
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self._is_allowed(classifier, middle, data, before) else (low, middle)
        return low

    def _is_allowed(self, classifier: Classifier, sparsity: float, data: Dataset, before: Rate) -> bool:
        pruned = classifier.copy()
        set_to_zero(pruned, smallest_weights(classifier, sparsity))
        return measure_accuracy(pruned, data).keeps(before, self.max_accuracy_drop)

    def _train(
        self, name: str, pruned: RepairedNetwork, zeros: Zeros, data: Dataset, seed: int, progress: Progress
    ) -> RepairedNetwork:
        """Return a fine-tuned copy of a pruned network in which the weights marked in `zeros` are zero still."""
        repaired = pruned.classifier.copy()
        training = Training(schedule="constant", **self.model_dump(include={"epochs", "learning_rate", "batch_size"}))
        train(repaired, data, training, seed=seed, update=keeping_zero(repaired, zeros), progress=progress)
        changes = pruned.changes.model_copy(update={"images": len(data), "epochs": self.epochs})
        return RepairedNetwork(name, repaired, measure_accuracy(repaired, data), changes)


#: Steps in which the sparsity that accuracy permits is sought: 1/32 of the way to the wanted one.
_HALVINGS = 5


def last_allowed(correct: Sequence[int], n: int, drop: float) -> int:
    """Return the last level up to which no level's accuracy lies more than `drop` below that of level 0.

    Args:
        correct: images classified correctly at each level.
        n: number of images.
        drop: a fraction.
    """
    rates = [Rate.of(hits, n) for hits in correct]
    return next((k - 1 for k, rate in enumerate(rates) if not rate.keeps(rates[0], drop)), len(rates) - 1)
