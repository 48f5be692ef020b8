"""`Dataset`: images and labels, read from their source a batch at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from goodnet.core.errors import UnreadableData, WrongShape

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

#: Images a network evaluates at once: measured to be the fastest on CPUs for small images.
BATCH = 64


class ImageSource(Protocol):
    """Where images come from: an array, a file, a folder."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""

    def read(self, indices: npt.NDArray[np.int64]) -> Pixels:
        """Return the images at `indices`: uint8 in 0..255 or float32 in [0, 1], (len(indices), C, H, W)."""


@dataclass(frozen=True)
class ArraySource:
    """Images that are in memory already, (N, C, H, W): uint8 in 0..255 or float32 in [0, 1]."""

    pixels: Pixels

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        n, c, h, w = self.pixels.shape
        return n, c, h, w

    def read(self, indices: npt.NDArray[np.int64]) -> Pixels:
        """Return the images at `indices`."""
        return self.pixels[indices]


class Batch(NamedTuple):
    """`images` (B, C, H, W) float32 in [0, 1]; `labels` (B,) int64, -1 where the data has none."""

    images: Tensor
    labels: Tensor


def as_unit_range(pixels: Pixels) -> Tensor:
    """Return pixels (uint8 in 0..255, or float in [0, 1]) as float32 in [0, 1]."""
    if pixels.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(pixels)).to(torch.float32).div_(255.0)
    return torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))


@dataclass(frozen=True)
class Dataset:
    """Images and labels; `indices` says which images of the source belong to it, so subsets cost nothing.

    Args:
        source: where the images come from.
        labels: (N,) int64 for the whole source, or None for unlabelled images.
        name: for messages and tables, usually the file name.
        class_names: the name of each class, or None.
        true_labels: (N,) int64: for poisoned data, the class that the image shows; `labels` then hold the target.
        indices: positions in the source, (M,) int64; None means all.
        known: (N,) bool for the whole source: which labels came with the data; the others are predictions of a network.
            None means all.
        notes: remarks of the reader, one line each, e.g. what it left out.
        canonical: whether `indices` are in the order that `in_canonical_order` gives.
    """

    source: ImageSource
    labels: Labels | None
    name: str = "data"
    class_names: tuple[str, ...] | None = None
    true_labels: Labels | None = None
    indices: npt.NDArray[np.int64] | None = None
    known: npt.NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()
    canonical: bool = False

    def __post_init__(self) -> None:
        if self.source.shape[0] == 0 or (self.indices is not None and not len(self.indices)):
            raise UnreadableData(f"{self.name}: expected at least one image, got an empty set")
        for kind, labels in (("labels", self.labels), ("true labels", self.true_labels)):
            if labels is not None and len(labels) != self.source.shape[0]:
                raise WrongShape(f"{self.name}: {self.source.shape[0]} images but {len(labels)} {kind}")

    @classmethod
    def from_arrays(
        cls,
        images: Pixels,
        labels: npt.ArrayLike | None = None,
        *,
        name: str = "data",
        true_labels: npt.ArrayLike | None = None,
    ) -> Dataset:
        """Make a data set of arrays in memory: images (N, C, H, W) uint8 or float32 in [0, 1], labels (N,)."""
        return cls(ArraySource(images), _as_labels(labels), name, true_labels=_as_labels(true_labels))

    def __len__(self) -> int:
        return self.source.shape[0] if self.indices is None else len(self.indices)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.source.shape[1:]

    @property
    def positions(self) -> npt.NDArray[np.int64]:
        """Positions in the source of the images of this set, (len(self),)."""
        return np.arange(self.source.shape[0]) if self.indices is None else self.indices

    def require_labels(self) -> None:
        """Check that the images have labels.

        Raises:
            UnreadableData: they have none.
        """
        if self.labels is None:
            raise UnreadableData(
                f"{self.name} has no labels, and this needs them; give a 'label' array beside the images, class folders, "
                "or (images, labels)"
            )

    @property
    def targets(self) -> Labels:
        """The labels of this set's images, (len(self),).

        Raises:
            UnreadableData: the data has no labels.
        """
        self.require_labels()
        return cast(Labels, self.labels)[self.positions]

    @property
    def true_targets(self) -> Labels | None:
        """The classes that poisoned images really show, or None where that is unknown."""
        return None if self.true_labels is None else self.true_labels[self.positions]

    @property
    def known_targets(self) -> npt.NDArray[np.bool_]:
        """Which of this set's labels came with the data, (len(self),)."""
        return np.ones(len(self), np.bool_) if self.known is None else self.known[self.positions]

    def with_known_labels(self) -> Dataset:
        """Return the images whose labels came with the data: those that an accuracy can be measured on.

        Raises:
            UnreadableData: there are none.
        """
        return self if self.known is None else self.subset(np.flatnonzero(self.known_targets))

    def subset(self, positions: Sequence[int] | npt.NDArray[np.int64]) -> Dataset:
        """Return the images at `positions` (of this set, not of the source)."""
        chosen = np.asarray(positions, dtype=np.int64)
        canonical = self.canonical and bool((np.diff(chosen) > 0).all())
        return replace(self, indices=self.positions[chosen], canonical=canonical)

    def split(self, fraction: float, *, seed: int) -> tuple[Dataset, Dataset]:
        """Return two disjoint sets: `fraction` of the images (at least one, not all), drawn at random, and the rest."""
        if len(self) < 2:
            raise UnreadableData(f"{self.name}: expected at least 2 images to split, got {len(self)}")
        order = np.random.default_rng(seed).permutation(len(self))
        count = min(max(1, round(fraction * len(self))), len(self) - 1)
        return self.subset(np.sort(order[:count])), self.subset(np.sort(order[count:]))

    def sample(self, count: int, *, seed: int) -> Dataset:
        """Return `count` images drawn at random, or the whole set where it has no more."""
        if count >= len(self):
            return self
        chosen = np.random.default_rng(seed).choice(len(self), count, replace=False)
        return self.subset(np.sort(chosen))

    def in_canonical_order(self) -> Dataset:
        """Return the same images in an order that hangs on their pixels and labels alone.

        Whoever draws from them with a seed, or divides them, gets the same images however they were stored; sorted by
        class they are not either. Cost: the pixels are read once.
        """
        if self.canonical:
            return self
        keys = list(self._digests())
        order = sorted(range(len(self)), key=keys.__getitem__)
        return replace(self.subset(order), canonical=True)

    def _digests(self) -> Iterator[tuple[bytes, int]]:
        """Return for each image what tells it from the others, however it is stored, and its label for equal ones."""
        positions = self.positions
        for start in range(0, len(positions), BATCH):
            part = positions[start : start + BATCH]
            labels = np.full(len(part), -1, dtype=np.int64) if self.labels is None else self.labels[part]
            for image, label in zip(as_unit_range(self.source.read(part)).numpy(), labels, strict=True):
                yield hashlib.blake2b(image.tobytes(), digest_size=16).digest(), int(label)

    def batches(self, size: int = BATCH) -> Iterator[Batch]:
        """Go through the set in order, `size` images at a time; only one batch is in memory."""
        positions = self.positions
        for start in range(0, len(positions), size):
            part = positions[start : start + size]
            labels = np.full(len(part), -1, dtype=np.int64) if self.labels is None else self.labels[part]
            yield Batch(as_unit_range(self.source.read(part)), torch.from_numpy(labels))

    def images(self) -> Tensor:
        """Return all images as one tensor (N, C, H, W) float32 in [0, 1]: for sets known to be small."""
        return as_unit_range(self.source.read(self.positions))

    def in_memory(self) -> Dataset:
        """Return the same set with its pixels (as stored, uint8 stays uint8) held in memory, for random access."""
        pixels = self.source.read(self.positions)
        return Dataset(
            ArraySource(pixels),
            None if self.labels is None else self.targets,
            self.name,
            self.class_names,
            self.true_targets,
            known=None if self.known is None else self.known_targets,
            notes=self.notes,
        )


def _as_labels(values: npt.ArrayLike | None) -> Labels | None:
    return None if values is None else np.asarray(values, dtype=np.int64)
