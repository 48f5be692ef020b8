"""Adversarial neuron pruning: take away the channels on which a network leans once its channels are disturbed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.method import Progress, Repairer, no_progress
from goodnet.core.repairs import Change, Repair, RepairedNetwork, Trace
from goodnet.core.results import Rate
from goodnet.inference.defender_labels import with_labels
from goodnet.inference.predictions import measure_accuracy
from goodnet.surgery.channel_units import find_channel_units, silence
from goodnet.training import Training, train

#: The mask of each channel of each layer, by the layer's name.
Masks = Mapping[str, Sequence[float]]

_LEVELS = tuple(round(0.05 * level, 2) for level in range(1, 20))


class Masked(Change):
    """The channels `silenced` by layer: those whose mask lies below `mask_threshold`."""

    mask_threshold: float
    silenced: dict[str, list[int]]


class LearntMasks(Trace):
    """The mask of each channel by layer, and the accuracy at each of the thresholds that were tried."""

    masks: dict[str, list[float]]
    levels: tuple[tuple[float, float], ...]


class AdversarialNeuronPruning(Repairer):
    """Removes the channels that are most sensitive to an adversarial perturbation of all channels' weights.

    Small adversarial perturbations of a backdoored network's channels make it predict the target. Each channel of a
    convolution (of the batch norm after it, if there is one) gets a mask in [0, 1]. The masks are trained to keep the loss on
    clean images small, both without a perturbation and under the worst perturbation of at most epsilon of each channel's
    weights and bias. Channels whose mask is below a threshold are then set to zero; the threshold is raised in steps of 0.05
    as long as the accuracy on the clean images stays within the budget.

    **Source** D. Wu, Y. Wang, "Adversarial Neuron Pruning Purifies Backdoored Deep Models", NeurIPS 2021, equation 6
    and algorithm 1.
    **Differs** The mask scales the bias too, so that what is pruned is zero and the network keeps its format;
    perturbations are clipped to epsilon after the signed step; batch norm's statistics stay as they are;
    500 steps; the threshold is chosen on the clean images given, not fixed beforehand or by looking at the attack.
    **Needs** clean images (labels help); gradients.
    **Cost** steps * 3 passes forward and backward over a batch, and up to 20 passes over the images.
    **Fails when** backdoor and clean features share channels, or the backdoor sits in dense layers, which have no masks.
    """

    alpha: float = Field(
        0.2, ge=0, le=1, description="weight of the loss without perturbation; the perturbed loss has the rest"
    )
    epsilon: float = Field(0.4, gt=0, description="largest perturbation, as a share of a channel's weights and bias")
    steps: int = Field(500, ge=1, description="training steps of the masks; 2,000 in the paper")
    learning_rate: float = Field(0.2, gt=0, description="learning rate of SGD on the masks")
    batch_size: int = Field(64, ge=1, description="images per step")
    max_accuracy_drop: float = Field(0.02, ge=0, le=1, description="accuracy on the clean images that may be lost")

    def repair(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        suspected: Sequence[Backdoor] = (),
        seed: int,
        progress: Progress = no_progress,
    ) -> Repair:
        """Return the pruned network, equal to the original where no channel can go within the budget.

        Raises:
            UnknownMethod: the network has no convolution whose channels can be silenced.
            MethodFailed: the loss is no longer finite.
        """
        find_channel_units(classifier)
        labelled = with_labels(classifier, clean)
        masks = self.learn_masks(classifier, labelled, seed=seed, progress=progress)
        before = measure_accuracy(classifier, labelled)
        levels = self._sweep(classifier, labelled, masks, before)
        threshold, accuracy = levels[-1] if levels else (0.0, before)
        silenced = below(masks, threshold)
        changes = Masked(mask_threshold=threshold, silenced=silenced)
        network = RepairedNetwork(self.name(), silence(classifier, silenced), accuracy, changes)
        trace = LearntMasks(masks=dict(masks), levels=tuple((level, rate.value) for level, rate in levels))
        return Repair((network,), before, trace)

    def learn_masks(
        self, classifier: Classifier, labelled: Dataset, *, seed: int, progress: Progress = no_progress
    ) -> Masks:
        """Return the masks that the min-max training ends with; `classifier` stays as it is."""
        gated = classifier.copy()
        gated.network.requires_grad_(False)
        gates = {unit.layer.name: add_gates(unit.norm or unit.convolution) for unit in find_channel_units(gated)}
        training = Training.of_steps(
            self.steps, len(labelled), self.batch_size, optimizer="sgd", learning_rate=self.learning_rate
        )
        every = [gate for pair in gates.values() for gate in pair]

        def loss(network: Classifier, images: Tensor, labels: Tensor) -> Tensor:
            network.network.eval()  # Masks are learnt for the network as it is used.
            for gate in every:
                gate.reset()
            natural = F.cross_entropy(network(images), labels)
            disturb(every, lambda: F.cross_entropy(network(images), labels), self.epsilon)
            return self.alpha * natural + (1 - self.alpha) * F.cross_entropy(network(images), labels)

        train(gated, labelled, training, seed=seed, loss=loss, progress=progress)
        return {name: pair[0].masks.detach().clamp(0, 1).tolist() for name, pair in gates.items()}

    def _sweep(self, classifier: Classifier, labelled: Dataset, masks: Masks, before: Rate) -> list[tuple[float, Rate]]:
        """Return the thresholds and their accuracies, from the lowest to the last one within the budget."""
        levels = []
        for level in _LEVELS:
            accuracy = measure_accuracy(silence(classifier, below(masks, level)), labelled)
            if not accuracy.keeps(before, self.max_accuracy_drop):
                break
            levels.append((level, accuracy))
        return levels


class Gate(nn.Module):
    """Multiplies the weights of each channel by its mask plus noise."""

    def __init__(self, masks: nn.Parameter) -> None:
        super().__init__()
        self.masks = masks
        self.noise = torch.zeros_like(masks)

    def forward(self, weights: Tensor) -> Tensor:
        """Keep the shape of `weights`, channels first."""
        return weights * (self.masks + self.noise).reshape(-1, *[1] * (weights.ndim - 1))

    def reset(self) -> None:
        """Take the noise away and bring the masks, after the optimiser's step, back into [0, 1]."""
        self.noise = torch.zeros_like(self.masks)
        with torch.no_grad():
            self.masks.clamp_(0, 1)


def add_gates(module: nn.Conv2d | nn.BatchNorm2d) -> list[Gate]:
    """Gate a module's weight and bias, channels first, with masks in common and noise of their own."""
    masks = nn.Parameter(torch.ones(len(module.weight), device=module.weight.device))
    gates = []
    for name in ("weight", "bias"):
        if getattr(module, name, None) is not None:
            gates.append(Gate(masks))
            parametrize.register_parametrization(module, name, gates[-1])
    return gates


def disturb(gates: Sequence[Gate], loss: Callable[[], Tensor], epsilon: float) -> None:
    """Give the gates noise within `epsilon` that makes `loss` large: one signed step from a random start."""
    for gate in gates:
        gate.noise = torch.empty_like(gate.masks).uniform_(-epsilon, epsilon).requires_grad_()
    slopes = torch.autograd.grad(loss(), [gate.noise for gate in gates])
    for gate, slope in zip(gates, slopes, strict=True):
        gate.noise = (gate.noise.detach() + epsilon * slope.sign()).clamp(-epsilon, epsilon)


def below(masks: Masks, threshold: float) -> dict[str, list[int]]:
    """Return the channels of each layer whose mask is below `threshold`, for the layers that have any."""
    chosen = {name: [index for index, mask in enumerate(values) if mask < threshold] for name, values in masks.items()}
    return {name: channels for name, channels in chosen.items() if channels}
