"""scikit-learn's digits: real handwriting that ships with the package, for tests and first steps without a download.

Source: E. Alpaydin, C. Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository, 1998:
1,797 digits of 43 people, 8 x 8 pixels of 0 to 16, from 32 x 32 scans.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from goodnet.core.dataset import ArraySource, Dataset
from goodnet.core.errors import InvalidOption, UnreadableData

if TYPE_CHECKING:
    from collections.abc import Callable

#: The size in which they are stored.
_STORED = 8
_LARGEST = 256


def read_digits(size: int = 16) -> Dataset:
    """Return the 1,797 digits as grey images (1, size, size) uint8, bright on dark, labels 0 to 9.

    They are scaled up bilinearly from 8 x 8; 16 keeps training fast, 28 fits networks for MNIST.

    Raises:
        InvalidOption: size is below 8 or above 256.
        UnreadableData: scikit-learn is not installed.
    """
    if not _STORED <= size <= _LARGEST:
        raise InvalidOption(f"digits: expected a size of {_STORED} to {_LARGEST} pixels, got {size}")
    bunch = _loader()()
    stored = torch.from_numpy(np.asarray(bunch["images"], dtype=np.float32))[:, None] / 16
    scaled = functional.interpolate(stored, (size, size), mode="bilinear", align_corners=False)
    pixels: npt.NDArray[np.uint8] = (scaled * 255).round().to(torch.uint8).numpy()
    names = tuple(str(digit) for digit in range(10))
    return Dataset(ArraySource(pixels), np.asarray(bunch["target"], dtype=np.int64), "digits", names)


def _loader() -> Callable[[], dict[str, npt.NDArray[np.float64]]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UnreadableData(
            "digits come with scikit-learn, which is missing; install it: pip install scikit-learn"
        ) from error
    return load_digits  # type: ignore[no-any-return]
