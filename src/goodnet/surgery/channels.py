"""Ranking the channels of a layer, and what a network predicts as they are taken away one by one.

The part of the network before the layer (the head) runs once per image. For each level only the part after it (the
tail) runs, and only for the images on which the channel that goes away was active: for all others nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from goodnet.core.classifier import Classifier, Layer
from goodnet.core.dataset import BATCH, Dataset, Labels
from goodnet.core.errors import UnknownMethod
from goodnet.core.method import Progress, no_progress

#: Images whose head outputs are handled together: tails are cheap, so they run on more images at once.
_BLOCK = 512
#: Head outputs up to this size stay in memory; a larger set is run through the head again.
_MEMORY = 1 << 30

Values = tuple[Tensor, ...]


def find_prunable_layer(classifier: Classifier, name: str | None = None) -> Layer:
    """Return the layer `name`, or the last convolution or pooling stage before the head of the network.

    The stage is the last pooling layer where its channels can be silenced (DeepID: pool_3, as in the contest),
    else the last layer of feature maps whose channels can be.

    Raises:
        UnknownMethod: no such layer, or one whose channels cannot be silenced by changing weights.
    """
    if name is not None:
        layer = classifier.layer(name)
        if not layer.prunable:
            usable = ", ".join(item.name for item in classifier.layers() if item.prunable)
            raise UnknownMethod(
                f"the channels of layer '{name}' ({layer.kind}) cannot be pruned; these can: {usable or 'none'}"
            )
        return layer
    layers = classifier.layers()
    pooling = [layer for layer in layers if layer.is_pooling]
    maps = [layer for layer in layers if layer.prunable and len(layer.output_shape) == 3]
    if pooling and pooling[-1].prunable:
        return pooling[-1]
    if not maps:
        raise UnknownMethod(
            f"{classifier.name} has no layer of feature maps whose channels can be pruned; see goodnet inspect"
        )
    return maps[-1]


class HeadOutputs:
    """The values at a cut of a network for a whole data set, a block at a time; computed once where they fit.

    Iterating gives tuples of tensors (see `graph.cut`), the layer's own output first, in the order of the data.
    """

    def __init__(
        self, classifier: Classifier, dataset: Dataset, layer: str, *, progress: Progress = no_progress
    ) -> None:
        self.classifier, self.dataset, self.progress = classifier, dataset, progress
        self.head, self.tail = classifier.split(layer)
        self._kept: list[Values] | None = None

    def __iter__(self) -> Iterator[Values]:
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Values] | None = []
        size = done = 0
        for batch in self.dataset.batches(_BLOCK):
            values = self._run_head(batch.images)
            done += len(batch.labels)
            self.progress(done, len(self.dataset))
            size += sum(value.nbytes for value in values)
            if kept is not None:
                kept = [*kept, values] if size <= _MEMORY else None
            yield values
        self._kept = kept

    def _run_head(self, images: Tensor) -> Values:
        parts = [self.head(self.classifier.prepare(part)) for part in torch.split(images, BATCH)]
        return tuple(torch.cat(values) for values in zip(*parts, strict=True))


def mean_activations(outputs: HeadOutputs) -> npt.NDArray[np.float64]:
    """Return the mean of each channel over all images and places, (channels,). Cost: one pass of the head."""
    total, count = torch.zeros(()), 0
    with torch.inference_mode():
        for values in outputs:
            features = values[0].flatten(2) if values[0].ndim > 2 else values[0][:, :, None]
            total = total.to(features.device) + features.double().sum(dim=(0, 2))
            count += features.shape[0] * features.shape[2]
    means: npt.NDArray[np.float64] = (total / count).cpu().numpy()
    return means


def sweep_predictions(
    outputs: HeadOutputs, order: Sequence[int], *, progress: Progress = no_progress
) -> npt.NDArray[np.int32]:
    """Return the class of every image with 0, 1, ..., len(order) channels set to zero, (len(order) + 1, N).

    Args:
        outputs: the layer's outputs over the data.
        order: channels in the order in which they go.
        progress: called with the number of images that are done.

    Cost: one pass of the head if `outputs` has not been gone through yet, and for each channel one of the tail over
    the images on which it is active.
    """
    blocks: list[npt.NDArray[np.int32]] = []
    done = 0
    with torch.inference_mode():
        for values in outputs:
            blocks.append(_sweep_block(outputs, values, order))
            done += values[0].shape[0]
            progress(done, len(outputs.dataset))
    return np.concatenate(blocks, axis=1)


def _sweep_block(outputs: HeadOutputs, values: Values, order: Sequence[int]) -> npt.NDArray[np.int32]:
    features = values[0].clone(memory_format=torch.preserve_format)
    active = (features.flatten(2).abs().amax(dim=2) if features.ndim > 2 else features.abs()) > 0
    classes = _classes(outputs, (features, *values[1:]))
    levels = [classes]
    for channel in order:
        rows = active[:, channel].nonzero()[:, 0]
        features[:, channel] = 0
        if len(rows):
            classes = classes.clone()
            classes[rows] = _classes(outputs, tuple(value[rows] for value in (features, *values[1:])))
        levels.append(classes)
    return torch.stack(levels).to(torch.int32).cpu().numpy()


def _classes(outputs: HeadOutputs, values: Values) -> Tensor:
    return outputs.tail(values).argmax(dim=1)  # type: ignore[no-any-return]


def count_matches(predictions: npt.NDArray[np.int32], labels: Labels) -> list[int]:
    """Return how many images of each level got their label: `predictions` (levels, N), `labels` (N,)."""
    return [int(hits) for hits in (predictions == labels[None, :]).sum(axis=1)]
