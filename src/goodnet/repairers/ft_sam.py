"""FT-SAM: fine-tuning that shrinks large weights by sharpness-aware minimisation with a radius of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from pydantic import Field
from torch import Tensor, nn

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.method import Progress, Repairer, no_progress
from goodnet.core.repairs import Change, Repair
from goodnet.inference.defender_labels import with_labels
from goodnet.inference.predictions import measured_repair
from goodnet.surgery.batch_norm import SgdRate, has_batch_norm, usual_rate
from goodnet.training import Training, Update, train


class SharpnessTuned(Change):
    """`rho` is how far around the weights the training looked."""

    rho: float


class FtSam(Repairer):
    """Fine-tunes towards flat minima, where perturbing the weights hardly raises the loss; large weights are perturbed more.

    Neurons that serve a backdoor tend to have large weights, which plain fine-tuning hardly changes. So each step uses the
    gradient at the worst perturbation nearby, in which every weight may change in proportion to its own size. Large
    weights are perturbed most, and shrink.

    **Source** M. Zhu, S. Wei, L. Shen, Y. Fan, B. Wu, "Enhancing Fine-Tuning Based Backdoor Defense with Sharpness-Aware
    Minimization", ICCV 2023, section 4; the radius per weight is that of J. Kwon et al., "ASAM", ICML 2021. T = diag|w|
    over all weights, biases and normalisation included, as in Zhu et al.
    **Differs** No label smoothing by default (0.1 in the authors' code). Without batch norm both rate
    and radius are smaller: with rho 2, the accuracy of a DeepID network fell to that of guessing. 20 epochs, not 100.
    **Needs** clean images, with labels or without; gradients.
    **Cost** 2 * `epochs` passes forward and backward over the clean images.
    **Fails when** the trigger is not carried by large weights; the weights cannot be perturbed far enough without losing
    accuracy.
    """

    rho: float | None = Field(
        None,
        gt=0,
        description="radius of the perturbation; default: 2 (8 in the paper for GTSRB), without batch norm 0.2",
    )
    epochs: int = Field(20, ge=1, description="passes over the clean images, two steps each")
    learning_rate: SgdRate = None
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")
    weight_decay: float = Field(5e-4, ge=0, description="L2 penalty on the weights")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of each label spread over all classes")
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
        """Return the network after sharpness-aware fine-tuning.

        Raises:
            MethodFailed: training diverges.
        """
        labelled = with_labels(classifier, clean)
        repaired = classifier.copy()
        rate = self.learning_rate or usual_rate(classifier)
        rho = self.rho or (2.0 if has_batch_norm(classifier) else 0.2)
        options = self.model_dump(exclude={"rho", "learning_rate"})
        training = Training(optimizer="sgd", learning_rate=rate, **options)
        update = sharpness_aware(repaired.network, rho)
        train(repaired, labelled, training, seed=seed, update=update, progress=progress)
        changes = SharpnessTuned(images=len(labelled), epochs=self.epochs, learning_rate=rate, rho=rho)
        return measured_repair(self.name(), classifier, repaired, labelled, changes)


def sharpness_aware(network: nn.Module, rho: float) -> Update:
    """Return a training step along the gradient that the loss has where it is worst nearby.

    Nearby is |T^-1 e| <= rho for a disturbance e of the weights w, T = diag|w|; there the loss is worst, to first
    order, at e = rho T^2 g / |T g|. The weights go back before the step.
    """

    def update(loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer) -> Tensor:
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        value = loss()
        gradients = torch.autograd.grad(value, weights, allow_unused=True)
        before = [weight.detach().clone() for weight in weights]
        _disturb(weights, gradients, rho)
        optimizer.zero_grad(set_to_none=True)
        with _batch_norm_at_rest(network):
            loss().backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for weight, old in zip(weights, before, strict=True):
                weight.copy_(old)
        optimizer.step()
        return value.detach()

    return update


def _disturb(weights: Sequence[Tensor], gradients: Sequence[Tensor | None], rho: float) -> None:
    """Add rho T^2 g / |T g| to the weights, |.| over all of them together."""
    used = [(weight, gradient) for weight, gradient in zip(weights, gradients, strict=True) if gradient is not None]
    with torch.no_grad():
        norm = torch.stack([(weight * gradient).norm() for weight, gradient in used]).norm()
        for weight, gradient in used:
            weight.add_(weight.square() * gradient, alpha=float(rho / (norm + _TINY)))


#: Keeps the disturbance finite where the gradient vanishes.
_TINY = 1e-12


@contextmanager
def _batch_norm_at_rest(network: nn.Module) -> Iterator[None]:
    """Let the running statistics be: they are those of the weights, not of the disturbed ones."""
    layers = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
