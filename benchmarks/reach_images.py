"""Kinds of images of `reach.py`: the same pictures as people keep them, each read back with its label."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import fx, nn

from goodnet.api.fitting import fit_labels, fit_pictures
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import MixedSizes
from goodnet.formats.data import read_data
from reach_corpus import smooth_images, unit

NAMES = ("cat", "dog", "fox", "owl")
Pixels = npt.NDArray[np.uint8]
#: Pictures whose mean shows their class, so that a wrong label shows.
LABELS = np.arange(24) % 4


@dataclass(frozen=True)
class ImageKind:
    """How images lie on disk; `exact` says whether pixels must come back as they were, else about so."""

    name: str
    write: Callable[[Path, Pixels], Path]
    exact: bool = True
    labelled: bool = True
    refused: tuple[str, ...] | None = None


def pictures() -> Pixels:
    """Return 24 pictures (24, 3, 32, 32) of four classes that have their extremes in all channels."""
    images = smooth_images((3, 32, 32)) // 4 + (LABELS * 48).astype(np.uint8)[:, None, None, None]
    images[:, :, 0, 0], images[:, :, 0, 1] = 0, 255
    return images


def network() -> Classifier:
    """Return a network of four classes with names for them, for pictures of 32 x 32."""
    graph = fx.Graph()
    graph.output(graph.call_module("fc", (graph.call_method("flatten", (graph.placeholder("images"), 1)),)))
    modules = nn.Module()
    modules.add_module("fc", nn.Linear(3 * 32 * 32, 4))
    return Classifier(fx.GraphModule(modules, graph), image_shape=(3, 32, 32), class_names=NAMES)


def read(path: Path) -> Dataset:
    """Read data as every verb does."""
    try:
        data: Dataset | None = read_data(path)
    except MixedSizes:
        data = None
    classifier = network()
    return fit_labels(classifier, fit_pictures(classifier, data, path))


def _folders(
    folder: Path, images: Pixels, inside: str = "", change: Callable[[Image.Image, int], Image.Image] | None = None
) -> Path:
    for number, (image, label) in enumerate(zip(images, LABELS, strict=True)):
        place = folder / "pictures" / inside / NAMES[label]
        place.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(image.transpose(1, 2, 0))
        (change(picture, number) if change else picture).save(place / f"{number:02d}.png")
    return folder / "pictures"


def _splits(folder: Path, images: Pixels) -> Path:
    _folders(folder, 255 - images, "train")
    return _folders(folder, images, "val")


def _with_rubbish(folder: Path, images: Pixels) -> Path:
    path = _folders(folder, images)
    (path / ".DS_Store").write_bytes(b"x")
    (path / "cat" / "broken.png").write_bytes(b"\x89PNG broken")
    (path / "cat" / "notes.txt").write_text("x")
    (path / "empty").mkdir()
    return path


def _table(folder: Path, images: Pixels, how: str) -> Path:
    """A table beside the pictures: with headings, without, with names, as JSON lines."""
    rows = []
    for number, (image, label) in enumerate(zip(images, LABELS, strict=True)):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{number:02d}.png")
        rows.append((f"{number:02d}.png", NAMES[label] if how in ("names", "folder") else int(label)))
    if how in ("lines", "folder"):
        path = folder / ("metadata.jsonl" if how == "folder" else "all.jsonl")
        path.write_text("\n".join(json.dumps({"file_name": name, "label": label}) for name, label in rows))
        return folder if how == "folder" else path
    path = folder / "all.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows if how == "bare" else [("path", "class"), *rows])
    return path


def _arrays(folder: Path, stored: Pixels, /, **arrays: Any) -> Path:
    np.savez(folder / "set.npz", **{n: value(stored) if callable(value) else value for n, value in arrays.items()})
    return folder / "set.npz"


def _hdf5(folder: Path, images: Pixels, keys: tuple[str, str]) -> Path:
    with h5py.File(folder / "set.h5", "w") as file:
        file[keys[0]], file[keys[1]] = images.transpose(0, 2, 3, 1), LABELS
    return folder / "set.h5"


def _pair(folder: Path, images: Pixels, names: tuple[str, str], whole: bool) -> Path:
    np.save(folder / f"{names[0]}.npy", images)
    np.save(folder / f"{names[1]}.npy", LABELS)
    return folder if whole else folder / f"{names[0]}.npy"


def _parquet(folder: Path, images: Pixels, whole: bool) -> Path:
    import pyarrow
    from pyarrow import parquet

    cells = []
    for image in images:
        stream = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(stream, "PNG")
        cells.append({"bytes": stream.getvalue(), "path": "a.png"})
    features = {"label": {"names": list(NAMES), "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    table = pyarrow.table({"image": cells, "label": LABELS})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    (folder / "data").mkdir(exist_ok=True)
    path = folder / "data" / "validation-00000-of-00001.parquet"
    parquet.write_table(table, path)
    return folder if whole else path


def _normalised(images: Pixels, mean: tuple[float, ...], std: tuple[float, ...]) -> npt.NDArray[np.float32]:
    columns = [np.array(values, np.float32).reshape(1, -1, 1, 1) for values in (mean, std)]
    return (unit(images) - columns[0]) / columns[1]


def _grown(picture: Image.Image, number: int) -> Image.Image:
    return picture.resize((64 + 2 * number, 64 + 3 * number), Image.Resampling.BILINEAR)


def _gif(picture: Image.Image, number: int) -> Image.Image:
    """Palette, RGBA and plain pictures in turn."""
    return picture.convert("RGBA") if number % 2 else picture


def image_kinds() -> list[ImageKind]:
    """Return the rows of images."""
    as_lists = {"images": lambda images: images}
    return [
        ImageKind("class folders named by words", _folders),
        ImageKind("class folders of pictures of any size", partial(_folders, change=_grown), exact=False),
        ImageKind("class folders with system files, an empty class and a broken picture", _with_rubbish),
        ImageKind("class folders, RGBA and RGB", partial(_folders, change=_gif)),
        ImageKind("folder of train and val", _splits),
        ImageKind("CSV of path and class", partial(_table, how="headed")),
        ImageKind("CSV without headings", partial(_table, how="bare")),
        ImageKind("CSV of path and class name", partial(_table, how="names")),
        ImageKind("JSON lines", partial(_table, how="lines")),
        ImageKind("folder with metadata.jsonl (Hugging Face)", partial(_table, how="folder")),
        ImageKind("parquet of a Hugging Face data set", partial(_parquet, whole=False)),
        ImageKind("folder of a Hugging Face data set", partial(_parquet, whole=True)),
        ImageKind("pair images.npy, labels.npy", partial(_pair, names=("images", "labels"), whole=False)),
        ImageKind("folder of x_test.npy, y_test.npy", partial(_pair, names=("x_test", "y_test"), whole=True)),
        ImageKind("HDF5, keys data and label", partial(_hdf5, keys=("data", "label"))),
        ImageKind("HDF5, other keys", partial(_hdf5, keys=("pixels", "wanted"))),
        ImageKind(
            "npz of x_train, y_train, x_test, y_test",
            partial(_arrays, x_train=lambda i: 255 - i, y_train=LABELS[::-1], x_test=lambda i: i, y_test=LABELS),
        ),
        ImageKind("one-hot labels", partial(_arrays, **as_lists, labels=np.eye(4)[LABELS])),
        ImageKind("labels from 1", partial(_arrays, **as_lists, labels=LABELS + 1)),
        ImageKind("floats in 0..1", partial(_arrays, images=unit, labels=LABELS)),
        ImageKind(
            "floats in -1..1",
            partial(_arrays, images=partial(_normalised, mean=(0.5,) * 3, std=(0.5,) * 3), labels=LABELS),
        ),
        ImageKind(
            "floats normalised as for ImageNet",
            partial(
                _arrays,
                images=partial(_normalised, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
                labels=LABELS,
            ),
        ),
        ImageKind("greyscale images without a channel axis", partial(_arrays, images=lambda i: i[:, 0], labels=LABELS)),
    ]


def examine_images(kind: ImageKind, folder: Path) -> dict[str, Any]:
    """Return whether pictures and labels come back, and what was said."""
    images = pictures()
    data = read(kind.write(folder, images))
    pixels = data.images()
    expected = torch.from_numpy(unit(images))
    if pixels.shape[1] == 1:
        expected = expected[:, :1]
    order = np.argsort(data.targets, kind="stable")
    wanted = np.argsort(LABELS, kind="stable")
    same = pixels.shape == expected.shape and len(order) == len(wanted)
    difference = float((pixels[order] - expected[wanted]).abs().mean()) if same else np.inf
    labels = same and bool((data.targets[order] == LABELS[wanted]).all())
    return {
        "name": kind.name,
        "right": labels and difference < (1e-6 if kind.exact else 0.02),
        "said": "; ".join(data.notes),
    }
