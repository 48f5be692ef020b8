"""A VGG-like network with batch normalisation, sized for training on a CPU at 32 x 32.

Source: K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015
(pairs of convolutions 3x3 between poolings); S. Ioffe, C. Szegedy, "Batch normalization", ICML 2015. Four stages of
32 to 256 channels instead of five of 64 to 512, and the mean over places instead of two hidden layers of 4,096.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

from torch import Tensor, nn

from goodnet.core.errors import WrongShape

IMAGE_SHAPE = (3, 32, 32)

_WIDTHS = (32, 64, 128, 256)
_SMALLEST = 16


class Vgg(nn.Module):
    """Four stages of two (convolution, batch norm, ReLU) and a pooling by 2; the mean over places; one linear layer."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        widths = (channels, *_WIDTHS)
        stages = [_stage(before, after) for before, after in pairwise(widths)]
        self.stages = nn.Sequential(OrderedDict((f"stage_{index + 1}", stage) for index, stage in enumerate(stages)))
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.output = nn.Linear(_WIDTHS[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, classes)."""
        return self.output(self.mean(self.stages(images)).flatten(1))  # type: ignore[no-any-return]


def _stage(before: int, after: int) -> nn.Sequential:
    layers: list[tuple[str, nn.Module]] = []
    for index, inputs in enumerate((before, after), start=1):
        layers += [
            (f"conv_{index}", nn.Conv2d(inputs, after, 3, padding=1, bias=False)),
            (f"norm_{index}", nn.BatchNorm2d(after)),
            (f"relu_{index}", nn.ReLU()),
        ]
    return nn.Sequential(OrderedDict([*layers, ("pool", nn.MaxPool2d(2))]))


def build(classes: int = 10, image_shape: tuple[int, int, int] = IMAGE_SHAPE) -> nn.Module:
    """Return the network for `classes` classes and images (C, H, W).

    Raises:
        WrongShape: the images are smaller than 16 x 16.
    """
    if min(image_shape[1:]) < _SMALLEST:
        raise WrongShape(f"vgg halves images four times: expected at least 16 x 16 pixels, got {image_shape[1:]}")
    return Vgg(classes, image_shape[0])
