"""Where a network looks: the attention maps of its convolution stages, and how far those of two networks are apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from torch import Tensor, fx, nn
from torch.nn import functional as F

from goodnet.core import graph
from goodnet.core.classifier import Classifier, Layer
from goodnet.core.errors import UnknownMethod


def find_stages(classifier: Classifier, most: int) -> list[str]:
    """Return the names of the last layers of the last `most` convolution stages, in the order in which they run.

    A stage is a run of layers with feature maps of one size, at least one of them a convolution: what is between two
    reductions of the size. Networks without padding (DeepID) have a stage for each convolution.

    Raises:
        UnknownMethod: the network has no convolution that can be looked into.
    """
    maps = [layer for layer in classifier.layers() if len(layer.output_shape) == 3]
    runs = [list(run) for _, run in groupby(maps, key=lambda layer: layer.output_shape[1:])]
    stages = [run[-1].name for run in runs if any(_convolves(layer) for layer in run)]
    if not stages:
        raise UnknownMethod(f"{classifier.name} has no layer of convolutions to look into; see goodnet inspect")
    return stages[-most:]


def _convolves(layer: Layer) -> bool:
    return layer.module is not None and any(isinstance(part, nn.Conv2d) for part in layer.module.modules())


def tap(classifier: Classifier, names: Sequence[str]) -> fx.GraphModule:
    """Return the network with the outputs of the layers `names` beside its logits; its weights are shared.

    What it returns maps images, as `prepare` leaves them, to (logits, first layer's output, ...).
    """
    network, made = fx.Graph(), dict[fx.Node, fx.Node]()
    named = {graph.name_of(node): node for node in graph.compute_nodes(classifier.network)}
    for node in classifier.network.graph.nodes:
        if node.op != "output":
            made[node] = network.node_copy(node, lambda old: made[old])
        else:
            network.output((made[node.args[0]], *(made[named[name]] for name in names)))
    return fx.GraphModule(classifier.network, network)


def attention_distance(features: Tensor, others: Tensor) -> Tensor:
    """Return the mean squared difference of two batches of attention maps, a scalar.

    The attention map of feature maps (N, C, H, W) is the sum of their squares over the channels, (N, H * W), scaled to
    length 1.
    """
    return F.mse_loss(_attention(features), _attention(others))


def _attention(features: Tensor) -> Tensor:
    return F.normalize(features.square().sum(dim=1).flatten(1), dim=1)
