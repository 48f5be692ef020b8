"""One door for every data set: what a file holds decides who reads it, not its name."""

from __future__ import annotations

from pathlib import Path

from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnreadableData
from goodnet.core.resizing import Fitting
from goodnet.formats.arrays import read_arrays
from goodnet.formats.files import require_file
from goodnet.formats.first_bytes import NUMPY, PARQUET, PICTURE, TEXT, kind_of
from goodnet.formats.images import read_class_folders, read_pictures
from goodnet.formats.numpy_pairs import find_pair, read_pair
from goodnet.formats.one_reading import require_one_reading
from goodnet.formats.picture_tables import TABLES, find_parquet, read_parquet, read_table
from goodnet.formats.shown_paths import show_path


def read_data(
    path: str | Path, channels: int | None = None, fitting: Fitting | None = None, *, strict: bool = False
) -> Dataset:
    """Read a data set: HDF5, `.npz`, a pair of `.npy` files, a table of pictures, a folder of class folders, one picture.

    Args:
        path: the file or folder.
        channels: of pictures: 1 reads grey, 3 RGB, None grey if all of them are.
        fitting: brings pictures to one size; None leaves them as they are.
        strict: refuses where a picture cannot be read; else such are left out and named.

    Raises:
        UnreadableData: the path does not exist, or is of an unknown kind, or cannot be read.
        WrongShape: the images are not of one size, or there is not one label per image.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path, channels, fitting, strict=strict)
    require_one_reading(require_file(path), UnreadableData)
    kind = kind_of(path)
    if kind == PICTURE:
        return read_pictures([path], channels, name=show_path(path.name), fitting=fitting)
    if kind == TEXT:
        return read_table(path, channels, fitting, strict=strict)
    if kind == PARQUET:
        return read_parquet([path], channels, fitting, strict=strict)
    if kind == NUMPY:
        return read_pair(path)
    return read_arrays(path)


def _read_folder(folder: Path, channels: int | None, fitting: Fitting | None, *, strict: bool) -> Dataset:
    table = next((folder / name for name in TABLES if (folder / name).is_file()), None)
    if table is not None:
        return read_table(table, channels, fitting, strict=strict)
    pair, parquet = find_pair(folder), find_parquet(folder)
    if pair is not None:
        return read_pair(pair)
    if parquet:
        return read_parquet(parquet, channels, fitting, strict=strict)
    return read_class_folders(folder, channels, fitting, strict=strict)
