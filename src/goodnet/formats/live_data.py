"""Arrays, tensors and PyTorch's data sets and loaders -> `Dataset`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor
from torch.utils import data as torch_data

from goodnet.core.dataset import ArraySource, Dataset
from goodnet.core.errors import UnreadableData, WrongShape
from goodnet.formats.arrays import check_labels, check_pixels
from goodnet.formats.images import GREY, picture_pixels

Array = npt.NDArray[Any]

#: Images, or (images, labels): arrays (N, C, H, W) or (N, H, W, C) and (N,), or what yields them.
LiveData: TypeAlias = (
    Array
    | Tensor
    | tuple[Array | Tensor, npt.ArrayLike | Tensor]
    | torch_data.Dataset[Any]
    | torch_data.DataLoader[Any]
)


def as_dataset(data: LiveData, name: str = "data") -> Dataset:
    """Return live data as a `Dataset`; loaders and data sets of PyTorch are read once, into memory.

    Args:
        data: images alone or `(images, labels)`, numpy arrays or torch tensors, NHWC or NCHW; a PyTorch `Dataset` of
            images or (image, label); a `DataLoader` of batches of the same. Pixels are uint8, or floats that all
            lie in 0..1 or in 0..255, or show by their bounds how they were normalised.
        name: what messages and tables call it.

    Raises:
        UnreadableData: pixels are normalised in no usual way, NaN or no numbers, labels are no classes, or there are no images.
        WrongShape: images are not four-dimensional or not of one size, or there is not one label per image.
    """
    images, labels = _read(data, name)
    if images.ndim == 3:
        raise WrongShape(
            f"{name}: expected images (N, C, H, W) or (N, H, W, C), got shape {images.shape}; give grey images an axis for "
            "their channel, images[:, None], and a single image one for the batch, image[None]"
        )
    pixels, notes = check_pixels(name, images)
    return Dataset(ArraySource(pixels), None if labels is None else check_labels(name, labels), name, notes=notes)


def _read(data: LiveData, name: str) -> tuple[Array, Array | None]:
    """Return all images, as they are stored, and their labels, None where there are none."""
    if isinstance(data, torch_data.DataLoader):
        return _join((_split(batch, name) for batch in data), name)
    if isinstance(data, torch_data.Dataset):
        return _join((_as_batch(*_split(item, name)) for item in _items(data)), name)
    if not isinstance(data, tuple) and not hasattr(data, "__array__"):
        raise UnreadableData(
            f"{name}: expected a path, an array or tensor of images, (images, labels), or a torch Dataset or DataLoader, "
            f"got {type(data).__module__}.{type(data).__qualname__}; turn it into arrays"
        )
    return _split(data, name)


def _items(data: torch_data.Dataset[Any]) -> Iterable[Any]:
    if isinstance(data, torch_data.IterableDataset):
        return data
    return (data[index] for index in range(len(data)))  # type: ignore[arg-type]


def _split(item: Any, name: str) -> tuple[Array, Array | None]:
    """Return images and labels of what a loader, a data set or the user gives as one."""
    parts = item if isinstance(item, tuple | list) else (item,)
    if not 1 <= len(parts) <= 2 or isinstance(item, dict):
        found = f"a {type(item).__name__} of {len(item)}"
        raise UnreadableData(f"{name}: expected images or (images, labels), got {found}; leave out all else")
    return _to_array(parts[0]), _to_array(parts[1]) if len(parts) == 2 else None


def _as_batch(image: Array, label: Array | None) -> tuple[Array, Array | None]:
    """Return one image (C, H, W), (H, W, C) or grey (H, W), and its label, as a batch of one."""
    return (image[None, None] if image.ndim == 2 else image[None]), None if label is None else label[None]


def _to_array(value: Any) -> Array:
    if isinstance(value, Tensor):
        tensor = value.detach().cpu()
        # numpy does not know bfloat16.
        array: Array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        return array
    if isinstance(value, Image.Image):
        return picture_pixels(value, 1 if value.mode in GREY else 3)
    return np.asarray(value)


def _join(batches: Iterator[tuple[Array, Array | None]], name: str) -> tuple[Array, Array | None]:
    """Read all batches, once: a loader that shuffles gives another order each time."""
    images, labels = [], []
    for some, theirs in batches:
        images.append(some)
        if theirs is not None:
            labels.append(theirs)
    if not images:
        raise UnreadableData(f"{name}: expected at least one image, got an empty set")
    try:
        return np.concatenate(images), np.concatenate(labels) if labels else None
    except ValueError as error:
        sizes = sorted({image.shape[1:] for image in images})
        raise WrongShape(f"{name}: expected images of one size, got {sizes[0]} and {sizes[-1]}; scale them") from error
