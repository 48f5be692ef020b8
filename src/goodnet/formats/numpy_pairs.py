"""Images in one `.npy` file, their labels in another beside it -> `Dataset`."""

from __future__ import annotations

from pathlib import Path

from goodnet.core.dataset import Dataset
from goodnet.formats.arrays import label_arrays
from goodnet.formats.npy_members import read_npy

#: What the two files of a pair are called: the word for images, and the one for labels in its place.
_WORDS = (
    ("images", "labels"),
    ("image", "label"),
    ("data", "labels"),
    ("data", "label"),
    ("x", "y"),
    ("X", "Y"),
    ("X", "y"),
)
#: Names of images that no network was trained on come first.
_FIRST = ("val", "test")


def find_pair(folder: Path) -> Path | None:
    """Return the images of a pair in a folder, None where there is none."""
    files = sorted(folder.glob("*.npy"))
    found = [item for item in files if find_labels(item) is not None]
    return min(found, key=lambda item: not any(word in item.stem.lower() for word in _FIRST), default=None)


def find_labels(images: Path) -> Path | None:
    """Return the file of labels that belongs to one of images, None where there is none."""
    for word, other in _WORDS:
        place = images.stem.find(word)
        if place >= 0:
            name = f"{images.stem[:place]}{other}{images.stem[place + len(word) :]}.npy"
            if name != images.name and (images.parent / name).is_file():
                return images.parent / name
    return None


def read_pair(path: Path) -> Dataset:
    """Read images (N, C, H, W), (N, H, W, C) or (N, H, W), and the labels that lie in a file beside them, if one does.

    Raises:
        UnreadableData: a file is damaged, or holds objects.
        WrongShape: they do not fit one another.
    """
    labels = find_labels(path)
    arrays = {"data": read_npy(path)} | ({} if labels is None else {"label": read_npy(labels)})
    return label_arrays(path, arrays)
