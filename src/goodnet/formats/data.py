"""One door for every data set: what a file holds decides who reads it, not its name."""

from __future__ import annotations

from pathlib import Path

from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnreadableData
from goodnet.formats.arrays import read_arrays
from goodnet.formats.files import require_file
from goodnet.formats.first_bytes import PICTURE, kind_of
from goodnet.formats.images import read_class_folders, read_pictures
from goodnet.formats.one_reading import require_one_reading
from goodnet.formats.shown_paths import show_path


def read_data(path: str | Path, channels: int | None = None) -> Dataset:
    """Read a data set: HDF5, `.npz`, a folder of class folders, or one picture (`channels` for pictures).

    Raises:
        UnreadableData: the path does not exist, or is of an unknown kind, or cannot be read.
        WrongShape: the images are not of one size, or there is not one label per image.
    """
    path = Path(path)
    if path.is_dir():
        return read_class_folders(path, channels)
    require_one_reading(require_file(path), UnreadableData)
    if kind_of(path) == PICTURE:
        return read_pictures([path], channels, name=show_path(path.name))
    return read_arrays(path)
