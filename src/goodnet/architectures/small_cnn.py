"""A small convolutional network with batch normalisation: trained in a minute on a CPU.

Source: after the networks for digits and road signs in B. Wang et al., "Neural Cleanse", IEEE S&P 2019: blocks of
convolution and pooling, one hidden layer. Batch norm and dropout are ours: on GTSRB, 6 epochs gave an accuracy of
0.94 with them and 0.84 without. DeepID is the network without normalisation.
"""

from __future__ import annotations

from torch import Tensor, nn

from goodnet.core.errors import WrongShape

IMAGE_SHAPE = (3, 32, 32)

_SMALLEST = 8


class SmallCnn(nn.Module):
    """Three stages (32, 64, 128 channels) of convolution 3x3, batch norm, ReLU, pooling by 2; 256 hidden units."""

    def __init__(self, classes: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.conv_1, self.norm_1 = nn.Conv2d(channels, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.conv_2, self.norm_2 = nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64)
        self.conv_3, self.norm_3 = nn.Conv2d(64, 128, 3, padding=1), nn.BatchNorm2d(128)
        self.relu_1, self.relu_2, self.relu_3, self.relu_4 = nn.ReLU(), nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.pool_1, self.pool_2, self.pool_3 = nn.MaxPool2d(2), nn.MaxPool2d(2), nn.MaxPool2d(2)
        self.hidden, self.dropout = nn.Linear(128 * (height // 8) * (width // 8), 256), nn.Dropout(0.3)
        self.output = nn.Linear(256, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, classes)."""
        values = self.pool_1(self.relu_1(self.norm_1(self.conv_1(images))))
        values = self.pool_2(self.relu_2(self.norm_2(self.conv_2(values))))
        values = self.pool_3(self.relu_3(self.norm_3(self.conv_3(values))))
        values = self.dropout(self.relu_4(self.hidden(values.flatten(1))))
        return self.output(values)  # type: ignore[no-any-return]


def build(classes: int = 10, image_shape: tuple[int, int, int] = IMAGE_SHAPE) -> nn.Module:
    """Return the network for `classes` classes and images (C, H, W).

    Raises:
        WrongShape: the images are smaller than 8 x 8.
    """
    if min(image_shape[1:]) < _SMALLEST:
        raise WrongShape(f"small_cnn halves images three times: expected at least 8 x 8 pixels, got {image_shape[1:]}")
    return SmallCnn(classes, image_shape)
