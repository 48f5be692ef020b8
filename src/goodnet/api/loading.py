"""What a verb is given, files or live objects -> networks and data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from goodnet.algorithms.input_range import RangeOption, choose_input_range
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.formats.data import read_data
from goodnet.formats.networks import is_network, read_network
from goodnet.guards.disagreement import GoodNet, is_goodnet

ModelLike = Classifier | str | Path
DataLike = Dataset | str | Path
Shape = tuple[int, int, int]


def load_classifier(
    model: ModelLike, *, architecture: str | None = None, image_shape: Shape | None = None
) -> Classifier:
    """Return a model file as a `Classifier`; a `Classifier` comes back as it is.

    Args:
        model: `.h5`, `.keras`, `.pt`, `.pth`, `.safetensors`.
        architecture: for files that hold weights alone, a name or `package.module:factory`.
        image_shape: (C, H, W), for architectures that do not know theirs.

    Raises:
        UnreadableModel: the file cannot be read, is hostile, or does not fit the architecture.
    """
    return model if isinstance(model, Classifier) else read_network(model, architecture, image_shape)


def load_dataset(data: DataLike, *, channels: int = 3) -> Dataset:
    """Return a data file or folder as a `Dataset`; a `Dataset` comes back as it is.

    Args:
        data: `.h5`, `.npz`, a folder of class folders, a picture.
        channels: 1 reads pictures as grey, 3 as RGB.

    Raises:
        UnreadableData: the data cannot be read.
    """
    return data if isinstance(data, Dataset) else read_data(data, channels)


def open_path(
    path: str | Path, *, architecture: str | None = None, image_shape: Shape | None = None
) -> Classifier | Dataset:
    """Return what lies at `path`: a network (of a GoodNet the original) or a data set.

    Raises:
        InputError: there is nothing that can be read.
    """
    path = Path(path)
    if path.is_dir() and is_goodnet(path):
        return GoodNet.load(path, architecture=architecture).original
    if _holds_network(path):
        return read_network(path, architecture, image_shape)
    return read_data(path)


def _holds_network(path: Path) -> bool:
    try:
        return path.is_file() and is_network(path)
    except OSError:
        return False  # Damaged HDF5: reading it as data says so.


@dataclass(frozen=True)
class Loaded:
    """A network and the clean data that it is read with, in an input range that fits."""

    classifier: Classifier
    clean: Dataset
    reason: str


def load(
    model: ModelLike,
    clean: DataLike,
    *,
    architecture: str | None = None,
    image_shape: Shape | None = None,
    input_range: RangeOption = "auto",
) -> Loaded:
    """Return network and clean data, the network in the input range in which it answers them.

    Raises:
        InputError: one of them cannot be read, or they do not fit each other.
    """
    data = load_dataset(clean)
    classifier = load_classifier(model, architecture=architecture, image_shape=image_shape or data.image_shape)
    if classifier.image_shape[0] != data.image_shape[0] and not isinstance(clean, Dataset):
        data = load_dataset(clean, channels=classifier.image_shape[0])
    choice = choose_input_range(classifier, data, input_range)
    return Loaded(choice.classifier, data, choice.reason)


def named_paths(**inputs: object) -> dict[str, str | Path]:
    """Return those of the inputs that are paths, by their role: what a run's record hashes."""
    return {role: value for role, value in inputs.items() if isinstance(value, str | Path)}
