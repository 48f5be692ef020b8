"""Channel dropout: a prediction that survives when a share of a layer's channels is gone comes from a trigger."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier, Layer
from goodnet.core.dataset import BATCH, Dataset
from goodnet.guards.calibration import CalibratedGuard, Reader, Readings

#: Clean images that the rate is chosen on, and the rates that are tried.
_IMAGES = 100
_RATES = tuple(rate / 10 for rate in range(1, 10))


class ChannelDropout(CalibratedGuard):
    """Refuses an input that keeps its class when channels in the middle of the network are dropped at random.

    A clean image needs most of its features, so it loses its class. A backdoor is a simple rule that a few channels carry
    redundantly, so a triggered input keeps its class. The dropout rate is the lowest (of 0.1, 0.2, ..., 0.9) at which the mean
    probability of the predicted class falls below 0.4 on clean images. The score is the probability of the input's predicted
    class under dropout, averaged over ten masks that are drawn once.

    **Source** W. Li, P.-Y. Chen, S. Liu, R. Wang, "PSBD: Prediction Shift Uncertainty Unlocks Backdoor Detection", CVPR
    2025 (dropout at inference, its rate chosen on clean data).
    **Differs** whole channels of one layer in the middle of the network instead of units of the existing dropout layers;
    judges an input in use instead of cleaning a training set; scores the probability kept instead of the probability lost,
    which ranks the same way.
    **Needs** clean images; a network that can be split at a layer; no gradients.
    **Cost** one pass, and `masks` of the layers after the middle.
    **Fails when** the target depends on the input's own class (all to all); the trigger is faint and needs as many
    channels as a clean image.
    """

    masks: int = Field(10, ge=1, description="random masks that an input is judged by")
    kept: float = Field(0.4, gt=0, lt=1, description="probability that clean images keep at the rate that is chosen")

    def make_reader(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        suspected: Sequence[Backdoor] = (),
        repaired: Classifier | None = None,
        seed: int,
    ) -> Reader:
        """Choose the rate."""
        layer = find_middle_layer(classifier)
        images = clean.sample(_IMAGES, seed=seed).images()
        for rate in _RATES:
            read = self._reader_at(classifier, layer, draw_masks(layer, rate, self.masks, seed))
            if float(read(images)[0].mean()) < self.kept:
                break
        return read

    def _reader_at(self, classifier: Classifier, layer: Layer, masks: Tensor) -> Reader:
        head, tail = classifier.split(layer.name)

        def keep(images: Tensor) -> Tensor:
            values = head(classifier.prepare(images))
            chosen = tail(values).argmax(dim=1, keepdim=True)
            dropped = [tail((values[0] * mask.to(values[0].device), *values[1:])) for mask in masks]
            return torch.stack(dropped).softmax(dim=2).mean(dim=0).gather(1, chosen)[:, 0].cpu()

        def read(images: Tensor) -> Readings:
            with torch.inference_mode():
                return (torch.cat([keep(part) for part in torch.split(images, BATCH)]),)

        return read


def find_middle_layer(classifier: Classifier) -> Layer:
    """Return the layer half way up among the activations of feature maps; of all layers where there are none."""
    layers = classifier.layers()
    maps = [layer for layer in layers if len(layer.output_shape) == 3]
    active = [layer for layer in maps if layer.producer is not None and _is_activation(layer)]
    candidates = active or maps or layers
    return candidates[len(candidates) // 2]


def _is_activation(layer: Layer) -> bool:
    """Whether the channels have gone through a nonlinearity; what only pools them afterwards counts once."""
    if layer.module is layer.producer:
        return getattr(layer.module, "activation", None) is not None
    return not layer.is_pooling and "norm" not in layer.kind.lower() and "drop" not in layer.kind.lower()


def draw_masks(layer: Layer, rate: float, count: int, seed: int) -> Tensor:
    """Return masks of 0 (dropped) and 1 / (1 - rate), (count, 1, C, 1, 1), or (count, 1, ..., D) for other layers."""
    shape = layer.output_shape
    size = (shape[0], 1, 1) if len(shape) == 3 else (*(1 for _ in shape[:-1]), shape[-1])
    kept = torch.rand(count, 1, *size, generator=torch.Generator().manual_seed(seed)) >= rate
    return kept.float() / (1 - rate)
