"""Unlearning: fine-tune with the suspected triggers stamped on clean images that keep their true labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from goodnet.core.backdoor import Backdoor, Trigger
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import ArraySource, Dataset, as_unit_range
from goodnet.core.errors import MethodFailed
from goodnet.core.method import Progress, Repairer, no_progress
from goodnet.core.repairs import Change, Repair
from goodnet.inference.defender_labels import with_labels
from goodnet.inference.predictions import measured_repair
from goodnet.training import Training, train


class Unlearning(Repairer):
    """Trains the network to give images with a suspected trigger their true class.

    A sample of the clean images is taken. A share of it gets the suspected triggers and keeps its true labels, and
    the network is fine-tuned on the whole sample. The suspects may come from a scanner or from the user. If the data has
    no labels, the original's predictions on the unstamped images are the labels.

    **Source** B. Wang et al., "Neural Cleanse", IEEE S&P 2019, section VI-C: one epoch on a
    10 % sample of the training data, 20 % of it stamped.
    **Differs** The sample is a share of the clean data given, all of it by default, since a defender has little.
    **Needs** clean images and at least one suspected backdoor with its trigger; gradients.
    **Cost** epochs * sample passes forward and backward over the images.
    **Fails when** the recovered trigger is not what the backdoor reacts to; with few images the network overfits.
    """

    needs_suspects: ClassVar[bool] = True

    sample: float = Field(1.0, gt=0, le=1, description="share of the clean data that is used; 0.1 in the paper")
    stamped: float = Field(0.2, gt=0, le=1, description="share of the sample that gets a trigger")
    epochs: int = Field(1, ge=1, description="passes over the sample")
    learning_rate: float = Field(1e-4, gt=0, description="learning rate of Adam")

    def repair(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        suspected: Sequence[Backdoor] = (),
        seed: int,
        progress: Progress = no_progress,
    ) -> Repair:
        """Return the network after unlearning all suspected triggers.

        Raises:
            MethodFailed: no backdoor with a trigger is suspected, so there is nothing to unlearn.
        """
        labelled = with_labels(classifier, clean)
        triggers = [backdoor.trigger for backdoor in suspected if backdoor.trigger is not None]
        if not triggers:
            raise MethodFailed(
                "nothing to unlearn: no backdoor is suspected, or none of them has a trigger; scan first"
            )
        mixed = self._stamp(labelled.sample(max(2, round(self.sample * len(clean))), seed=seed), triggers, seed)
        repaired = classifier.copy()
        training = Training(epochs=self.epochs, learning_rate=self.learning_rate, schedule="constant")
        train(repaired, mixed, training, seed=seed, progress=progress)
        targets = tuple(backdoor.target for backdoor in suspected)
        changes = Change(targets=targets, images=len(mixed), epochs=self.epochs)
        return measured_repair(self.name(), classifier, repaired, labelled, changes)

    def _stamp(self, data: Dataset, triggers: Sequence[Trigger], seed: int) -> Dataset:
        """Return `data` in memory with a trigger, each in its turn, on a share of the images; labels stay."""
        images = as_unit_range(data.source.read(data.positions))
        count = max(len(triggers), round(self.stamped * len(data)))
        chosen = np.random.default_rng(seed).permutation(len(data))[:count]
        with torch.no_grad():
            for turn, trigger in enumerate(triggers):
                positions = torch.from_numpy(chosen[turn :: len(triggers)])
                if len(positions):
                    images[positions] = trigger(images[positions])
        return Dataset(ArraySource(images.numpy()), data.targets, data.name)
