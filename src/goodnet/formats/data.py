"""One door for every data set: the path decides who reads it."""

from __future__ import annotations

from pathlib import Path

from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnreadableData
from goodnet.formats.arrays import read_arrays
from goodnet.formats.images import SUFFIXES, read_class_folders, read_pictures

#: File name endings of data sets.
ARRAYS = (".h5", ".hdf5", ".npz")


def read_data(path: str | Path, channels: int | None = None) -> Dataset:
    """Read a data set: `.h5`, `.npz`, a folder of class folders, or one picture (`channels` for pictures).

    Raises:
        UnreadableData: the path does not exist, or is of an unknown kind, or cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        return read_class_folders(path, channels)
    if path.exists() and path.suffix.lower() in SUFFIXES:
        return read_pictures([path], channels, name=path.name)
    if path.exists() and path.suffix.lower() not in ARRAYS:
        raise UnreadableData(
            f"{path}: unknown kind of data '{path.suffix}'; "
            f"expected {', '.join(ARRAYS)}, a folder of class folders, or a picture"
        )
    return read_arrays(path)
