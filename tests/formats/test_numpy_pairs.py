"""Pairs of `.npy` files."""

from pathlib import Path

import numpy as np
import pytest

from goodnet.core.errors import UnreadableData, WrongShape
from goodnet.formats.data import read_data

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 3, 9, 8), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 2, 1, 0])


@pytest.mark.parametrize(
    ("images", "labels"), [("images", "labels"), ("x_val", "y_val"), ("X", "y"), ("test_data", "test_labels")]
)
@pytest.mark.parametrize("whole", [True, False])
def test_pairs(images: str, labels: str, whole: bool, tmp_path: Path) -> None:
    np.save(tmp_path / f"{images}.npy", PIXELS)
    np.save(tmp_path / f"{labels}.npy", LABELS)
    data = read_data(tmp_path if whole else tmp_path / f"{images}.npy")
    np.testing.assert_array_equal(data.targets, LABELS)
    np.testing.assert_array_equal(data.source.read(np.arange(6)), PIXELS)


def test_images_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", PIXELS)
    assert read_data(tmp_path / "pixels.npy").labels is None


def test_pairs_that_cannot_be_read(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", PIXELS)
    np.save(tmp_path / "labels.npy", LABELS[:3])
    with pytest.raises(WrongShape, match="6 images but 3 labels"):
        read_data(tmp_path)
    np.save(tmp_path / "labels.npy", np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(UnreadableData, match="holds objects"):
        read_data(tmp_path)
