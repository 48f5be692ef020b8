"""Fine-tuning: go on training on the clean images."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.method import Progress, Repairer, no_progress
from goodnet.core.repairs import Change, Repair
from goodnet.inference.defender_labels import with_labels
from goodnet.inference.predictions import measured_repair
from goodnet.surgery.batch_norm import SgdRate, usual_rate
from goodnet.training import Training, train


class FineTuning(Repairer):
    """Trains further on the clean images, so that the network may forget what they do not show.

    Clean images do not contradict the backdoor, so it fades only as weights drift. Every other method that trains is
    compared with this one.

    **Source** the "FT" baseline of B. Wu et al., "BackdoorBench: A Comprehensive Benchmark of Backdoor Learning",
    NeurIPS 2022: SGD 0.01, momentum 0.9, weight decay 5e-4, cosine.
    **Differs** A far smaller rate for networks without batch norm, which it would throw off; 20 epochs, not 100.
    **Needs** clean images, with labels or without; gradients.
    **Cost** `epochs` passes forward and backward over the clean images.
    **Fails when** the network already classifies all clean images correctly: the loss is small, and the weights hardly change.
    """

    epochs: int = Field(20, ge=1, description="passes over the clean images")
    learning_rate: SgdRate = None
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")
    weight_decay: float = Field(5e-4, ge=0, description="L2 penalty on the weights")
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
        """Return the network after fine-tuning.

        Raises:
            MethodFailed: training diverges.
        """
        labelled = with_labels(classifier, clean)
        repaired = classifier.copy()
        rate = self.learning_rate or usual_rate(classifier)
        training = Training(optimizer="sgd", learning_rate=rate, **self.model_dump(exclude={"learning_rate"}))
        train(repaired, labelled, training, seed=seed, progress=progress)
        changes = Change(images=len(labelled), epochs=self.epochs, learning_rate=rate)
        return measured_repair(self.name(), classifier, repaired, labelled, changes)
