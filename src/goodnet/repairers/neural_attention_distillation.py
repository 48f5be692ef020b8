"""Neural attention distillation: fine-tune a copy, then teach the network to look where the copy looks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.method import Progress, Repairer, no_progress
from goodnet.core.repairs import Change, Repair
from goodnet.inference.attention_maps import attention_distance, find_stages, tap
from goodnet.inference.defender_labels import with_labels
from goodnet.inference.predictions import measured_repair
from goodnet.surgery.batch_norm import SgdRate, usual_rate
from goodnet.training import Loss, Training, train


class Distilled(Change):
    """The `stages` are the layers whose attention was learnt."""

    stages: tuple[str, ...]


class NeuralAttentionDistillation(Repairer):
    """Fine-tunes a copy of the network, the teacher, then trains the network to match the teacher's attention maps.

    An attention map is the sum of the squared feature maps over the channels, scaled to length 1, at the end of each
    convolution stage. Fine-tuning makes the teacher react a little less to the trigger. The student matches both the
    teacher's attention and the labels, and so reacts still less.

    **Source** Y. Li, X. Lyu, N. Koren, L. Lyu, B. Li, X. Ma, "Neural Attention Distillation: Erasing Backdoor Triggers
    from Deep Neural Networks", ICLR 2021, section 3.
    **Differs** The stages are found in any network, the last three of them; the weights of the distances are those that
    BackdoorBench uses for three stages. SGD at 0.01 (0.1 in the paper),
    far less without batch norm, falling as a cosine.
    **Needs** clean images, with labels or without; gradients; a network with convolutions.
    **Cost** `teacher_epochs` + `epochs` passes forward and backward over the clean images, and `epochs` forward.
    **Fails when** the teacher still reacts to the trigger: the student can be no better than the fine-tuning that made the
    teacher.
    """

    teacher_epochs: int = Field(10, ge=1, description="passes over the clean images that make the teacher")
    epochs: int = Field(20, ge=1, description="passes over the clean images that teach the student")
    betas: tuple[float, ...] = Field(
        (500.0, 1000.0, 1000.0), min_length=1, description="weight of the attention of each stage, the last stage last"
    )
    learning_rate: SgdRate = None
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")
    weight_decay: float = Field(1e-4, ge=0, description="L2 penalty on the weights")
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
        """Return the network after learning the attention of a fine-tuned copy.

        Raises:
            UnknownMethod: the network has no convolution that can be looked into.
            MethodFailed: training diverges.
        """
        labelled = with_labels(classifier, clean)
        stages = find_stages(classifier, len(self.betas))
        teacher, student = classifier.copy(), classifier.copy()
        rate = self.learning_rate or usual_rate(classifier)
        train(teacher, labelled, self._training(self.teacher_epochs, rate), seed=seed, progress=progress)
        loss = attention_loss(student, teacher, stages, self.betas[-len(stages) :])
        train(student, labelled, self._training(self.epochs, rate), seed=seed, loss=loss, progress=progress)
        changes = Distilled(images=len(labelled), epochs=self.epochs, learning_rate=rate, stages=tuple(stages))
        return measured_repair(self.name(), classifier, student, labelled, changes)

    def _training(self, epochs: int, rate: float) -> Training:
        options = self.model_dump(include={"momentum", "weight_decay", "batch_size"})
        return Training(optimizer="sgd", epochs=epochs, learning_rate=rate, **options)


def attention_loss(student: Classifier, teacher: Classifier, stages: Sequence[str], betas: Sequence[float]) -> Loss:
    """Return cross-entropy plus, for each stage, beta times how far the student's attention is from the teacher's."""
    watched, shown = tap(student, stages), tap(teacher, stages).eval()

    def compute(classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
        prepared = classifier.prepare(images)
        logits, *features = watched(prepared)
        with torch.no_grad():
            _, *taught = shown(prepared)
        distances = [attention_distance(own, other) for own, other in zip(features, taught, strict=True)]
        return F.cross_entropy(logits, labels) + sum(b * d for b, d in zip(betas, distances, strict=True))

    return compute
