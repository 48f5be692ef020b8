"""Activation bounds: no channel may give more than clean images need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.method import Progress, Repairer, no_progress
from goodnet.core.repairs import Change, Repair, RepairedNetwork, Trace
from goodnet.core.results import Rate
from goodnet.formats.keras import KerasSource
from goodnet.formats.keras_bounds import add_keras_bounds, require_keras_bounds
from goodnet.inference.defender_labels import with_labels
from goodnet.inference.predictions import measure_accuracy
from goodnet.surgery.channel_units import find_channel_units
from goodnet.surgery.upper_bounds import UpperBounds, add_upper_bounds
from goodnet.training import Training, train

#: The largest value of each channel, (channels,), by the layer's name.
Bounds = Mapping[str, Tensor]

#: By which factor the wish for small bounds grows and shrinks with each step.
_CHANGE = 1.2
#: How far bounds are let out again, as shares of the way back to the largest clean activations.
_RELAXED = tuple(step / 10 for step in range(11))


class Bounded(Change):
    """The `bounded` layers, and by what share of the way back to the largest outputs their bounds were `relaxed`."""

    bounded: tuple[str, ...]
    relaxed: float


class LearntBounds(Trace):
    """The upper bound of each channel by layer."""

    bounds: dict[str, list[float]]


class ActivationBounds(Repairer):
    """Puts an upper bound on every channel of every convolution, as low as clean images allow.

    A trigger of any kind works by activations that are larger than clean images give. The bounds start at the largest
    value that each channel takes on the clean images and are learnt: the loss is the change of the logits plus a weight
    times the mean bound. The weight grows as long as at most `max_accuracy_drop` of the predictions change, and shrinks
    otherwise. The learnt bounds are then relaxed in steps of a tenth until the accuracy on the clean images stays within the
    budget. Nothing else is changed, so clean images that keep below the bounds get the same logits.

    **Source** H. Wang, Z. Xiang, D. J. Miller, G. Kesidis, "MM-BD: Post-Training Detection of Backdoor Attacks with
    Arbitrary Backdoor Pattern Types Using a Maximum Margin Statistic", IEEE S&P 2024 (its mitigation, MM-BM); S. Cheng
    et al., "UNIT: Backdoor Mitigation via Automated Neural Distribution Tightening", ECCV 2024.
    **Differs** Bounds are learnt as shares of the largest clean activation, for all convolutions at once; the mean
    share is penalised, not the norm; relaxing the bounds is ours.
    **Needs** clean images (50 are enough), no labels; gradients with respect to the bounds.
    **Cost** steps passes forward and backward over a batch, one pass for each layer, and up to 11 over the images.
    **Fails when** the trigger's activations are no larger than clean ones. The bounds are extra layers (three plain ones per
    bound), so the result needs a whole Keras model; with a file of weights alone the command line refuses before it starts.
    From Python the repairer returns a live network.
    """

    steps: int = Field(300, ge=1, description="training steps of the bounds")
    learning_rate: float = Field(0.02, gt=0, description="learning rate of Adam, on bounds as shares of the largest")
    batch_size: int = Field(64, ge=1, description="images per step")
    max_accuracy_drop: float = Field(0.02, ge=0, le=1, description="accuracy on the clean images that may be lost")

    def refuse_unwritable(self, classifier: Classifier) -> None:
        """Refuse files of weights alone and Keras models in which bounds have no place."""
        require_keras_bounds(classifier, [unit.layer.name for unit in find_channel_units(classifier)])

    def repair(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        suspected: Sequence[Backdoor] = (),
        seed: int,
        progress: Progress = no_progress,
    ) -> Repair:
        """Return the bounded network; that of a file of weights alone cannot be saved.

        Raises:
            UnknownMethod: the network has no convolution.
            UnwritableOutput: the network is a Keras model in which bounds have no place.
        """
        names = [unit.layer.name for unit in find_channel_units(classifier)]
        if isinstance(classifier.source, KerasSource):
            require_keras_bounds(classifier, names)
        labelled = with_labels(classifier, clean)
        largest = largest_outputs(classifier, labelled, names)
        learnt = self.tighten(classifier, labelled, largest, seed=seed, progress=progress)
        before = measure_accuracy(classifier, labelled)
        share, bounds, accuracy = self._relax(classifier, labelled, learnt, largest, before)
        changes = Bounded(bounded=tuple(names), relaxed=share)
        network = RepairedNetwork(self.name(), bound(classifier, bounds), accuracy, changes)
        trace = LearntBounds(bounds={name: values.tolist() for name, values in bounds.items()})
        return Repair((network,), before, trace)

    def tighten(
        self,
        classifier: Classifier,
        labelled: Dataset,
        largest: Bounds,
        *,
        seed: int,
        progress: Progress = no_progress,
    ) -> Bounds:
        """Return bounds between 0 and `largest` under which the network predicts as before; it stays as it is."""
        modules = {name: UpperBounds(values) for name, values in largest.items()}
        bounded = add_upper_bounds(classifier, modules)
        bounded.network.requires_grad_(False)
        shares = [module.shares.requires_grad_() for module in modules.values()]
        loss = _Tightening(classifier, shares, self.max_accuracy_drop)
        training = Training.of_steps(self.steps, len(labelled), self.batch_size, learning_rate=self.learning_rate)
        train(bounded, labelled, training, seed=seed, loss=loss, progress=progress)
        loss.keep_within()
        return {name: module.bounds.detach() for name, module in modules.items()}

    def _relax(
        self, classifier: Classifier, labelled: Dataset, learnt: Bounds, largest: Bounds, before: Rate
    ) -> tuple[float, Bounds, Rate]:
        """Return the first of `_RELAXED` that keeps the accuracy, the bounds that it means, and their accuracy."""
        for share in _RELAXED:
            bounds = {name: torch.lerp(low, largest[name], share) for name, low in learnt.items()}
            accuracy = measure_accuracy(_bound_exactly(classifier, bounds), labelled)
            if accuracy.keeps(before, self.max_accuracy_drop):
                break
        return share, bounds, accuracy


class _Tightening:
    """The loss: squared change of the logits, in units of their variance, plus a weight times the mean share."""

    def __init__(self, original: Classifier, shares: Sequence[Tensor], tolerance: float) -> None:
        self.original, self.shares, self.tolerance = original, shares, tolerance
        self.weight = 1.0

    def __call__(self, classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
        classifier.network.eval()  # Bounds are learnt for the network as it is used.
        self.keep_within()
        with torch.no_grad():
            wanted = self.original(images)
        logits = classifier(images)
        same = float((logits.argmax(dim=1) == wanted.argmax(dim=1)).float().mean())
        self.weight *= _CHANGE if same >= 1 - self.tolerance else 1 / _CHANGE
        return F.mse_loss(logits, wanted) / wanted.var() + self.weight * torch.cat(list(self.shares)).mean()

    def keep_within(self) -> None:
        """Bring the shares, after the optimiser's step, back into [0, 1]."""
        with torch.no_grad():
            for share in self.shares:
                share.clamp_(0, 1)


def largest_outputs(classifier: Classifier, clean: Dataset, layers: Sequence[str]) -> Bounds:
    """Return the largest value of each channel over the clean images and all places, at least 0."""
    largest = {}
    with torch.no_grad():
        for layer in layers:
            batches = [
                classifier.features(batch.images, layer).flatten(2).amax(dim=(0, 2)) for batch in clean.batches()
            ]
            largest[layer] = torch.stack(batches).amax(dim=0).clamp_min(0)
    return largest


def bound(classifier: Classifier, bounds: Bounds) -> Classifier:
    """Return a copy of the network with bounds in it: as Keras layers in a whole Keras model, else in the graph alone."""
    is_keras = isinstance(classifier.source, KerasSource)
    return add_keras_bounds(classifier, bounds) if is_keras else _bound_exactly(classifier, bounds)


def _bound_exactly(classifier: Classifier, bounds: Bounds) -> Classifier:
    return add_upper_bounds(classifier, {name: UpperBounds(values) for name, values in bounds.items()})
