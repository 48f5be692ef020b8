"""A small vision transformer, sized for training on a CPU at 32 x 32.

Source: A. Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021. Two changes that make it learn from small
sets: tokens come from two convolutions of stride 2 (T. Xiao et al., "Early convolutions help transformers see
better", NeurIPS 2021), and the mean over tokens takes the place of the class token (L. Beyer, X. Zhai, A. Kolesnikov,
"Better plain ViT baselines for ImageNet-1k", 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from goodnet.core.errors import WrongShape

IMAGE_SHAPE = (3, 32, 32)

_WIDTH, _DEPTH, _HEADS, _HIDDEN = 96, 4, 4, 192
_SMALLEST = 8


class TransformerBlock(nn.Module):
    """Self-attention and a hidden layer, each after a layer norm and added to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)
        self.query_key_value = nn.Linear(_WIDTH, 3 * _WIDTH)
        self.mix = nn.Linear(_WIDTH, _WIDTH)
        self.hidden, self.gelu, self.back = nn.Linear(_WIDTH, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, _WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (N, T, width) to tokens (N, T, width)."""
        tokens = tokens + self.mix(_attend(self.query_key_value(self.norm_1(tokens))))
        return tokens + self.back(self.gelu(self.hidden(self.norm_2(tokens))))  # type: ignore[no-any-return]


class SmallVit(nn.Module):
    """Tokens of 4 x 4 pixels by two convolutions, learned places, four transformer blocks, the mean, a linear layer."""

    def __init__(self, classes: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.conv_1, self.norm_1 = nn.Conv2d(channels, 48, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(48)
        self.relu_1 = nn.ReLU()
        self.conv_2 = nn.Conv2d(48, _WIDTH, 3, stride=2, padding=1)
        count = _quartered(height) * _quartered(width)
        self.places = nn.Parameter(0.02 * torch.randn(1, count, _WIDTH))
        self.blocks = nn.Sequential(*(TransformerBlock() for _ in range(_DEPTH)))
        self.norm = nn.LayerNorm(_WIDTH)
        self.output = nn.Linear(_WIDTH, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, classes)."""
        values = self.conv_2(self.relu_1(self.norm_1(self.conv_1(images))))
        tokens = values.flatten(2).transpose(1, 2) + self.places
        return self.output(self.norm(self.blocks(tokens)).mean(1))  # type: ignore[no-any-return]


def _attend(query_key_value: Tensor) -> Tensor:
    """Return the attention's output (N, T, width) for queries, keys and values side by side (N, T, 3 width)."""
    parts = query_key_value.unflatten(2, (3, _HEADS, _WIDTH // _HEADS))  # type: ignore[no-untyped-call]
    heads = parts.permute(2, 0, 3, 1, 4)
    mixed = functional.scaled_dot_product_attention(heads[0], heads[1], heads[2])
    return mixed.transpose(1, 2).flatten(2)


def _quartered(size: int) -> int:
    """Return the size after two convolutions of stride 2 with padding: a quarter, rounded up."""
    return (size + 3) // 4


def build(classes: int = 10, image_shape: tuple[int, int, int] = IMAGE_SHAPE) -> nn.Module:
    """Return the network for `classes` classes and images (C, H, W).

    Raises:
        WrongShape: the images are smaller than 8 x 8.
    """
    if min(image_shape[1:]) < _SMALLEST:
        raise WrongShape(f"small_vit needs four tokens: expected at least 8 x 8 pixels, got {image_shape[1:]}")
    return SmallVit(classes, image_shape)
