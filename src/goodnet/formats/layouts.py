"""The field's standard sets in the layout in which they are published -> (train, test).

* CIFAR-10, "python version": `data_batch_1` to `data_batch_5`, `test_batch`, `batches.meta`; pickles of Python 2.
* MNIST: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-...`, each also as `.gz`.
* GTSRB: `Final_Training/Images/00000/GT-00000.csv` with `.ppm` pictures and the sign's box in each, and
  `Final_Test/Images` with `GT-final_test.csv`.

The files are the user's own; nothing is downloaded. They count as hostile: no pickle is executed
(`goodnet.formats.plain_pickles`), a table cannot name pictures outside its folder, sizes are checked before memory is
taken.

Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009; Y. LeCun, C. Cortes, C. J. C.
Burges, "The MNIST database of handwritten digits"; J. Stallkamp et al., "Man vs. computer", Neural Networks 32, 2012.
"""

from __future__ import annotations

import csv
import gzip
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from goodnet.core.dataset import ArraySource, Dataset, Labels
from goodnet.core.errors import InvalidOption, UnreadableData
from goodnet.formats.class_folders import find_folders
from goodnet.formats.declared_sizes import most_unpacked
from goodnet.formats.files import require_file
from goodnet.formats.images import read_image
from goodnet.formats.plain_pickles import bytes_as_text, read_plain_pickle
from goodnet.formats.shown_paths import show_path

Bytes = npt.NDArray[np.uint8]

_CIFAR_SHAPE = (3, 32, 32)
_CIFAR_TRAIN = tuple(f"data_batch_{index}" for index in range(1, 6))
#: Larger than any file of these sets by far: a file of that size is not one of them.
_MOST_BYTES = 1 << 30
#: How a gzip archive begins.
_GZIP = b"\x1f\x8b"
_IDX_KINDS = {"images": (b"\0\0\x08\x03", 3), "labels": (b"\0\0\x08\x01", 1)}
_GTSRB_COLUMNS = ("Filename", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2", "ClassId")


def read_cifar10(folder: str | Path) -> tuple[Dataset, Dataset]:
    """Read the CIFAR-10 python archive, unpacked: (train, test), images (3, 32, 32) uint8, with class names.

    `folder` holds the batches, or holds `cifar-10-batches-py`. Batches of the training set that are missing are an
    error.

    Raises:
        UnreadableData: a file is missing, damaged, or its pickle holds anything but arrays, lists, text and numbers.
    """
    folder = _inside(Path(folder), "cifar-10-batches-py")
    names = _class_names(folder / "batches.meta") if (folder / "batches.meta").exists() else None
    parts = [_read_cifar_batch(folder / name) for name in _CIFAR_TRAIN]
    train = np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])
    test = _read_cifar_batch(folder / "test_batch")
    return _dataset(*train, "CIFAR-10 train", names), _dataset(*test, "CIFAR-10 test", names)


def read_mnist(folder: str | Path) -> tuple[Dataset, Dataset]:
    """Read MNIST (or a set in its layout, such as Fashion-MNIST): (train, test), images (1, H, W) uint8.

    Raises:
        UnreadableData: a file is missing, damaged or cut short, or images and labels are not equally many.
    """
    folder = Path(folder)
    return _read_idx_pair(folder, "train", "MNIST train"), _read_idx_pair(folder, "t10k", "MNIST test")


def read_gtsrb(folder: str | Path, size: int = 32) -> tuple[Dataset, Dataset]:
    """Read the German traffic signs: (train, test), each sign cut out by its box and scaled to (3, size, size) uint8.

    `folder` holds `Final_Training` and `Final_Test`, or holds `GTSRB` which does. All pictures are read at once: about
    160 MB for the whole set at 32 pixels.

    Raises:
        UnreadableData: a table or picture is missing or damaged, or a box lies outside its picture.
        InvalidOption: size is below 1 or above 1,024.
    """
    if not 1 <= size <= 1024:
        raise InvalidOption(f"GTSRB: expected a size of 1 to 1024 pixels, got {size}")
    folder = _inside(Path(folder), "GTSRB")
    training = folder / "Final_Training" / "Images"
    classes = find_folders(training) if training.is_dir() else []
    if not classes:
        raise UnreadableData(
            f"{show_path(training)}: expected folders 00000, 00001, ... of traffic signs, found none; check the path"
        )
    tables = [(item / f"GT-{item.name}.csv", item) for item in classes]
    pictures = folder / "Final_Test" / "Images"
    places = (pictures, folder, folder / "Final_Test", folder / "GT")
    truth = next((place / "GT-final_test.csv" for place in places if (place / "GT-final_test.csv").exists()), None)
    return (
        _dataset(*_read_signs(tables, size), "GTSRB train"),
        _dataset(*_read_signs([(truth or pictures / "GT-final_test.csv", pictures)], size), "GTSRB test"),
    )


def _inside(folder: Path, name: str) -> Path:
    """Return the folder `name` in `folder` where there is one, else `folder`."""
    return folder / name if (folder / name).is_dir() else folder


def _dataset(images: Bytes, labels: Labels, name: str, class_names: tuple[str, ...] | None = None) -> Dataset:
    return Dataset(ArraySource(images), labels, name, class_names)


def _read_cifar_batch(path: Path) -> tuple[Bytes, Labels]:
    batch = read_plain_pickle(path)
    images, labels = batch.get("data"), batch.get("labels")
    pixels = int(np.prod(_CIFAR_SHAPE))
    if not isinstance(images, np.ndarray) or images.ndim != 2 or images.shape[1] != pixels:
        shape = getattr(images, "shape", None)
        raise UnreadableData(
            f"{show_path(path)}: expected 'data' of shape (N, {pixels}), got {shape or type(images).__name__}; fetch the data "
            "set again"
        )
    if not isinstance(labels, list) or len(labels) != len(images) or not all(_is_class(value, 10) for value in labels):
        raise UnreadableData(
            f"{show_path(path)}: expected 'labels', one of 0 to 9 for each of {len(images)} images; fetch the data set again"
        )
    return images.reshape(-1, *_CIFAR_SHAPE), np.array(labels, dtype=np.int64)


def _is_class(value: object, classes: int) -> bool:
    return isinstance(value, int) and 0 <= value < classes


def _class_names(path: Path) -> tuple[str, ...]:
    names = read_plain_pickle(path).get("label_names")
    if not isinstance(names, list) or len(names) != 10:
        raise UnreadableData(f"{show_path(path)}: expected 'label_names', a list of 10 names; fetch the data set again")
    return tuple(bytes_as_text(name) for name in names)


def _read_bytes(path: Path) -> bytes:
    """Return a file's bytes, unpacked where they are packed with gzip: browsers unpack files and keep the name.

    Raises:
        UnreadableData: it is damaged, or unpacks to more than any file of these sets.
    """
    most = min(_MOST_BYTES, most_unpacked(path.stat().st_size))
    try:
        with path.open("rb") as stream:
            packed = stream.read(len(_GZIP)) == _GZIP
            stream.seek(0)
            with gzip.open(stream) if packed else stream as unpacked:
                content: bytes = unpacked.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableData(
            f"{show_path(path)}: the file is damaged and cannot be unpacked ({error}); fetch the data set again"
        ) from error
    if len(content) > most:
        raise UnreadableData(
            f"{show_path(path)}: expected at most {most >> 20} MB, the file holds more and is refused; fetch the data set again"
        )
    return content


def _read_idx_pair(folder: Path, part: str, name: str) -> Dataset:
    images = _read_idx(_find_idx(folder, f"{part}-images", "idx3"), "images")
    path = _find_idx(folder, f"{part}-labels", "idx1")
    labels = _read_idx(path, "labels")
    if len(images) != len(labels):
        raise UnreadableData(
            f"{show_path(path)}: expected {len(images)} labels, one for each image, got {len(labels)}; fetch both files again"
        )
    return _dataset(images[:, None], labels.astype(np.int64), name)


def _find_idx(folder: Path, stem: str, kind: str) -> Path:
    names = [f"{stem}{mark}{kind}-ubyte{end}" for mark in "-." for end in ("", ".gz")]
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise UnreadableData(
        f"{show_path(folder)}: expected a file {names[0]} or {names[1]}, found neither; check the path"
    )


def _read_idx(path: Path, kind: str) -> Bytes:
    """Return the array in an idx file: four bytes of type and rank, sizes as big-endian int32, the values."""
    content = _read_bytes(require_file(path))
    magic, rank = _IDX_KINDS[kind]
    start = 4 + 4 * rank
    if content[:4] != magic or len(content) < start:
        raise UnreadableData(
            f"{show_path(path)}: expected an idx file of {kind} (uint8, {rank} sizes), but it is damaged or of another kind"
        )
    shape = struct.unpack(f">{rank}I", content[4:start])
    expected = int(np.prod(shape, dtype=object))
    if len(content) - start != expected:
        raise UnreadableData(
            f"{show_path(path)}: expected {expected} bytes of {kind} {shape}, got {len(content) - start}; the file is "
            "cut or damaged"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _read_signs(tables: Sequence[tuple[Path, Path]], size: int) -> tuple[Bytes, Labels]:
    """Read signs from tables and the folder of each table's pictures: images (N, 3, size, size), labels (N,)."""
    rows = [(table, folder, row) for table, folder in tables for row in _read_sign_table(table)]
    if not rows:
        raise UnreadableData(
            f"{show_path(tables[0][0])}: expected at least one traffic sign, the table is empty; fetch the data set again"
        )
    images = np.empty((len(rows), 3, size, size), np.uint8)
    labels = np.empty(len(rows), np.int64)
    for index, (table, folder, row) in enumerate(rows):
        name, *box, labels[index] = _check_sign(table, row)
        images[index] = _cut_sign(folder / name, box, size)
    return images, labels


def _read_sign_table(path: Path) -> list[dict[str, str]]:
    try:
        with require_file(path).open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream, delimiter=";"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnreadableData(
            f"{show_path(path)}: expected a table of traffic signs separated by ';', but the file is damaged"
        ) from error
    missing = [column for column in _GTSRB_COLUMNS if rows and column not in rows[0]]
    if missing:
        raise UnreadableData(
            f"{show_path(path)}: expected the columns {', '.join(_GTSRB_COLUMNS)} separated by ';', missing {', '.join(missing)}"
        )
    return rows


def _check_sign(table: Path, row: dict[str, str]) -> tuple[Any, ...]:
    """Return (file name, left, top, right, bottom, class) of a row; the box includes its last pixel."""
    name = row["Filename"] or ""
    if Path(name).name != name or "\\" in name:
        raise UnreadableData(
            f"{show_path(table)}: refused, '{show_path(name)}' is not the plain name of a file in the table's folder"
        )
    try:
        numbers = [int(row[column]) for column in _GTSRB_COLUMNS[1:]]
    except (TypeError, ValueError) as error:
        raise UnreadableData(
            f"{show_path(table)}: expected whole numbers for the box and the class of '{show_path(name)}', got {row}"
        ) from error
    if not 0 <= numbers[-1] < 43:
        raise UnreadableData(
            f"{show_path(table)}: expected a class of 0 to 42 for '{show_path(name)}', got {numbers[-1]}"
        )
    return (name, *numbers)


def _cut_sign(path: Path, box: Sequence[int], size: int) -> Bytes:
    """Cut a sign out of its picture and scale it to (3, size, size), bilinearly."""
    picture = read_image(path)
    left, top, right, bottom = box
    if not (0 <= left <= right < picture.shape[2] and 0 <= top <= bottom < picture.shape[1]):
        raise UnreadableData(
            f"{show_path(path)}: the box {tuple(box)} lies outside its picture of {picture.shape[2]} x "
            f"{picture.shape[1]} pixels; the table is damaged"
        )
    sign = Image.fromarray(picture[:, top : bottom + 1, left : right + 1].transpose(1, 2, 0))
    return np.asarray(sign.resize((size, size), Image.Resampling.BILINEAR), np.uint8).transpose(2, 0, 1)
