"""Rendered faces as a `Dataset` that still knows where each face's features lie.

Triggers that follow the face (lipstick, eyebrows) ask the data for the landmarks of the images that they paint. Data
read from a file, or copied with `Dataset.in_memory`, has none: the landmarks live in this source alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from goodnet.core.dataset import ArraySource, Dataset
from goodnet.core.errors import UnreadableData
from goodnet.datasets.faces import Faces, Landmarks


@dataclass(frozen=True)
class FaceSource(ArraySource):
    """Images of faces in memory, (N, C, H, W) uint8, and the landmarks of each."""

    landmarks: Landmarks


def as_dataset(faces: Faces, name: str = "rendered faces") -> Dataset:
    """Return rendered faces as a data set whose subsets and splits keep their landmarks."""
    return Dataset(FaceSource(faces.images, faces.landmarks), faces.labels, name)


def landmarks_of(dataset: Dataset, positions: npt.NDArray[np.int64]) -> Landmarks:
    """Return the landmarks of the faces at `positions` of `dataset` (not of its source).

    Raises:
        UnreadableData: the data was not made by `as_dataset`.
    """
    if not isinstance(dataset.source, FaceSource):
        raise UnreadableData(
            f"{dataset.name}: the trigger follows the face and this data has no landmarks; "
            "use rendered faces, or a trigger that stays in its place (sunglasses, overlay)"
        )
    return dataset.source.landmarks.take(dataset.positions[positions])
