"""DeepID, the face network of the CSAW-HackML-2020 contest.

Source: Y. Sun, X. Wang, X. Tang, "Deep learning face representation from predicting 10,000 classes", CVPR 2014; layer
sizes and names as in the contest's Keras files, so that their weights fit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from goodnet.core.errors import WrongShape

IMAGE_SHAPE = (3, 55, 47)


class DeepID(nn.Module):
    """Three convolutions with pooling; the last pooled map and a fourth convolution of it meet in 160 features."""

    def __init__(self, classes: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.conv_1, self.pool_1 = nn.Conv2d(channels, 20, 4), nn.MaxPool2d(2)
        self.conv_2, self.pool_2 = nn.Conv2d(20, 40, 3), nn.MaxPool2d(2)
        self.conv_3, self.pool_3 = nn.Conv2d(40, 60, 3), nn.MaxPool2d(2)
        self.conv_4 = nn.Conv2d(60, 80, 2)
        self.relu_1, self.relu_2, self.relu_3, self.relu_4 = nn.ReLU(), nn.ReLU(), nn.ReLU(), nn.ReLU()
        rows, columns = _pooled_size(height), _pooled_size(width)
        if min(rows, columns) < 2:
            raise WrongShape(f"DeepID takes images of at least 31 x 31 pixels, got {width} x {height}")
        self.fc_1 = nn.Linear(60 * rows * columns, 160)
        self.fc_2 = nn.Linear(80 * (rows - 1) * (columns - 1), 160)
        self.activation_1 = nn.ReLU()
        self.output = nn.Linear(160, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, classes)."""
        values = self.pool_1(self.relu_1(self.conv_1(images)))
        values = self.pool_2(self.relu_2(self.conv_2(values)))
        values = self.pool_3(self.relu_3(self.conv_3(values)))
        deeper = self.relu_4(self.conv_4(values))
        features = torch.add(self.fc_1(_flatten(values)), self.fc_2(_flatten(deeper)))
        return self.output(self.activation_1(features))  # type: ignore[no-any-return]


def _pooled_size(size: int) -> int:
    return ((((size - 3) // 2) - 2) // 2 - 2) // 2


def _flatten(values: Tensor) -> Tensor:
    """Flatten in Keras's order (height, width, channel), in which the contest's weights are."""
    return values.permute(0, 2, 3, 1).flatten(1)


def build(classes: int = 1283, image_shape: tuple[int, int, int] = IMAGE_SHAPE) -> nn.Module:
    """Return DeepID for `classes` identities; 1,283 in the contest."""
    return DeepID(classes, image_shape)
