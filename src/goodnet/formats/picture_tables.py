"""Tables of pictures -> `Dataset`: CSV and JSON lines of path and label, parquet of a Hugging Face data set.

A table is untrusted: it cannot name pictures outside its folder.
"""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from goodnet.core.dataset import Dataset, Labels
from goodnet.core.errors import InvalidOption, UnreadableData
from goodnet.core.one_line import one_line
from goodnet.core.resizing import Fitting
from goodnet.formats.files import require_file
from goodnet.formats.images import Stored, gather, leave_out_unreadable, look_at
from goodnet.formats.shown_paths import show_path

#: Columns of paths and of labels, in lower case, the likeliest first.
_PATHS = (
    "file_name",
    "filename",
    "path",
    "file",
    "filepath",
    "file_path",
    "image",
    "image_path",
    "img",
    "image_id",
    "name",
    "id",
)
_LABELS = ("label", "labels", "class", "class_id", "label_id", "target", "category", "y", "fine_label", "class_name")
#: Tables that lie in a folder of pictures.
TABLES = ("metadata.csv", "metadata.jsonl", "labels.csv", "labels.jsonl")
#: No table of pictures is larger.
_LARGEST = 256 << 20
_PARQUET_SPLITS = ("validation", "valid", "val", "test", "train")

Row = tuple[str, Any]


def read_table(path: Path, channels: int | None, fitting: Fitting | None, *, strict: bool) -> Dataset:
    """Read the pictures that a CSV file, JSON lines or a JSON array names. Labels are numbers, or names in sorted order.

    Raises:
        UnreadableData: the table is damaged, has no such columns, or names pictures outside its folder.
        MixedSizes: the pictures are not of one size, and no `fitting` brings them to one.
    """
    rows = _read_rows(require_file(path))
    if not rows:
        raise UnreadableData(
            f"{show_path(path)}: expected rows of path and label, the table is empty; add a row for each picture"
        )
    paths = [_inside(path, name) for name, _ in rows]
    given = dict(zip(paths, (label for _, label in rows), strict=True))
    readable, notes = leave_out_unreadable(path.parent, list(given), strict=strict)
    labels, names = as_labels(path, [given[item] for item in readable])
    source = gather(list(readable), list(readable.values()), channels, fitting)
    return Dataset(source, labels, show_path(path.name), class_names=names, notes=tuple(notes))


def _read_rows(path: Path) -> list[Row]:
    if path.stat().st_size > _LARGEST:
        raise UnreadableData(
            f"{show_path(path)}: expected a table of at most {_LARGEST >> 20} MiB, it is larger; split it into several tables"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = [line for line in text.splitlines() if line.strip()]
        if lines and lines[0].lstrip()[0] in "[{":
            records = json.loads(text) if lines[0].lstrip()[0] == "[" else [json.loads(line) for line in lines]
            return _pick(path, records)
        delimiter = max(",;\t", key=lines[0].count) if lines else ","
        cells = list(csv.reader(lines, delimiter=delimiter))
    except (ValueError, RecursionError, csv.Error, OSError) as error:
        raise UnreadableData(
            f"{show_path(path)}: expected a table of pictures (CSV or JSON lines), but it is damaged or of another kind"
        ) from error
    if cells and len(cells[0]) > 1 and _is_picture(path, cells[0][0]):
        return [(row[0], row[1]) for row in cells if len(row) > 1]
    return _pick(path, [dict(zip(cells[0], row, strict=False)) for row in cells[1:]])


def _is_picture(path: Path, cell: str) -> bool:
    """Whether a table's first cell names a picture: then it has no line of headings."""
    return bool(cell) and "\0" not in cell and len(cell) < 1000 and (path.parent / cell).is_file()


def _pick(path: Path, records: Sequence[Any]) -> list[Row]:
    if not records or not all(isinstance(record, Mapping) for record in records):
        raise UnreadableData(
            f"{show_path(path)}: expected an HDF5 file, an .npz file, .npy, pictures, or a table of them with headings for path "
            "and label, got text; give the data as one of these"
        )
    heads = {str(key).strip().lower(): key for key in records[0]}
    file = next((heads[name] for name in _PATHS if name in heads), None)
    label = next((heads[name] for name in _LABELS if name in heads), None)
    if file is None or label is None:
        found = ", ".join(show_path(str(key)) for key in list(heads)[:8])
        raise UnreadableData(
            f"{show_path(path)}: expected a column of paths ({_PATHS[0]}, ...) and one of labels ({_LABELS[0]}, ...), "
            f"found {found}; rename them"
        )
    return [(str(record.get(file, "")), record.get(label)) for record in records]


def _inside(table: Path, name: str) -> Path:
    """Return a picture's path, which must lie in the table's folder."""
    path, folder = table.parent / name.replace("\\", "/"), table.parent.resolve()
    if "\0" in name or not path.resolve().is_relative_to(folder):
        raise UnreadableData(
            f"{show_path(table)}: refused, '{show_path(name)[:80]}' lies outside the table's folder; put the table beside its "
            "pictures and name them from there"
        )
    return path


def as_labels(path: Path, values: Sequence[Any]) -> tuple[Labels, tuple[str, ...] | None]:
    """Return labels that are numbers, or the places of names in order of name with these names.

    Raises:
        UnreadableData: some are missing.
    """
    words = ["" if value is None else str(value).strip() for value in values]
    if not all(words):
        raise UnreadableData(
            f"{show_path(path)}: expected a label for each picture, some have none; add the missing labels"
        )
    if all(word.isdecimal() and len(word) < 10 for word in words):
        return np.array([int(word) for word in words], np.int64), None
    names = sorted(set(words))
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers[word] for word in words], np.int64), tuple(one_line(name)[:200] for name in names)


@dataclass(frozen=True)
class _Columns:
    images: str
    labels: str | None


def find_parquet(folder: Path) -> list[Path]:
    """Return the parquet files of one split of a data set's folder: what a network was not trained on first; else none."""
    files = sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")])
    for split in _PARQUET_SPLITS:
        of_split = [item for item in files if item.name.startswith(split)]
        if of_split:
            return of_split
    return files


def read_parquet(paths: Sequence[Path], channels: int | None, fitting: Fitting | None, *, strict: bool) -> Dataset:
    """Read a Hugging Face data set of pictures: a column of encoded pictures, one of labels, class names in its notes.

    Raises:
        UnreadableData: a file is damaged, or has no column of pictures.
        MixedSizes: the pictures are not of one size, and no `fitting` brings them to one.
        InvalidOption: the extra goodnet[hf] is not installed.
    """
    pictures: list[Stored] = []
    labels: list[Any] = []
    names: tuple[str, ...] | None = None
    for path in paths:
        table, columns = _open_parquet(path)
        names = names or _feature_names(table, columns.labels)
        pictures += [_encoded(path, cell) for cell in table.column(columns.images).to_pylist()]
        labels += table.column(columns.labels).to_pylist() if columns.labels else []
    seen, kept = [], []
    for place, picture in enumerate(pictures):
        try:
            seen.append(look_at(picture))
            kept.append(place)
        except UnreadableData:
            if strict:
                raise
    if 2 * len(kept) <= len(pictures):
        raise UnreadableData(
            f"{show_path(paths[0])}: {len(pictures) - len(kept):,} of {len(pictures):,} pictures cannot be read; fetch the data "
            "set again"
        )
    missing = len(pictures) - len(kept)
    notes = (f"left out, cannot be read: {missing:,} pictures",) if missing else ()
    numbers, own = as_labels(paths[0], [labels[place] for place in kept]) if labels else (None, None)
    source = gather([pictures[place] for place in kept], seen, channels, fitting)
    return Dataset(source, numbers, show_path(paths[0].name), class_names=names or own, notes=notes)


def _open_parquet(path: Path) -> tuple[Any, _Columns]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise InvalidOption("parquet files need pyarrow, which is not installed: pip install 'goodnet[hf]'") from error
    try:
        table = parquet.read_table(path)
    except Exception as error:  # a decoder may fail in any way on hostile bytes
        raise UnreadableData(
            f"{show_path(path)}: expected a parquet file, but it is damaged or of another kind"
        ) from error
    words = {name.lower(): name for name in table.column_names}
    images = next((words[name] for name in ("image", "img", "images", "picture") if name in words), None)
    if images is None:
        raise UnreadableData(
            f"{show_path(path)}: expected a column 'image' of pictures, found {', '.join(map(show_path, table.column_names[:8]))}"
        )
    return table, _Columns(images, next((words[name] for name in _LABELS if name in words), None))


def _encoded(path: Path, cell: Any) -> bytes:
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(content, bytes):
        raise UnreadableData(f"{show_path(path)}: expected pictures inside the file, found paths; give their folder")
    return content


def _feature_names(table: Any, column: str | None) -> tuple[str, ...] | None:
    """Return the class names that Hugging Face's data sets keep in a file's notes."""
    try:
        notes = json.loads((table.schema.metadata or {})[b"huggingface"])
        names = notes["info"]["features"][column]["names"]
        return tuple(one_line(str(name))[:200] for name in (names.values() if isinstance(names, dict) else names))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
