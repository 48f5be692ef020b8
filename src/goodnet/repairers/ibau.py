"""I-BAU: unlearn the change that misleads all images at once, counting in how it changes with the unlearning."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

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

#: Maps a perturbation to a scalar.
Objective = Callable[[Tensor], Tensor]

#: Images on which the perturbation of a round is sought.
_MOST_IMAGES = 256


class Ibau(Repairer):
    """Trains the network against the universal adversarial perturbation, the one that misleads it most on all images.

    In each round gradient ascent on the clean images finds that perturbation; it stands for the trigger. On a share of each
    batch, the network then learns to give the right label in spite of the perturbation (without labels: the original's
    prediction). The best perturbation changes with the weights, and the gradient includes this change. By the implicit function
    theorem this gradient needs (1 - J)^-1, where J is the Jacobian of one step of the ascent. The inverse is approximated by
    the sum of the first `terms` powers of J, the zeroth included.

    **Source** Y. Zeng, S. Chen, W. Park, Z. M. Mao, M. Jin, R. Jia, "Adversarial Unlearning of Backdoors via Implicit
    Hypergradient", ICLR 2022, algorithm 1; values as in the authors' code: five rounds, Adam 1e-4, five terms.
    **Differs** Clean images are learnt with the probabilities that the original gave, not with their labels, which
    reduces overfitting to few images. The radius is a root mean square over pixel values, so it means the same at any image
    size; the default is smaller than the paper's. The steps of the ascent are normalised. A round is a fixed number of steps
    instead of one pass. When a round changes too many predictions on shifted copies of the clean images, it is undone, and
    training ends.
    **Needs** clean images, with labels or without; second derivatives.
    **Cost** rounds * (`ascent_steps` passes over up to 256 images + steps * about 12 passes over a batch).
    **Fails when** no perturbation within the radius does what the trigger does: large patches, and triggers that depend
    on the image. The authors' 1e-4 is gentle: a network of few weights needs ten times that, and more rounds.
    """

    rounds: int = Field(5, ge=1, description="how often the perturbation is sought anew")
    steps: int = Field(20, ge=1, description="training steps of a round")
    learning_rate: float = Field(1e-4, gt=0, description="learning rate of Adam")
    radius: float = Field(0.12, gt=0, description="size of the perturbation: root mean square over the image's values")
    ascent_steps: int = Field(20, ge=1, description="steps in which the perturbation is sought")
    share: float = Field(0.2, gt=0, le=1, description="share of a batch that is learnt with the perturbation too")
    terms: int = Field(5, ge=1, description="terms of the implicit gradient, K")
    inner_rate: float = Field(0.1, gt=0, description="length of the ascent step that the implicit gradient assumes")
    penalty: float = Field(
        1e-3,
        ge=0,
        description="weight of the perturbation's squared norm in the objective that the implicit gradient assumes",
    )
    least_agreement: float = Field(
        0.8,
        ge=0,
        le=1,
        description="share of shifted clean images that must keep their prediction; a round after which fewer do is undone",
    )
    batch_size: int = Field(32, ge=1, description="images per step")

    def repair(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        suspected: Sequence[Backdoor] = (),
        seed: int,
        progress: Progress = no_progress,
    ) -> Repair:
        """Return the network after all rounds.

        Raises:
            MethodFailed: training diverges.
        """
        labelled = with_labels(classifier, clean)
        images = labelled.sample(_MOST_IMAGES, seed=seed).images()

        def find_loss(network: Classifier) -> Loss:
            return self._loss(classifier, self.mislead_all(network, images))

        return repair_in_rounds(self, classifier, labelled, find_loss, seed=seed, progress=progress)

    def mislead_all(self, classifier: Classifier, images: Tensor) -> Tensor:
        """Return the perturbation (1, C, H, W) within the radius that takes most images away from their predictions."""
        images = images.to(classifier.device)
        perturbation = torch.zeros_like(images[:1])
        limit = self.radius * math.sqrt(perturbation.numel())
        with torch.no_grad():
            predictions = classifier(images).argmax(dim=1)
        for _ in range(self.ascent_steps):
            perturbation.requires_grad_()
            loss = F.cross_entropy(classifier(_add(images, perturbation)), predictions)
            (slope,) = torch.autograd.grad(loss, perturbation)
            # Twice the radius in all, so that it can be reached and then be walked along.
            step = 2 * limit / self.ascent_steps * slope / slope.norm().clamp_min(1e-12)
            perturbation = perturbation.detach() + step
            perturbation *= min(1.0, limit / float(perturbation.norm().clamp_min(1e-12)))
        return perturbation

    def _loss(self, original: Classifier, perturbation: Tensor) -> Loss:
        def compute(classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
            classifier.network.eval()  # The implicit gradient needs a network that gives the same output twice.
            images = images.to(classifier.device)
            count = max(1, round(self.share * len(images)))
            with torch.no_grad():
                wanted = original(images).softmax(dim=1)

            def outer(change: Tensor) -> Tensor:
                both = classifier(torch.cat([images, _add(images[:count], change)]))
                natural = F.cross_entropy(both[: len(images)], wanted)
                return natural + F.cross_entropy(both[len(images) :], labels[:count])

            def inner(change: Tensor) -> Tensor:
                return self.penalty * change.square().sum() - F.cross_entropy(classifier(_add(images, change)), labels)

            return with_implicit_gradient(inner, outer, perturbation, terms=self.terms, rate=self.inner_rate)

        return compute


def _add(images: Tensor, change: Tensor) -> Tensor:
    return (images + change).clamp(0, 1)


def with_implicit_gradient(inner: Objective, outer: Objective, point: Tensor, *, terms: int, rate: float) -> Tensor:
    """Return outer(point), a scalar whose gradient counts in that `point` makes `inner` small and follows the weights.

    With G(d, w) = d - rate * d inner / dd, whose fixed point the minimum is, and J = dG/dd, the gradient with respect
    to the weights w is d outer / dw + v dG/dw, v = d outer / dd (1 + J + ... + J^(terms - 1)).

    Args:
        inner: what `point` is assumed to make small.
        outer: what the weights are to make small.
        point: any shape; no gradient flows into it.
        terms: how many powers of J are taken, counting the zeroth.
        rate: length of the step in G.
    """
    point = point.detach().requires_grad_()
    value = outer(point)
    (direct,) = torch.autograd.grad(value, point, retain_graph=True)
    (slope,) = torch.autograd.grad(inner(point), point, create_graph=True)
    moved = point - rate * slope
    vector = direct
    for _ in range(terms - 1):
        vector = direct + torch.autograd.grad(moved, point, vector, retain_graph=True)[0]
    # Zero in value: it only brings v dG/dw into the gradient.
    return value + (vector.detach() * (moved - moved.detach())).sum()
