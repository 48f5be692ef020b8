"""Quarantine: never predict a suspected target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from goodnet.core.backdoor import Backdoor, targets_of
from goodnet.core.classifier import Classifier, Layer
from goodnet.core.dataset import Dataset
from goodnet.core.errors import InvalidOption, MethodFailed
from goodnet.core.method import Progress, Repairer, no_progress
from goodnet.core.repairs import Change, Repair
from goodnet.inference.defender_labels import with_labels
from goodnet.inference.last_layer import find_last_layer
from goodnet.inference.predictions import measured_repair


class Quarantine(Repairer):
    """Removes the suspected targets from the classes that can be predicted, and changes nothing else.

    In the last layer, a suspected class's row of weights becomes the mean of the rows of the classes that are not
    suspected, and its bias the mean of their biases minus one. So for every image its logit is the mean of their logits
    minus one, which is never the largest. The attack's success is 0 by construction. The price is the class itself, and a
    triggered image still gets a wrong class, though a different one. Every other repair has to be better than this
    baseline in robust accuracy, not only in attack success.

    **Source** ours: the trivial response to a detection, as a baseline.
    **Differs** There is no published method.
    **Needs** suspected targets (their triggers are not needed) and a network that ends in a linear layer; the clean
    images only measure the cost.
    **Cost** one pass, to measure; the change itself is one row per suspect.
    **Fails when** the suspicion is wrong: an innocent class is then lost; the last layer has no bias: nothing can be subtracted,
    so the target ties with the others where all features are zero.
    """

    needs_suspects: ClassVar[bool] = True

    def repair(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        suspected: Sequence[Backdoor] = (),
        seed: int,
        progress: Progress = no_progress,
    ) -> Repair:
        """Return the network without the suspected targets among its predictions.

        Raises:
            MethodFailed: nothing is suspected, or so many classes that too few are left.
            UnknownMethod: the network does not end in a linear layer.
            InvalidOption: a suspected target is not a class of the network.
        """
        labelled = with_labels(classifier, clean)
        targets = targets_of(suspected)
        if not targets:
            raise MethodFailed("nothing to quarantine: no backdoor is suspected; scan first")
        if not 0 <= targets[0] <= targets[-1] < classifier.classes:
            raise InvalidOption(
                f"{classifier.name}: expected targets from 0 to {classifier.classes - 1}, got {', '.join(map(str, targets))}"
            )
        repaired = classifier.copy()
        layer = find_last_layer(repaired)
        self._silence(layer, targets)
        progress(1, 1)
        changes = Change(quarantined=targets, layer=layer.name)
        return measured_repair(self.name(), classifier, repaired, labelled, changes)

    def refuse(self, classifier: Classifier, clean: Dataset) -> None:
        """Raise `UnknownMethod` where the network does not end in a linear layer."""
        find_last_layer(classifier)

    def _silence(self, layer: Layer, targets: Sequence[int]) -> None:
        bias = getattr(layer.module, "bias", None)
        others = torch.ones(layer.channels, dtype=torch.bool, device=layer.weight.device)
        others[list(targets)] = False
        # The mean of one logit is that logit: only a bias can keep the two apart.
        least = 1 if bias is not None else 2
        if int(others.sum()) < least:
            raise MethodFailed(
                f"{len(targets)} of {layer.channels} classes are suspected: expected at least {least} others to predict instead"
            )
        layer.weight[list(targets)] = layer.weight[others].double().mean(dim=0).to(layer.weight.dtype)
        if bias is not None:
            bias.data[list(targets)] = bias.data[others].double().mean().to(bias.dtype) - 1
