"""Channel Lipschitz pruning: take away the channels that can amplify a small change of their input most."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.method import Progress, Repairer, no_progress
from goodnet.core.repairs import Change, Repair, Trace
from goodnet.inference.defender_labels import with_labels
from goodnet.inference.predictions import measured_repair
from goodnet.surgery.channel_units import ChannelUnit, find_channel_units, silence


class Silenced(Change):
    """The channels `silenced` by layer: those more than `u` standard deviations above the mean of their layer."""

    silenced: dict[str, list[int]]
    u: float


class LipschitzBounds(Trace):
    """How much each channel amplifies a change of its layer's input, at most, by layer."""

    lipschitz_bounds: dict[str, list[float]]


class ChannelLipschitzPruning(Repairer):
    """Removes, from every convolution, the channels whose Lipschitz bound stands out in their layer.

    A trigger is small and its effect is large, so the channels that carry it should be sensitive. A channel's
    output changes at most by the largest singular value of its kernel, written as a matrix (inputs x positions),
    times the factor of the batch norm after it. What lies more than u standard deviations above the mean of its layer
    is set to zero. The images are only used to report the accuracy.

    **Source** R. Zheng, R. Tang, J. Li, L. Liu, "Data-free Backdoor Removal based on Channel Lipschitzness",
    ECCV 2022, section 4 and algorithm 1.
    **Differs** A convolution without batch norm is judged by its kernel alone; a pruned channel loses its shift too,
    so that it is zero and the network keeps its format.
    **Needs** weights; no data, no gradients.
    **Cost** one singular value decomposition of each kernel, inputs x positions; no pass.
    **Fails when** the backdoor is spread over ordinary channels or dense layers, or layers are narrow: of C channels
    none can lie more than (C - 1) / sqrt(C) deviations above the mean, so u = 3 never prunes with fewer than 11.
    """

    u: float = Field(
        3.0, description="a channel is removed if its bound is this many standard deviations above its layer's mean"
    )

    def repair(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        suspected: Sequence[Backdoor] = (),
        seed: int,
        progress: Progress = no_progress,
    ) -> Repair:
        """Return the pruned network, equal to the original where no channel stands out.

        Raises:
            UnknownMethod: the network has no convolution whose channels can be silenced.
        """
        units = find_channel_units(classifier)
        labelled = with_labels(classifier, clean)
        bounds = {unit.layer.name: lipschitz_bounds(unit) for unit in units}
        chosen = {name: outstanding(values, self.u) for name, values in bounds.items()}
        pruned = silence(classifier, chosen)
        changes = Silenced(silenced={name: channels for name, channels in chosen.items() if channels}, u=self.u)
        trace = LipschitzBounds(lipschitz_bounds={name: values.tolist() for name, values in bounds.items()})
        return measured_repair(self.name(), classifier, pruned, labelled, changes, trace)


def lipschitz_bounds(unit: ChannelUnit) -> Tensor:
    """Return (channels,) upper bounds on how much each channel amplifies a change of the layer's input."""
    with torch.no_grad():
        bounds: Tensor = torch.linalg.matrix_norm(unit.convolution.weight.flatten(2), ord=2)
        norm = unit.norm
        if norm is not None and norm.running_var is not None:
            bounds = bounds * (norm.weight / (norm.running_var + norm.eps).sqrt()).abs()
    return bounds


def outstanding(values: Tensor, u: float) -> list[int]:
    """Return the positions of those (n,) values that lie more than `u` standard deviations above their mean."""
    return [int(position) for position in (values > values.mean() + u * values.std()).nonzero()[:, 0]]
