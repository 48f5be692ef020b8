"""The network of I-BAU's published CIFAR-10 checkpoints; their weights fit.

Source: Y. Zeng, S. Chen, W. Park, Z. M. Mao, M. Jin, R. Jia, "Adversarial unlearning of backdoors via implicit
hypergradient", ICLR 2022, and the names and sizes in the checkpoints published with it.
"""

from __future__ import annotations

from torch import Tensor, nn

from goodnet.core.errors import WrongShape

IMAGE_SHAPE = (3, 32, 32)

_WIDTHS = (32, 64, 128)
_SMALLEST = 8


class IbauCnn(nn.Module):
    """Three stages of two (convolution 3x3, batch norm, ELU), each with pooling by 2 and dropout; one linear layer."""

    def __init__(self, classes: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = image_shape
        layers: list[nn.Module] = []
        for after in _WIDTHS:
            for before in (channels, after):
                layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ELU()]
            layers += [nn.MaxPool2d(2), nn.Dropout(0.3)]
            channels = after
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(_WIDTHS[-1] * (height // 8) * (width // 8), classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, classes)."""
        return self.classifier(self.features(images).flatten(1))  # type: ignore[no-any-return]


def build(classes: int = 10, image_shape: tuple[int, int, int] = IMAGE_SHAPE) -> nn.Module:
    """Return the network for `classes` classes and images (C, H, W).

    Raises:
        WrongShape: the images are smaller than 8 x 8.
    """
    if min(image_shape[1:]) < _SMALLEST:
        raise WrongShape(f"ibau_cnn halves images three times: expected at least 8 x 8 pixels, got {image_shape[1:]}")
    return IbauCnn(classes, image_shape)
