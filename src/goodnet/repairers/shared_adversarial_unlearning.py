"""Shared adversarial unlearning: unlearn the changes of an image that mislead both the original and its repair."""

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
from goodnet.core.repairs import Repair
from goodnet.inference.defender_labels import with_labels
from goodnet.surgery.agreement import repair_in_rounds
from goodnet.training import Loss

#: Probabilities are believed no closer to 0 than this: what is rarer counts as unlearnt.
_RARE = 1e-3


class SharedAdversarialUnlearning(Repairer):
    """Unlearns shared adversarial examples: small changes that make the repaired network and the original predict the same
    wrong class.

    The trigger is among the small changes of an image that mislead the original. Each step looks, for each image, for a
    change that misleads the network in training and the original to the same class. The change is found by signed gradient
    steps within epsilon, which make the two networks' Jensen-Shannon divergence small and their cross-entropy large. The
    network is then trained on the clean images; on the changed images it is trained to lower the probability of the wrong
    class that the original predicts there.

    **Source** S. Wei, M. Zhang, H. Zha, B. Wu, "Shared Adversarial Unlearning: Backdoor Mitigation by Unlearning Shared
    Adversarial Examples", NeurIPS 2023; values as in the authors' code.
    **Differs** Changed images stay in [0, 1], as all real ones do; a number of steps, not of epochs, at a constant rate;
    when a round changes too many predictions on shifted copies of the clean images, it is undone, and training ends.
    **Needs** clean images, with labels or without; gradients.
    **Cost** rounds * steps * (2 * `ascent_steps` + 3) passes forward and backward over a batch.
    **Fails when** the trigger changes single pixels by more than epsilon (patches do); a small network pays with
    accuracy, since it cannot withstand changes of that size at all.
    """

    rounds: int = Field(10, ge=1, description="how often the predictions on clean images are checked")
    steps: int = Field(10, ge=1, description="training steps of a round")
    learning_rate: float = Field(1e-4, gt=0, description="learning rate of Adam")
    epsilon: float = Field(0.2, gt=0, le=1, description="largest change of a pixel's value")
    step_size: float = Field(0.2, gt=0, le=1, description="by how much one step changes a value")
    ascent_steps: int = Field(5, ge=1, description="steps in which the change of an image is sought")
    adversarial_weight: float = Field(
        0.01,
        ge=0,
        description="weight of the cross-entropy (mislead each network) beside the divergence (mislead both to one class)",
    )
    unlearning_weight: float = Field(
        1.0, ge=0, description="weight of the loss on changed images, beside that on clean ones"
    )
    least_agreement: float = Field(
        0.8,
        ge=0,
        le=1,
        description="share of shifted clean images that must keep their prediction; a round after which fewer do is undone",
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
        """Return the network after unlearning.

        Raises:
            MethodFailed: training diverges.
        """
        labelled = with_labels(classifier, clean)

        def find_loss(_: Classifier) -> Loss:
            return self._loss(classifier)

        return repair_in_rounds(self, classifier, labelled, find_loss, seed=seed, progress=progress)

    def _loss(self, original: Classifier) -> Loss:
        def compute(classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
            classifier.network.eval()  # Batch norm's statistics are those of clean images.
            images = images.to(classifier.device)
            changed = self.mislead_both(classifier, original, images, labels)
            with torch.no_grad():
                fallen_for = original(changed).argmax(dim=1)
            logits, changed_logits = torch.split(classifier(torch.cat([images, changed])), len(images))
            unlearning = unlearning_loss(changed_logits, fallen_for, labels)
            return F.cross_entropy(logits, labels) + self.unlearning_weight * unlearning

        return compute

    def mislead_both(self, network: Classifier, original: Classifier, images: Tensor, labels: Tensor) -> Tensor:
        """Return `images` (B, C, H, W), each changed so that both networks give it the same wrong class, if that can be.

        `labels` (B,) are the right ones; values stay in [0, 1] and within epsilon of what they were.
        """
        images, labels = images.to(network.device), labels.to(network.device)
        change = torch.full_like(images, self.epsilon)
        for _ in range(self.ascent_steps):
            change.requires_grad_()
            changed = (images + change).clamp(0, 1)
            loss, wrong_alike = self._misleading_loss(network(changed), original(changed), labels)
            if bool(wrong_alike.all()):
                break
            (slope,) = torch.autograd.grad(loss, change)
            change = (change.detach() - self.step_size * slope.sign()).clamp(-self.epsilon, self.epsilon)
        return (images + change.detach()).clamp(0, 1)

    def _misleading_loss(self, logits: Tensor, original: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss to minimise, and a mask (B,) of the images that both networks already assign to one wrong class."""
        predictions, original_predictions = logits.argmax(dim=1), original.argmax(dim=1)
        right, original_right = predictions == labels, original_predictions == labels
        wrong_alike = ~right & ~original_right & (predictions == original_predictions)
        errors = F.cross_entropy(logits, labels, reduction="none") * right
        errors = errors + F.cross_entropy(original, labels, reduction="none") * original_right
        apart = jensen_shannon(logits, original) * ~wrong_alike
        return (apart - self.adversarial_weight * errors / 2).sum(), wrong_alike


def jensen_shannon(logits: Tensor, others: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence, in nats, of the distributions that two (B, classes) logits mean, (B,)."""
    p, q = logits.softmax(dim=1).clamp_min(1e-8), others.softmax(dim=1).clamp_min(1e-8)
    middle = ((p + q) / 2).log()
    return ((p * (p.log() - middle)).sum(dim=1) + (q * (q.log() - middle)).sum(dim=1)) / 2


def unlearning_loss(logits: Tensor, fallen_for: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of -log(1 - p) over the images, p the probability of the class that the original falls for.

    Images for which it does not fall, and those with p below 0.001, count nothing.

    Args:
        logits: of the network in training on the changed images, (B, classes).
        fallen_for: the original's predictions on them, (B,).
        labels: the right classes, (B,).
    """
    p = logits.softmax(dim=1).gather(1, fallen_for[:, None])[:, 0]
    counts = (fallen_for != labels.to(fallen_for.device)) & (p >= _RARE)
    return (-torch.log1p(-p.clamp_max(1 - _RARE)) * counts).mean()
