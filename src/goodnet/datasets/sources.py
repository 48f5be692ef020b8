"""Training, validation and test images from one word or path: what an attack, a zoo and a bench start from.

==========================  ==================================================================================
word                        data
==========================  ==================================================================================
`faces:IDENTITIESxIMAGES`   rendered faces, so many training images of each; 9 more to validate, 10 to test
`digits`, `digits:SIZE`     scikit-learn's digits, scaled to SIZE pixels (16)
`cifar10:FOLDER`            the CIFAR-10 python archive
`mnist:FOLDER`              MNIST's idx files
`gtsrb:FOLDER`              the German traffic signs as published
a path                      .h5, .npz, a folder of class folders; a folder with *train.* and *test.* in it
==========================  ==================================================================================

The validation images are the defender's: clean, and never trained on. Where the source has none, they are a tenth of
its training images; where it has no test images, these are a fifth of all.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from goodnet.core.dataset import Dataset
from goodnet.core.errors import InvalidOption, UnreadableData
from goodnet.datasets.digits import read_digits
from goodnet.datasets.face_source import as_dataset
from goodnet.datasets.faces import render_faces
from goodnet.formats.data import read_data
from goodnet.formats.layouts import read_cifar10, read_gtsrb, read_mnist

#: Images of each rendered person for the defender and for the test; the contest has 9 and 10.
FACE_VALIDATION, FACE_TEST = 9, 10
_MOST_FACES = 5_000_000

_LAYOUTS: dict[str, Callable[[str | Path], tuple[Dataset, Dataset]]] = {
    "cifar10": read_cifar10,
    "mnist": read_mnist,
    "gtsrb": read_gtsrb,
}


@dataclass(frozen=True)
class Parts:
    """One source in three parts that share no image: to train on, for the defender, to test on."""

    train: Dataset
    validation: Dataset
    test: Dataset


def read_parts(source: str | Path, *, test: str | Path | None = None, seed: int = 0) -> Parts:
    """Read a source, see the table above.

    Args:
        source: the word or path.
        test: data to test on, where `source` is a path to training data alone.
        seed: of rendered people, and of the split where parts have to be split off.

    Raises:
        UnreadableData: the data cannot be read.
        InvalidOption: a word is misspelt, or `test` is given for a source that has its own.
    """
    word, _, rest = str(source).partition(":")
    if word in ("faces", "digits", *_LAYOUTS) and test is not None:
        raise InvalidOption(f"'{source}' has test images of its own; leave --test out")
    if word == "faces":
        return _face_parts(*parse_faces(str(source)), seed)
    if word == "digits" and not Path(source).exists():
        return _split(read_digits(_digit_size(rest)), None, seed)
    if word in _LAYOUTS and rest:
        train, held_out = _LAYOUTS[word](rest)
        return _split(train, held_out, seed)
    train_path, test_path = find_files(Path(source), None if test is None else Path(test))
    train = read_data(train_path)
    return _split(train, None if test_path is None else read_data(test_path, train.image_shape[0]), seed)


def parse_faces(word: str) -> tuple[int, int]:
    """Return (identities, images of each) of `faces:50x40`.

    Raises:
        InvalidOption: the word has another form, or asks for fewer than 2 identities or too many images.
    """
    match = re.fullmatch(r"faces:(\d+)x(\d+)", word)
    identities, images = (int(match[1]), int(match[2])) if match else (0, 0)
    if identities < 2 or images < 1 or identities * images > _MOST_FACES:
        raise InvalidOption(
            f"expected faces:IDENTITIESxIMAGES, e.g. faces:50x40, with at least 2 identities and at most "
            f"{_MOST_FACES:,} images, got '{word}'"
        )
    return identities, images


def _face_parts(identities: int, images: int, seed: int) -> Parts:
    def render(count: int, first: int, name: str) -> Dataset:
        return as_dataset(render_faces(identities, count, seed=seed, first_image=first), f"{identities} faces, {name}")

    return Parts(
        render(images, 0, "train"),
        render(FACE_VALIDATION, images, "validation"),
        render(FACE_TEST, images + FACE_VALIDATION, "test"),
    )


def _digit_size(text: str) -> int:
    if text and not text.isdecimal():
        raise InvalidOption(f"expected digits or digits:SIZE, e.g. digits:28, got 'digits:{text}'")
    return int(text) if text else 16


def _split(train: Dataset, test: Dataset | None, seed: int) -> Parts:
    if test is None:
        test, train = train.split(0.2, seed=seed)
    elif test.image_shape != train.image_shape:
        raise UnreadableData(
            f"{test.name}: expected images {train.image_shape} (C, H, W) as in {train.name}, got {test.image_shape}"
        )
    validation, train = train.split(0.1, seed=seed)
    return Parts(train, validation, test)


def find_files(path: Path, test: Path | None = None) -> tuple[Path, Path | None]:
    """Return the training data and the test data (None: there is none) at a path.

    Raises:
        UnreadableData: there is nothing at the path, or a folder holds several training sets.
    """
    if not path.exists():
        words = ", ".join(("faces:50x40", "digits", *(f"{name}:FOLDER" for name in _LAYOUTS)))
        raise UnreadableData(f"{path}: no such file or folder; expected data, or one of the words {words}")
    if test is not None or not path.is_dir():
        return path, test
    found = {part: sorted(path.glob(f"*{part}.*")) + sorted(path.glob(part)) for part in ("train", "test")}
    if not found["train"]:
        return path, None
    if len(found["train"]) > 1 or len(found["test"]) > 1:
        raise UnreadableData(
            f"{path}: expected one training and one test set, found several; name the files themselves"
        )
    return found["train"][0], next(iter(found["test"]), None)


def source_files(source: str | Path, test: str | Path | None = None) -> tuple[Path, ...]:
    """Return the files and folders that a source is read from; none for what is made on the spot."""
    word, _, rest = str(source).partition(":")
    if word == "faces" or (word == "digits" and not Path(source).exists()):
        return ()
    if word in _LAYOUTS and rest:
        return (Path(rest),)
    train, held_out = find_files(Path(source), None if test is None else Path(test))
    return (train,) if held_out is None else (train, held_out)
