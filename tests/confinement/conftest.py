"""The child finds the readers of these tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def find_test_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, folders)))
