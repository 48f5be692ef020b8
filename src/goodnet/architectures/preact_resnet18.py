"""PreAct-ResNet18, the network on which most backdoor benchmarks report.

Source: K. He, X. Zhang, S. Ren, J. Sun, "Identity mappings in deep residual networks", ECCV 2016 (normalisation and
ReLU before each convolution), with the 18 layers of "Deep residual learning for image recognition", CVPR 2016, and a
first convolution 3x3 without pooling, as is usual for 32 x 32 images.
"""

from __future__ import annotations

from torch import Tensor, nn

from goodnet.core.errors import WrongShape

IMAGE_SHAPE = (3, 32, 32)

_WIDTHS = (64, 128, 256, 512)
_SMALLEST = 8


class PreactBlock(nn.Module):
    """Batch norm, ReLU, convolution, twice, added to the input (to a 1x1 convolution of it where the shape changes)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.norm_1, self.relu_1 = nn.BatchNorm2d(before), nn.ReLU()
        self.conv_1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm_2, self.relu_2 = nn.BatchNorm2d(after), nn.ReLU()
        self.conv_2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        changes = stride != 1 or before != after
        self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False) if changes else None

    def forward(self, values: Tensor) -> Tensor:
        """Map (N, before, H, W) to (N, after, H / stride, W / stride)."""
        ready = self.relu_1(self.norm_1(values))
        short = values if self.shortcut is None else self.shortcut(ready)
        return self.conv_2(self.relu_2(self.norm_2(self.conv_1(ready)))) + short  # type: ignore[no-any-return]


class PreactResnet18(nn.Module):
    """A convolution, four stages of two residual blocks (64 to 512 channels), batch norm, ReLU, mean, linear layer."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, _WIDTHS[0], 3, padding=1, bias=False)
        before = _WIDTHS[0]
        for index, after in enumerate(_WIDTHS, start=1):
            stride = 1 if index == 1 else 2
            stage = nn.Sequential(PreactBlock(before, after, stride), PreactBlock(after, after, 1))
            self.add_module(f"stage_{index}", stage)
            before = after
        self.norm, self.relu = nn.BatchNorm2d(before), nn.ReLU()
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.output = nn.Linear(before, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, classes)."""
        values = self.conv(images)
        for index in range(1, len(_WIDTHS) + 1):
            values = self.get_submodule(f"stage_{index}")(values)
        return self.output(self.mean(self.relu(self.norm(values))).flatten(1))  # type: ignore[no-any-return]


def build(classes: int = 10, image_shape: tuple[int, int, int] = IMAGE_SHAPE) -> nn.Module:
    """Return the network for `classes` classes and images (C, H, W).

    Raises:
        WrongShape: the images are smaller than 8 x 8.
    """
    if min(image_shape[1:]) < _SMALLEST:
        raise WrongShape(
            f"preact_resnet18 halves images three times: expected at least 8 x 8 pixels, got {image_shape[1:]}"
        )
    return PreactResnet18(classes, image_shape[0])
