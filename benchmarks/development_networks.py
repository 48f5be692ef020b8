"""Networks of kinds that goodnet does not come with, for the zoo of `benchmarks/development.toml`."""

from __future__ import annotations

from torch import nn

IMAGE_SHAPE = (3, 32, 32)


def batch_norm_cnn(classes: int = 10, image_shape: tuple[int, int, int] = IMAGE_SHAPE) -> nn.Module:
    """Four convolutions, each with batch norm, the mean over all places, one linear layer."""
    layers, channels = [], image_shape[0]
    for outputs, stride in ((24, 1), (48, 2), (48, 1), (96, 2)):
        layers += [nn.Conv2d(channels, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def tanh_mlp(classes: int = 10, image_shape: tuple[int, int, int] = IMAGE_SHAPE) -> nn.Module:
    """Two hidden layers with tanh."""
    channels, height, width = image_shape
    inputs = channels * height * width
    return nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, 200), nn.Tanh(), nn.Linear(200, 100), nn.Tanh(), nn.Linear(100, classes)
    )
