"""HDF5 and `.npz` data sets, and arrays in memory -> `Dataset`.

The contest's layout: `data` (N, C, H, W) or (N, H, W, C), `label` (N,). uint8 is 0..255; floats are taken as
[0, 1] or 0..255, whichever holds all of them. HDF5 is read a batch at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from goodnet.core.dataset import ArraySource, Dataset, ImageSource, Labels, Pixels
from goodnet.core.errors import InputError, UnreadableData, WrongShape
from goodnet.core.one_line import describe_error
from goodnet.formats.files import replacing, require_file
from goodnet.formats.first_bytes import HDF5, ZIP, kind_of
from goodnet.formats.hdf5_files import require_own_content
from goodnet.formats.npy_members import read_npz
from goodnet.formats.shown_paths import show_path

#: Keys of images, labels and true labels (of poisoned data); of several the first is taken, and said in the notes.
_IMAGES = ("data", "images", "x")
_LABELS = ("label", "labels", "y")
_TRUE_LABELS = ("true_label", "true_labels")

_CHANNELS = (1, 3, 4)
#: Larger labels are no classes: what is counted for each class would take memory without end.
_LARGEST_LABEL = 999_999
#: Bytes of one read where the file is checked or read through.
_BLOCK = 16 << 20
#: HDF5 keeps this much unpacked, so that chunks that hold many images are unpacked once, not once a batch.
_CHUNK_CACHE = 128 << 20


def read_arrays(path: str | Path) -> Dataset:
    """Read an HDF5 or `.npz` data set; the file's first bytes decide which of them it is.

    Raises:
        UnreadableData: the file is damaged or of another kind, a key is missing, the set is empty, pixels are NaN or
            out of range.
        WrongShape: images are not four-dimensional, or there is not one label per image.
    """
    path = require_file(path)
    kind = kind_of(path)
    if kind not in (HDF5, ZIP):
        raise UnreadableData(
            f"{show_path(path)}: expected an HDF5 file, an .npz file, a picture or a folder of class folders, got {kind}; "
            "give the data as one of these"
        )
    return _read_npz(path) if kind == ZIP else _read_hdf5(path)


def _read_hdf5(path: Path) -> Dataset:
    shown = show_path(path)
    try:
        file = h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE, rdcc_nslots=100_003)
    except OSError as error:
        raise UnreadableData(f"{shown}: expected an HDF5 file, but it is damaged or of another kind") from error
    try:
        require_own_content(file, shown, path.stat().st_size, UnreadableData)
        arrays = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
        keys = _find_keys(shown, list(arrays))
        images = arrays[keys.images]
        layout, scale = _layout(shown, images.shape or ()), _scale(shown, images)
        return _label(path, Hdf5Source(images, layout, scale), keys, arrays)
    except InputError:
        file.close()
        raise
    except Exception as error:  # h5py fails in many ways on damaged files
        file.close()
        raise UnreadableData(f"{shown}: expected an HDF5 file, but it is damaged ({describe_error(error)})") from error


def _read_npz(path: Path) -> Dataset:
    shown = show_path(path)
    arrays = read_npz(path)
    keys = _find_keys(shown, list(arrays))
    return _label(path, ArraySource(check_pixels(shown, arrays[keys.images])), keys, arrays)


@dataclass(frozen=True)
class _Keys:
    """Under which keys a file has its images, labels and true labels, and what is to be said of the choice."""

    images: str
    labels: str | None
    true_labels: str | None
    notes: tuple[str, ...]


def _find_keys(shown: str, keys: Sequence[str]) -> _Keys:
    images, labels, truth = ([key for key in kind if key in keys] for kind in (_IMAGES, _LABELS, _TRUE_LABELS))
    if not images:
        found = _quote(keys) or "none"
        raise UnreadableData(
            f"{shown}: expected a key '{_IMAGES[0]}', found {found}; rename it or write the file again"
        )
    several = [kind for kind in (images, labels, truth) if len(kind) > 1]
    notes = tuple(f"of the keys {_quote(kind)} the first is read" for kind in several)
    return _Keys(images[0], next(iter(labels), None), next(iter(truth), None), notes)


def _quote(names: Sequence[str]) -> str:
    return ", ".join(f"'{show_path(name)}'" for name in names)


def _label(path: Path, source: ImageSource, keys: _Keys, arrays: Mapping[str, Any]) -> Dataset:
    """Return images with the labels that lie beside them."""
    labels, truth = (
        None if key is None else check_labels(show_path(path), np.asarray(arrays[key][()]))
        for key in (keys.labels, keys.true_labels)
    )
    return Dataset(source, labels, show_path(path.name), true_labels=truth, notes=keys.notes)


def check_labels(name: str, labels: npt.NDArray[Any]) -> Labels:
    """Return labels (N,) or (N, 1), of any number type, as int64.

    Raises:
        UnreadableData: they are not whole numbers from 0 on.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iuf":
        raise UnreadableData(
            f"{name}: expected labels (N,) of whole numbers, got shape {labels.shape} of {labels.dtype}; of one-hot "
            "labels take the argmax"
        )
    if labels.dtype.kind == "f" and not (np.isfinite(labels).all() and np.array_equal(labels, np.round(labels))):
        raise UnreadableData(f"{name}: expected labels that are whole numbers, got fractions, NaN or infinity")
    if len(labels) and labels.min() < 0:
        raise UnreadableData(f"{name}: expected labels from 0 on, got {labels.min():.0f}")
    if len(labels) and labels.max() > _LARGEST_LABEL:
        raise UnreadableData(f"{name}: expected labels up to {_LARGEST_LABEL:,}, got {labels.max():.0f}")
    return labels.astype(np.int64)


def check_pixels(name: str, images: npt.NDArray[Any]) -> Pixels:
    """Return images (N, C, H, W) or (N, H, W, C), of any number type, as NCHW: uint8, or float32 in [0, 1].

    Raises:
        UnreadableData: there is none, or pixels are NaN, neither in 0..1 nor in 0..255, or not numbers.
        WrongShape: the array has another number of axes, or neither layout's number of channels.
    """
    return _to_pixels(images, _layout(name, images.shape), _scale(name, images))


def _layout(name: str, shape: Sequence[int]) -> str:
    if len(shape) != 4:
        raise WrongShape(f"{name}: expected images (N, C, H, W) or (N, H, W, C), got shape {tuple(shape)}")
    if shape[0] == 0:
        raise UnreadableData(f"{name}: expected at least one image, got an empty set")
    if shape[1] in _CHANNELS:
        return "NCHW"
    if shape[3] in _CHANNELS:
        return "NHWC"
    raise WrongShape(f"{name}: expected images with 1, 3 or 4 channels, got shape {tuple(shape)}")


def _scale(name: str, images: Any) -> float:
    """Return what pixels are divided by to be in [0, 1]; floats are looked through, a block at a time."""
    if images.dtype == np.uint8:
        return 255.0
    if images.dtype.kind not in "fiu":
        raise UnreadableData(f"{name}: expected images of uint8 or float, got {images.dtype}")
    rows = max(1, _BLOCK // max(1, int(np.prod(images.shape[1:])) * images.dtype.itemsize))
    low, high = np.inf, -np.inf
    for start in range(0, images.shape[0], rows):
        block = images[start : start + rows]
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        if not np.isfinite([low, high]).all() or np.isnan(block).any():
            raise UnreadableData(
                f"{name}: expected finite pixels, found NaN or infinity among images {start} to {start + len(block) - 1}"
            )
    if low < 0 or high > 255:
        raise UnreadableData(
            f"{name}: expected pixels in 0..1 or 0..255, got {low:g} to {high:g}; if they are normalised, give the images "
            "as they were before and make the normalisation the network's first layer"
        )
    return 1.0 if high <= 1.0 and images.dtype.kind == "f" else 255.0


def _to_pixels(block: npt.NDArray[Any], layout: str, scale: float) -> Pixels:
    """Return a block of stored images as uint8 or float32 in [0, 1], NCHW."""
    if layout == "NHWC":
        block = block.transpose(0, 3, 1, 2)
    if block.dtype == np.uint8:
        return block
    # In float16 the division would cost digits.
    return (block.astype(np.promote_types(block.dtype, np.float32)) / scale).astype(np.float32)


@dataclass(frozen=True)
class Hdf5Source:
    """Images in an HDF5 file, read when asked for."""

    images: Any
    layout: str
    scale: float

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        n, a, b, c = self.images.shape
        return (n, a, b, c) if self.layout == "NCHW" else (n, c, a, b)

    def read(self, indices: npt.NDArray[np.int64]) -> Pixels:
        """Return the images at `indices`, in that order.

        Raises:
            UnreadableData: the file is damaged there.
        """
        path = Path(self.images.file.filename)
        try:
            block = self._read_rows(indices)
        except OSError as error:
            raise UnreadableData(f"{show_path(path)}: the file is damaged, images cannot be read ({error})") from error
        return _to_pixels(block, self.layout, self.scale)

    def _read_rows(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        first, last = int(indices.min()), int(indices.max())
        if last - first < 4 * len(indices):
            # One run of rows is far faster to read than single ones.
            rows: npt.NDArray[Any] = self.images[first : last + 1]
            return rows if len(rows) == len(indices) and (np.diff(indices) == 1).all() else rows[indices - first]
        unique, inverse = np.unique(indices, return_inverse=True)
        picked: npt.NDArray[Any] = self.images[unique]
        return picked[inverse]


def write_hdf5(path: str | Path, dataset: Dataset, *, block: int = 1024) -> Path:
    """Write a data set in the contest's layout: `data` (N, C, H, W) uint8, `label` (N,); `true_label` where known."""
    positions = dataset.positions
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        images = file.create_dataset("data", (len(dataset), *dataset.image_shape), dtype=np.uint8)
        for start in range(0, len(positions), block):
            part = positions[start : start + block]
            images[start : start + len(part)] = to_uint8(dataset.source.read(part))
        if dataset.labels is not None:
            file["label"] = dataset.targets
        if dataset.true_targets is not None:
            file["true_label"] = dataset.true_targets
    return Path(path)


def to_uint8(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Return pixels (uint8, or float in [0, 1]) as uint8."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    return np.rint(np.clip(pixels.astype(np.float32), 0, 1) * 255).astype(np.uint8)
