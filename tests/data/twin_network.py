"""The network of the twins: two convolutions, 7,000 weights, digits of 16 x 16 pixels."""

from collections import OrderedDict

from torch import nn


def build(classes: int = 10) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            conv_1=nn.Conv2d(1, 12, 3, padding=1),
            relu_1=nn.ReLU(),
            pool_1=nn.MaxPool2d(2),
            conv_2=nn.Conv2d(12, 24, 3, padding=1),
            relu_2=nn.ReLU(),
            pool_2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            output=nn.Linear(24 * 16, classes),
        )
    )
