"""Fixtures of the GoodNet's tests."""

import pytest
import torch


@pytest.fixture
def pair(tiny_classifier):
    """A network, and a copy of it without two channels of its last pooling layer."""
    repaired = tiny_classifier.copy()
    repaired.layer("pool_2").silence([1, 4])
    return tiny_classifier, repaired


@pytest.fixture(scope="module")
def images():
    return torch.rand(150, 3, 12, 12, generator=torch.Generator().manual_seed(3))
