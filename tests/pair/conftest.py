"""Fixtures of the GoodNet's tests."""

import pytest
import torch


@pytest.fixture(scope="module")
def images():
    return torch.rand(150, 3, 12, 12, generator=torch.Generator().manual_seed(3))
