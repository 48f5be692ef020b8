"""Data that is brought to what a network takes: the size of its pictures, its numbers of classes, its names for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnreadableData
from goodnet.core.reading import Reading
from goodnet.core.resizing import USUAL, Fitting, Resizing
from goodnet.formats.data import read_data
from goodnet.formats.images import ImageFiles, fit_arrays


class TakesImages(Protocol):
    """A network, or what stands for one: it takes images of one shape (C, H, W)."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""

    @property
    def resizing(self) -> str | None:
        """How pictures of other sizes are brought to it, a text of `Resizing.read`; None: nobody says."""


def fit_pictures(network: TakesImages, dataset: Dataset | None, path: Path, reading: Reading = Reading()) -> Dataset:
    """Return the data in the size and colours that a network takes.

    Arrays keep their colours, and their size too if neither `reading` nor the network says how to resize.

    Args:
        network: its `resizing` says how pictures of another size are brought to its own.
        dataset: the data as it was read, None where its pictures are of several sizes.
        path: where the data lies; pictures that do not fit are read again from there.
        reading: its `resize` goes before what the network says; `strict` refuses where a picture cannot be read.

    Raises:
        InputError: it cannot be read.
    """
    shape = network.image_shape
    if dataset is not None and dataset.image_shape == shape:
        return dataset
    said = reading.resize or network.resizing
    fitting = Fitting(shape[1:], Resizing.read(said or USUAL))
    if dataset is None or isinstance(dataset.source, ImageFiles):
        alike = dataset is not None and dataset.image_shape[1:] == shape[1:]
        found = read_data(path, shape[0], None if alike else fitting, strict=reading.strict)
        return found if alike else _note(found.in_memory(), fitting, said)
    if said is None or dataset.image_shape[1:] == shape[1:]:
        return dataset
    return _note(fit_arrays(dataset, fitting), fitting, said)


def _note(data: Dataset, fitting: Fitting, said: str | None) -> Dataset:
    why = "" if said else "; nobody says how the network's own were, --resize does"
    return replace(data, notes=(*data.notes, f"pictures are brought to {fitting}{why}"))


def fit_labels(classifier: Classifier, data: Dataset) -> Dataset:
    """Return data whose labels are the network's numbers: by its names of classes, and from 0 on where they begin with 1.

    Raises:
        UnreadableData: some of the data's names are the network's, and others are not.
    """
    if data.labels is None:
        return data
    if classifier.class_names and data.class_names and not all(name.isdecimal() for name in data.class_names if name):
        return _by_name(classifier.class_names, data)
    if data.class_names is None and data.targets.min() >= 1 and data.targets.max() == classifier.classes:
        note = f"the labels are 1 to {classifier.classes}: they are taken for the classes 0 to {classifier.classes - 1}"
        return replace(data, labels=data.labels - 1, notes=(*data.notes, note), canonical=False)
    return data


def _by_name(names: Sequence[str], data: Dataset) -> Dataset:
    numbers = {_plain(name): number for number, name in enumerate(names)}
    present = set(data.targets.tolist())
    own = [name for number, name in enumerate(data.class_names or ()) if name and number in present]
    unknown = [name for name in own if _plain(name) not in numbers]
    if len(unknown) == len(own):
        note = f"the network's classes have other names ({', '.join(names[:3])}, ...): the data's are numbered in order of name"
        return replace(data, notes=(*data.notes, note))
    if unknown:
        known = next(name for name in own if name not in unknown)
        shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise UnreadableData(
            f"{data.name}: class '{unknown[0]}' is not a class of the network, but '{known}' is; rename it to one of the "
            f"network's classes: {shown}"
        )
    places = np.array([numbers.get(_plain(name), -1) for name in data.class_names or ()], np.int64)
    truth = None if data.true_labels is None else places[data.true_labels]
    return replace(data, labels=places[data.labels], true_labels=truth, class_names=tuple(names), canonical=False)


def _plain(name: str) -> str:
    """Return a name as people write it in different ways: `n01440764`, `Golden_Retriever`, `golden retriever`."""
    return re.sub(r"[\W_]+", " ", name).strip().casefold()
