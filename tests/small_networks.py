"""Small torch networks that tests take apart."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """A residual block that overwrites, as most published ones do."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_1, self.norm_1 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.conv_2, self.norm_2 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        values = self.relu(self.norm_1(self.conv_1(images)))
        values = self.norm_2(self.conv_2(values))
        values += images
        return self.relu(values)


class Residual(nn.Module):
    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.first, self.second = Block(6), Block(6)
        self.shift = nn.Parameter(torch.rand(6, 1, 1))
        self.head = nn.Linear(6, classes)

    def forward(self, images: Tensor) -> Tensor:
        values = F.relu(self.norm(self.stem(images)), inplace=True)
        values = self.second(self.first(F.max_pool2d(values, 2)))
        values.add_(self.shift)
        return self.head(torch.flatten(F.adaptive_avg_pool2d(values, 1), 1))


class Overwriting(nn.Module):
    """Uses a tensor again after a statement has overwritten it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        values = self.conv(images)
        F.relu(values, inplace=True)
        values.mul_(2.0)
        values -= 0.25
        torch.sigmoid_(values)
        return self.head((values + values * 0.5).mean(dim=(2, 3)))


class Untraceable(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.head = nn.Linear(3, classes)

    def forward(self, images: Tensor) -> Tensor:
        if images.sum() > 0:
            images = images * 2
        return self.head(images.mean(dim=(2, 3)))


class FunctionalDropout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(F.dropout(images.mean(dim=(2, 3)), 0.5, training=self.training))


class SharedConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        values = self.relu(self.conv(self.relu(self.conv(images))))
        return self.head(values.mean(dim=(2, 3)))


def tiny(classes: int = 4) -> nn.Sequential:
    """Two convolutions for images (3, 12, 12)."""
    return nn.Sequential(
        OrderedDict(
            conv_1=nn.Conv2d(3, 5, 3, padding=1),
            relu_1=nn.ReLU(),
            pool_1=nn.MaxPool2d(2),
            conv_2=nn.Conv2d(5, 6, 3),
            relu_2=nn.ReLU(),
            pool_2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            output=nn.Linear(24, classes),
        )
    )


def grey_linear() -> nn.Sequential:
    """Two classes of grey images (1, 8, 8)."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))


def plain() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.LeakyReLU(0.1, inplace=True),
        nn.MaxPool2d(2),
        nn.Dropout(0.3),
        nn.Conv2d(8, 5, 3),
        nn.ELU(),
        nn.Conv2d(5, 5, 1),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(5 * 16, 4),
    )


def settle(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give a network fixed weights, and batch norms statistics of which every value counts."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        for name, buffer in module.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.3)
    return module.eval()
