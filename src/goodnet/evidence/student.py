"""A student: a small network that has learnt a network's predictions on clean images, and has its natural weaknesses alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.graph import trace
from goodnet.training import Training, train
from goodnet.triggers.inversion import classes_of

#: Sides of the images, in pixels, for which the student's first layer has 3 x 3 kernels.
_SIDE = 32


def make_student(classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """Return a small network with fresh weights: four convolutions with batch norm.

    On larger images the first convolution has a larger kernel and stride.
    """
    channels, height, width = image_shape
    unit = max(1, round(min(height, width) / _SIDE))
    layers: list[nn.Module] = []
    for outputs, side, stride in ((16, 2 * unit + 1, unit), (32, 3, 2), (64, 3, 2), (64, 3, 2)):
        layers += [
            nn.Conv2d(channels, outputs, side, stride, side // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]
        channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * channels, classes))


def teach_student(classifier: Classifier, images: Tensor, seen: int, *, seed: int) -> Classifier:
    """Return a small network that has learnt the predictions of `classifier` on clean images (n, C, H, W), and nothing else.

    It sees about `seen` images, in whole passes, each shifted anew by up to a tenth.

    Cost: one pass of the network; `seen` forward and backward of the student.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = trace(make_student(classifier.classes, classifier.image_shape))
    student = Classifier(network, image_shape=classifier.image_shape, name="student").to(classifier.device)
    lessons = Dataset.from_arrays(images.numpy(), classes_of(classifier, images).numpy())
    epochs = max(1, round(seen / len(images)))
    train(student, lessons, Training(epochs=epochs, learning_rate=2e-3, batch_size=32, augmentation="shift"), seed=seed)
    return student
