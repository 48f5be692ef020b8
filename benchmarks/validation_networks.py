"""Networks of kinds that goodnet does not come with, for the zoo of `benchmarks/validation.toml`; run from the repository's root.

Sources: Y. LeCun et al., "Gradient-based learning applied to document recognition", 1998 (LeNet-5, here with ReLU); S. Zagoruyko,
N. Komodakis, "Wide residual networks", BMVC 2016; A. Howard et al., "MobileNets", 2017 (separable convolutions).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

IMAGE_SHAPE = (3, 32, 32)


def lenet(classes: int = 10, image_shape: tuple[int, int, int] = IMAGE_SHAPE) -> nn.Module:
    """Two convolutions of 5 x 5, three linear layers, no normalisation."""
    channels, height, width = image_shape
    features = 16 * (height // 4 - 3) * (width // 4 - 3)
    return nn.Sequential(
        *(nn.Conv2d(channels, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(features, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, classes)),
    )


def mlp(classes: int = 10, image_shape: tuple[int, int, int] = IMAGE_SHAPE) -> nn.Module:
    """Two hidden layers."""
    channels, height, width = image_shape
    inputs = channels * height * width
    return nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, classes)
    )


class _Residual(nn.Module):
    """Batch norm, ReLU, convolution, twice, added to the input."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv_1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv_2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        active = torch.relu(self.norm_1(values))
        through = self.conv_2(torch.relu(self.norm_2(self.conv_1(active))))
        return through + (values if self.shortcut is None else self.shortcut(active))


def wide_resnet(classes: int = 10, image_shape: tuple[int, int, int] = IMAGE_SHAPE) -> nn.Module:
    """WRN-10-1: three residual blocks of 16, 32 and 64 channels."""
    return nn.Sequential(
        nn.Conv2d(image_shape[0], 16, 3, 1, 1, bias=False),
        *(_Residual(16, 16, 1), _Residual(16, 32, 2), _Residual(32, 64, 2)),
        *(nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes)),
    )


def mobile_net(classes: int = 10, image_shape: tuple[int, int, int] = IMAGE_SHAPE) -> nn.Module:
    """A convolution and four separable ones, each with batch norm."""
    layers = [nn.Conv2d(image_shape[0], 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
    for inputs, outputs, stride in ((32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1)):
        layers += [
            nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
        ]
        layers += [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, classes))
