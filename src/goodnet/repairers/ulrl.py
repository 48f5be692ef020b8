"""ULRL: see which predictions give way when the network is made to forget, then learn those anew."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset, Labels
from goodnet.core.method import Progress, Repairer, no_progress
from goodnet.core.repairs import Change, Repair, RepairedNetwork, Trace
from goodnet.evidence.outliers import robust_z
from goodnet.inference.defender_labels import with_labels
from goodnet.inference.last_layer import find_last_layer
from goodnet.inference.predictions import measure_accuracy
from goodnet.training import Training, Update, descend, train

#: Length of rows drawn anew, as a share of the mean row's: where clean images of a class are missing, nothing teaches
#: its row, and at full length images that were never seen fall for it.
_SMALL = 0.1


class LearntAnew(Change):
    """Classes whose `rows` of the last layer were learnt anew, and those `given_up` as that cost too much."""

    rows: tuple[int, ...] = ()
    given_up: tuple[int, ...] = ()


class RowChanges(Trace):
    """How far the row of each class moved while the network forgot."""

    row_changes: tuple[float, ...]


class Ulrl(Repairer):
    """Finds the last-layer rows that change most while a copy unlearns the clean images, and trains those rows anew.

    A copy of the network is trained to be wrong on the clean images until its accuracy is at most `forgotten`. A backdoor is a
    short way to a wrong prediction, so the row of weights of its target class in the last layer changes more than others. In
    the original, the rows with an outlying change are initialised at random and trained on the clean images, with a penalty on
    similarity to the old rows (cosine similarity). If no row is an outlier, nothing is changed.

    **Source** N. M. Min, L. H. Pham, J. Sun, "Unified Neural Backdoor Removal with Only Few Clean Samples through
    Unlearning and Relearning", arXiv 2405.14781.
    **Differs** Rows of classes with clean images are compared with one another, and likewise rows of classes without, because
    unlearning pushes them in opposite directions. The deviation is at least the group's mean change, because most rows do not
    move in a network of many classes. At most 1 % of the rows (at least one) are initialised anew, with a small norm. Only
    those rows are trained, because training on few images would harm the others. The change is dropped if clean accuracy
    falls. Steps of unlearning have a fixed length, because a confident network has next to no gradient.
    **Needs** clean images, with labels or without; a network that ends in a linear layer; gradients.
    **Cost** up to `forgetting_epochs` + `epochs` passes forward and backward over the clean images.
    **Fails when** unlearning the clean images does not lead to the target class, for example because that class has strong
    features of its own: then no row, or that of an innocent class, is trained again. A class without clean images whose
    row is initialised anew is lost.
    """

    forgetting_rate: float = Field(
        0.001, gt=0, lt=1, description="length of a step of unlearning, as a share of the norm of all weights"
    )
    forgetting_epochs: int = Field(
        40, ge=1, description="maximum number of passes over the clean images for unlearning"
    )
    forgotten: float = Field(
        0.2, ge=0, le=1, description="accuracy on the clean images at which unlearning ends; at least 1.5 / classes"
    )
    deviations: float = Field(3.5, gt=0, description="robust deviations above the median at which a row stands out")
    most_rows: float = Field(0.01, gt=0, le=1, description="largest share of rows initialised anew; one may always be")
    epochs: int = Field(20, ge=1, description="passes over the clean images for training the rows again")
    learning_rate: float = Field(1e-3, gt=0, description="learning rate of Adam on the rows that are trained again")
    dissimilarity: float = Field(0.7, ge=0, description="weight of the cosine similarity of a row to what it was")
    max_accuracy_drop: float = Field(
        0.01, ge=0, le=1, description="accuracy on the clean images that may be lost; else nothing is changed"
    )
    batch_size: int = Field(64, ge=1, description="images per step")

    def repair(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        suspected: Sequence[Backdoor] = (),
        seed: int,
        progress: Progress = no_progress,
    ) -> Repair:
        """Return the network with suspicious rows learnt anew, equal to the original where none is.

        Raises:
            UnknownMethod: the network does not end in a linear layer.
            MethodFailed: training diverges.
        """
        find_last_layer(classifier)
        labelled = with_labels(classifier, clean)
        total = self.forgetting_epochs + self.epochs
        moved = self.forget(classifier, labelled, seed=seed, progress=lambda done, _: progress(done, total))
        rows = self.choose_rows(moved, labelled.targets)
        before, repaired = measure_accuracy(classifier, labelled), classifier.copy()
        if rows:
            self._learn_again(repaired, labelled, rows, seed)
        accuracy = measure_accuracy(repaired, labelled)
        changes = LearntAnew(rows=tuple(rows))
        if not accuracy.keeps(before, self.max_accuracy_drop):
            repaired, accuracy, changes = classifier.copy(), before, LearntAnew(given_up=tuple(rows))
        progress(total, total)
        network = RepairedNetwork(self.name(), repaired, accuracy, changes)
        return Repair((network,), before, RowChanges(row_changes=tuple(moved.tolist())))

    def refuse(self, classifier: Classifier, clean: Dataset) -> None:
        """Raise `UnknownMethod` where the network does not end in a linear layer."""
        find_last_layer(classifier)

    def forget(
        self, classifier: Classifier, labelled: Dataset, *, seed: int, progress: Progress = no_progress
    ) -> Tensor:
        """Return how far each class's row moves, (classes,) sums of absolute changes; `classifier` stays as it is."""
        forgetful = classifier.copy()
        training = Training(epochs=1, optimizer="sgd", batch_size=self.batch_size)
        update = steps_of_length(self.forgetting_rate)
        # With few classes guessing is right more often than that.
        forgotten = max(self.forgotten, 1.5 / classifier.classes)
        for epoch in range(self.forgetting_epochs):
            if measure_accuracy(forgetful, labelled).value <= forgotten:
                break
            turn = seed * self.forgetting_epochs + epoch
            train(forgetful, labelled, training, seed=turn, loss=_ascent, update=update)
            progress(epoch + 1, self.forgetting_epochs)
        before, after = _last_linear(classifier).weight, _last_linear(forgetful).weight
        return (after - before).detach().abs().sum(dim=1).cpu()

    def choose_rows(self, moved: Tensor, labels: Labels) -> list[int]:
        """Return the rows that stand out by `moved` (classes,) among those of their kind, the farthest first."""
        values = moved.double().numpy()
        shown = np.isin(np.arange(len(values)), labels)
        scores = np.zeros(len(values))
        for group in (shown, ~shown):
            if group.sum() > 1:
                scores[group] = robust_z(values[group], floor=float(values[group].mean()))
        most = max(1, math.floor(self.most_rows * len(values)))
        order = np.argsort(-scores, kind="stable")[:most]
        return [int(row) for row in order if scores[row] > self.deviations]

    def _learn_again(self, classifier: Classifier, labelled: Dataset, rows: list[int], seed: int) -> None:
        """Draw the rows anew and train them, in place; all other weights stay as they are."""
        layer = _last_linear(classifier)
        before = layer.weight.detach().clone()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            drawn = F.normalize(torch.randn(len(rows), before.shape[1]), dim=1)
            layer.weight[rows] = _SMALL * before.norm(dim=1).mean() * drawn.to(before.device)
        others = [row for row in range(len(before)) if row not in rows]
        training = Training(epochs=self.epochs, learning_rate=self.learning_rate, batch_size=self.batch_size)

        def loss(network: Classifier, images: Tensor, labels: Tensor) -> Tensor:
            network.network.eval()
            similarity = F.cosine_similarity(layer.weight[rows], before[rows]).mean()
            return F.cross_entropy(network(images), labels) + self.dissimilarity * similarity

        def update(compute: Callable[[], Tensor], optimizer: torch.optim.Optimizer) -> Tensor:
            value = descend(compute, optimizer)
            with torch.no_grad():
                layer.weight[others] = before[others]
            return value

        classifier.network.requires_grad_(False)
        layer.weight.requires_grad_()
        train(classifier, labelled, training, seed=seed, loss=loss, update=update)
        classifier.network.requires_grad_()


def _last_linear(classifier: Classifier) -> nn.Linear:
    return cast(nn.Linear, find_last_layer(classifier).module)


def _ascent(classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """Return minus the cross-entropy: small where the network is wrong."""
    classifier.network.eval()
    return -F.cross_entropy(classifier(images), labels)


def steps_of_length(share: float) -> Update:
    """Return a training step along the gradient whose length is a share of that of all weights, whatever the loss.

    A network that is sure of all its predictions has next to no gradient, and would never forget at a given rate. Weights that
    pixels in 0..255 meet first have a learning rate r = 1 / 255^2 of the others': w / sqrt(r) and g * sqrt(r) are what
    weight and gradient would be in the same network for pixels in 0..1, which takes the same steps.
    """

    def update(loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer) -> Tensor:
        value = loss()
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        usual = max(group["lr"] for group in optimizer.param_groups)
        rated = [
            (weight, group["lr"] / usual)
            for group in optimizer.param_groups
            for weight in group["params"]
            if weight.grad is not None
        ]
        length = torch.stack([weight.detach().norm() / rate**0.5 for weight, rate in rated]).norm()
        slope = torch.stack([weight.grad.norm() * rate**0.5 for weight, rate in rated]).norm()
        with torch.no_grad():
            for weight, rate in rated:
                weight.sub_(share * length / slope.clamp_min(1e-30) * rate * weight.grad)
        return value.detach()

    return update
