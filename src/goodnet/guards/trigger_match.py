"""Trigger match: an input that moves the neurons that a recovered trigger moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from goodnet.core.backdoor import Backdoor, Trigger
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import MethodFailed
from goodnet.guards.calibration import CalibratedGuard, Reader, Readings
from goodnet.inference.last_layer import FeatureReader, read_features

#: Clean images that are stamped to find the neurons.
_IMAGES = 256


class TriggerMatch(CalibratedGuard):
    """Refuses an input that excites the neurons which a recovered trigger excites.

    For each suspected backdoor the trigger is stamped on clean images, and the 1 % of the neurons of the penultimate
    layer that move most are remembered. An input's score is the mean activation of these neurons, scaled so that clean images
    average 0 and stamped images 1; with several backdoors, the highest score.

    **Source** B. Wang et al., "Neural Cleanse", IEEE S&P 2019, section VI-A (filter for detecting adversarial inputs).
    **Differs** at least five neurons; also neurons that the trigger suppresses, with their sign reversed; several backdoors.
    **Needs** clean images, at least one suspected backdoor with its trigger; features, no gradients.
    **Cost** one pass.
    **Fails when** the recovered trigger reaches the target through other neurons than the true one.
    """

    needs_suspects: ClassVar[bool] = True

    neurons: float = Field(0.01, gt=0, le=1, description="share of the neurons that are watched")
    least: int = Field(5, ge=1, description="minimum number of neurons to watch")

    def make_reader(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        suspected: Sequence[Backdoor] = (),
        repaired: Classifier | None = None,
        seed: int,
    ) -> Reader:
        """Find the neurons of each suspected backdoor.

        Raises:
            MethodFailed: no backdoor with a trigger is suspected.
        """
        triggers = [backdoor.trigger for backdoor in suspected if backdoor.trigger is not None]
        if not triggers:
            raise MethodFailed("nothing to match: no backdoor is suspected, or none of them has a trigger; scan first")
        read = read_features(classifier)
        images = clean.sample(_IMAGES, seed=seed).images()
        matches = [self._find_neurons(read, images, trigger) for trigger in triggers]

        def read_match(images: Tensor) -> Readings:
            features = read(images)[0].cpu()
            return (torch.stack([match.strength(features) for match in matches]).amax(dim=0),)

        return read_match

    def _find_neurons(self, read: FeatureReader, images: Tensor, trigger: Trigger) -> _Neurons:
        clean, stamped = read(images)[0].cpu(), read(trigger(images))[0].cpu()
        moved = stamped.mean(dim=0) - clean.mean(dim=0)
        count = min(len(moved), max(self.least, round(self.neurons * len(moved))))
        chosen = moved.abs().topk(count).indices
        signs = moved[chosen].sign()
        start, end = ((part[:, chosen] * signs).mean() for part in (clean, stamped))
        return _Neurons(chosen, signs, float(start), float(end))


@dataclass(frozen=True)
class _Neurons:
    """The neurons of one backdoor: `chosen` (K,), `signs` (K,) of their movement, their mean on clean and stamped images."""

    chosen: Tensor
    signs: Tensor
    clean: float
    stamped: float

    def strength(self, features: Tensor) -> Tensor:
        """Return how far features (N, D) are on the way from clean (0) to stamped (1), (N,)."""
        activation = (features[:, self.chosen] * self.signs).mean(dim=1)
        return (activation - self.clean) / max(self.stamped - self.clean, 1e-6)
