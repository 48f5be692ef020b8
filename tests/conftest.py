"""Fixtures that all tests share."""

import functools
import os
from collections import OrderedDict
from pathlib import Path

# Keras fixes its backend when it is first imported.
os.environ["KERAS_BACKEND"] = "torch"

import matplotlib as mpl
import pytest
import torch
from torch import nn

mpl.use("Agg")
torch.set_num_threads(2)

REPOSITORY = Path(__file__).resolve().parents[1]


def _shared_data(folder: str) -> Path:
    path = REPOSITORY.parent / "shared" / "data" / folder
    if not path.is_dir():
        pytest.skip(f"real data is missing: {path}")
    return path


@pytest.fixture(scope="session")
def csaw() -> Path:
    return _shared_data("csaw")


@pytest.fixture(scope="session")
def ibau() -> Path:
    return _shared_data("ibau")


@pytest.fixture(scope="session")
def cifar10() -> Path:
    return _shared_data("cifar10")


@pytest.fixture(scope="session")
def lfw() -> Path:
    return _shared_data("lfw")


@pytest.fixture(scope="session")
def gtsrb() -> Path:
    return _shared_data("gtsrb")


@pytest.fixture(scope="session")
def mnist() -> Path:
    return _shared_data("mnist")


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture
def tiny_classifier():
    """A network of two convolutions that knows four classes of 12 x 12 images, trained on `tiny_data`'s kind."""
    return _tiny_trained().copy()


@pytest.fixture(scope="session")
def tiny_data():
    """120 images (3, 12, 12) of four classes: a bright quadrant each, in noise."""
    return make_quadrants(120, seed=1)


@pytest.fixture(scope="session")
def deepid():
    """DeepID with fresh weights, 10 classes."""
    from goodnet.architectures.deepid import build
    from goodnet.formats.pytorch import from_module

    torch.manual_seed(0)
    return from_module(build(classes=10), (3, 55, 47))


def make_quadrants(count: int, seed: int):
    """Return images of four classes: which quadrant is bright."""
    import numpy as np

    from goodnet.core.dataset import Dataset

    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 110, (count, 3, 12, 12), dtype=np.uint8)
    labels = rng.integers(0, 4, count)
    for image, label in zip(pixels, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[:, 6 * row : 6 * row + 6, 6 * column : 6 * column + 6] += 70
    return Dataset.from_arrays(pixels, labels, name="quadrants")


@functools.cache
def _tiny_trained():
    from goodnet.formats.pytorch import from_module
    from goodnet.training import Training, train

    torch.manual_seed(0)
    module = nn.Sequential(
        OrderedDict(
            conv_1=nn.Conv2d(3, 5, 3, padding=1),
            relu_1=nn.ReLU(),
            pool_1=nn.MaxPool2d(2),
            conv_2=nn.Conv2d(5, 6, 3),
            relu_2=nn.ReLU(),
            pool_2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            output=nn.Linear(24, 4),
        )
    )
    classifier = from_module(module, (3, 12, 12), name="tiny", architecture="tests.small_networks:tiny")
    train(
        classifier,
        make_quadrants(400, seed=0),
        Training(epochs=12, learning_rate=1e-2, batch_size=32),
        seed=0,
    )
    return classifier
