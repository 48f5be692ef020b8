"""HDF5 and `.npz` data sets, and arrays in memory -> `Dataset`.

The contest's layout: `data` (N, C, H, W) or (N, H, W, C), `label` (N,); other keys are found by shape. uint8 is 0..255;
floats are taken as [0, 1] or 0..255, whichever holds all of them, or as normalised in a usual way. HDF5 is read a batch at
a time.
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
from goodnet.formats.array_keys import Keys, find_keys
from goodnet.formats.files import require_file
from goodnet.formats.first_bytes import HDF5, ZIP, kind_of
from goodnet.formats.hdf5_files import new_hdf5, require_own_content
from goodnet.formats.npy_members import read_npz
from goodnet.formats.pixel_scales import Scale, find_scale
from goodnet.formats.shown_paths import show_path

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
        keys = find_keys(shown, {key: array.shape or () for key, array in arrays.items()})
        images = arrays[keys.images]
        layout = _layout(shown, images.shape or ())
        scale = find_scale(shown, images, layout)
        return _label(path, Hdf5Source(images, layout, scale), keys, arrays, scale.note)
    except InputError:
        file.close()
        raise
    except Exception as error:  # h5py fails in many ways on damaged files
        file.close()
        raise UnreadableData(f"{shown}: expected an HDF5 file, but it is damaged ({describe_error(error)})") from error


def _read_npz(path: Path) -> Dataset:
    return label_arrays(path, read_npz(path))


def label_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> Dataset:
    """Return arrays in memory, by key, as images with the labels that lie beside them.

    Raises:
        UnreadableData: none can be images, or the numbers are no pixels or no labels.
        WrongShape: images and labels are not equally many.
    """
    shown = show_path(path)
    keys = find_keys(shown, {key: array.shape for key, array in arrays.items()})
    pixels, notes = check_pixels(shown, arrays[keys.images])
    return _label(path, ArraySource(pixels), keys, arrays, notes)


def _label(
    path: Path, source: ImageSource, keys: Keys, arrays: Mapping[str, Any], notes: tuple[str, ...] = ()
) -> Dataset:
    """Return images with the labels that lie beside them."""
    labels, truth = (
        None if key is None else check_labels(show_path(path), np.asarray(arrays[key][()]))
        for key in (keys.labels, keys.true_labels)
    )
    return Dataset(source, labels, show_path(path.name), true_labels=truth, notes=(*keys.notes, *notes))


def check_labels(name: str, labels: npt.NDArray[Any]) -> Labels:
    """Return labels (N,) or (N, 1), of any number type, or one-hot (N, classes), as int64.

    Raises:
        UnreadableData: they are not whole numbers from 0 on.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if _is_one_hot(labels):
        labels = labels.argmax(axis=1)
    if labels.ndim != 1 or labels.dtype.kind not in "iuf":
        raise UnreadableData(
            f"{name}: expected labels (N,) of whole numbers, got shape {labels.shape} of {labels.dtype}; "
            "give one class for each image"
        )
    if labels.dtype.kind == "f" and not (np.isfinite(labels).all() and np.array_equal(labels, np.round(labels))):
        raise UnreadableData(
            f"{name}: expected labels that are whole numbers, got fractions, NaN or infinity; number the classes from 0"
        )
    if len(labels) and labels.min() < 0:
        raise UnreadableData(f"{name}: expected labels of 0 or more, got {labels.min():.0f}; number the classes from 0")
    if len(labels) and labels.max() > _LARGEST_LABEL:
        raise UnreadableData(
            f"{name}: expected labels up to {_LARGEST_LABEL:,}, got {labels.max():.0f}; number the classes from 0"
        )
    return labels.astype(np.int64)


def _is_one_hot(labels: npt.NDArray[Any]) -> bool:
    """Whether each row has one 1 and is 0 else."""
    return (
        labels.ndim == 2
        and labels.dtype.kind in "iufb"
        and bool(np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all())
    )


def check_pixels(name: str, images: npt.NDArray[Any]) -> tuple[Pixels, tuple[str, ...]]:
    """Return images (N, C, H, W), (N, H, W, C) or (N, H, W), of any number type, as NCHW, and notes on how they were read.

    Pixels come out as uint8, or float32 in [0, 1].

    Raises:
        UnreadableData: there is none, or pixels are NaN, neither in 0..1 nor in 0..255 nor normalised, or not numbers.
        WrongShape: the array has another number of axes, or neither layout's number of channels.
    """
    layout = _layout(name, images.shape)
    scale = find_scale(name, images, layout)
    return scale.to_pixels(images, layout), scale.note


def _layout(name: str, shape: Sequence[int]) -> str:
    if len(shape) not in (3, 4):
        raise WrongShape(
            f"{name}: expected images (N, C, H, W) or (N, H, W, C), got shape {tuple(shape)}; reshape the array"
        )
    if shape[0] == 0:
        raise UnreadableData(f"{name}: expected at least one image, got an empty set; give data with images")
    if len(shape) == 3:
        return "NHW"
    if shape[1] in _CHANNELS:
        return "NCHW"
    if shape[3] in _CHANNELS:
        return "NHWC"
    raise WrongShape(
        f"{name}: expected images with 1, 3 or 4 channels, got shape {tuple(shape)}; convert them to grey, RGB or RGBA"
    )


@dataclass(frozen=True)
class Hdf5Source:
    """Images in an HDF5 file, read when asked for."""

    images: Any
    layout: str
    scale: Scale

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        if self.layout == "NHW":
            n, height, width = self.images.shape
            return n, 1, height, width
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
            raise UnreadableData(
                f"{show_path(path)}: the file is damaged, images cannot be read ({error}); fetch or write the file again"
            ) from error
        return self.scale.to_pixels(block, self.layout)

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
    with new_hdf5(path) as file:
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
