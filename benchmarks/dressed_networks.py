"""The networks that `dressings.py` trains, and those that a user names to open its files of weights alone."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from reach_torch import Small

SIDE, LARGER = 32, 48
_WIDTH = 6


def make_plain(classes: int) -> nn.Module:
    """Return the network that all dressings but one are made of. Its convolutions do not pad: what pixels mean can be changed
    in its first weights exactly."""
    return Small(classes, width=_WIDTH)


def make_softmax(classes: int) -> nn.Module:
    return Small(classes, "softmax", _WIDTH)


def make_log_softmax(classes: int) -> nn.Module:
    return Small(classes, "log_softmax", _WIDTH)


def make_object(classes: int) -> nn.Module:
    return Small(classes, "object", _WIDTH)


class Resized(Small):
    """The same for larger images, which it scales down itself."""

    def forward(self, images: Tensor) -> Any:
        """Return logits (n, classes) for images (n, 3, 48, 48)."""
        return super().forward(
            F.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
        )


def make_resized(classes: int) -> nn.Module:
    return Resized(classes, width=_WIDTH)


class Logits(nn.Module):
    """A network of transformers that gives its logits alone, for images in [0, 1]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, classes)."""
        logits: Tensor = self.model(pixel_values=2 * images - 1).logits
        return logits


def make_transformers(classes: int) -> nn.Module:
    """Return a small ResNet of transformers."""
    from reach_folders import make_model

    return Logits(make_model("resnet", [f"class {number}" for number in range(classes)])[1])
