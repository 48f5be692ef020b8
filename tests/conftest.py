"""Fixtures that all tests share."""

import os
from pathlib import Path

# Keras fixes its backend when it is first imported.
os.environ["KERAS_BACKEND"] = "torch"

import matplotlib as mpl
import pytest
import torch

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
