"""What a verb is given, files or live objects -> networks and data."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias, cast

from goodnet.api.fitting import TakesImages, fit_labels, fit_pictures
from goodnet.architectures.libraries import is_library
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import InputError, InvalidOption, MixedSizes, UnknownImageSize
from goodnet.core.given import refuse_given
from goodnet.core.preprocessing import PLAIN_RANGES, RangeOption
from goodnet.core.reading import Reading
from goodnet.execution import Execution
from goodnet.formats.data import read_data
from goodnet.formats.file_kinds import HEAD, is_onnx_goodnet, kind_by_beginning
from goodnet.formats.first_bytes import HDF5_BEGINNING
from goodnet.formats.images import ImageFiles, other_order
from goodnet.formats.live_data import LiveData, as_dataset
from goodnet.formats.live_networks import ModelLike, as_classifier
from goodnet.formats.network_folders import is_network_folder
from goodnet.formats.networks import ModelFile, build_network, read_model_file, says_its_size
from goodnet.formats.one_reading import ZIP_BEGINNINGS
from goodnet.formats.shown_paths import show_path
from goodnet.inference.class_order import choose_class_order
from goodnet.inference.input_range import RangeChoice, choose_input_range, choose_unlabelled_range
from goodnet.pair.goodnet import GoodNet, is_goodnet
from goodnet.pair.onnx import OnnxGoodNet

#: What stands for data wherever it is asked for: a file, a folder, or a live object.
DataLike: TypeAlias = Dataset | LiveData | str | Path

_log = logging.getLogger(__name__)


def load_classifier(model: ModelLike, *, reading: Reading = Reading()) -> Classifier:
    """Return a model file or a live model as a `Classifier`; a `Classifier` comes back as it is.

    Args:
        model: a file of Keras (HDF5, `.keras`), of torch.save, or safetensors, whatever its ending; or a `keras.Model` or
            `torch.nn.Module`, which stays as it is, whatever is done with the classifier. `Classifier.to_model()` gives
            one of its kind back.
        reading: how to read it; a module needs its `image_shape`. Of a checkpoint of several networks, what `save` writes
            holds only the one under `key`.

    Raises:
        UnreadableModel: the model cannot be read, is hostile, does not fit the architecture, or holds several networks.
        InvalidOption: a module came without `image_shape`, there is no such key, or `strict` was given, which is for data.
    """
    refuse_given(reading, "load_classifier", "strict")
    classifier = open_network(model, reading)
    return classifier if reading.input_range == "auto" else classifier.with_input_range(reading.input_range)


def open_network(model: ModelLike, reading: Reading) -> Classifier:
    """Return the network as `load_classifier` does, in whatever input range it has.

    Raises:
        InputError: it cannot be read.
    """
    classifier = as_classifier(model, reading.architecture, reading.image_shape, reading.key, confine=reading.confine)
    return classifier if reading.resize is None else classifier.with_resizing(reading.resize)


def open_alike(model: ModelLike, original: Classifier, *, confine: bool) -> Classifier:
    """Return a repaired network, read as `original` was.

    Raises:
        InputError: it cannot be read.
    """
    return open_network(model, Reading(original.architecture, original.image_shape, confine=confine))


def load_dataset(data: DataLike, *, channels: int | None = None, name: str = "data") -> Dataset:
    """Return a data file, a folder or live data as a `Dataset`; a `Dataset` comes back as it is.

    Args:
        data: `.h5`, `.npz`, a folder of class folders, a picture; or images or `(images, labels)` as arrays or
            tensors, a PyTorch `Dataset` or `DataLoader`, which is read once, into memory. Pixels are uint8, or floats
            in 0..1 or 0..255, never normalised: that is the network's, see `input_range`.
        channels: 1 reads pictures as grey, 3 as RGB, None as grey if all of them are.
        name: what messages and tables call live data; files go by their own name.

    Raises:
        UnreadableData: the data cannot be read.
        WrongShape: live images are not four-dimensional.
    """
    if isinstance(data, Dataset):
        return data
    return read_data(data, channels) if isinstance(data, str | Path) else as_dataset(data, name)


def fit_data(network: TakesImages, dataset: Dataset | None, data: DataLike, reading: Reading = Reading()) -> Dataset:
    """Return what `read_stored` returned for `data` in the size and colours that the network takes, see `fit_pictures`.

    Raises:
        InputError: it cannot be read.
    """
    if isinstance(data, str | Path):
        return fit_pictures(network, dataset, Path(data), reading)
    return cast(Dataset, dataset)  # Only files hold pictures of several sizes.


def read_stored(data: DataLike, name: str, reading: Reading = Reading()) -> Dataset | None:
    """Return data as it is stored, None where its pictures are of several sizes.

    Raises:
        InputError: it cannot be read.
    """
    if not isinstance(data, str | Path):
        return load_dataset(data, name=name)
    try:
        return read_data(data, strict=reading.strict)
    except MixedSizes:
        return None


def load_both(model: ModelLike, clean: DataLike, reading: Reading = Reading()) -> tuple[Classifier, Dataset]:
    """Return network and clean data, the network in whatever input range it has; see `load`.

    Raises:
        InputError: one of them cannot be read.
    """
    stored = read_stored(clean, "clean", reading)
    shape = reading.image_shape or _shape_for(model, reading.architecture, stored)
    classifier = open_network(model, replace(reading, image_shape=shape))
    data = fit_labels(classifier, fit_data(classifier, stored, clean, reading))
    data = choose_class_order(classifier, data, other_order(data))
    tell(*classifier.notes, *data.notes)
    return classifier, data


def _shape_for(model: ModelLike, architecture: str | None, data: Dataset | None) -> tuple[int, int, int] | None:
    """Return the shape of the images that a network is to be read for, None where it says that itself.

    Photographs of one size are still photographs: a network of a library is read for the size that it was published for.
    """
    if data is None or (isinstance(model, str | Path) and says_its_size(Path(model))):
        return None
    height, width = data.image_shape[1:]
    published = architecture is not None and is_library(architecture) and isinstance(data.source, ImageFiles)
    return None if published and height != width else data.image_shape


def tell(*notes: str) -> None:
    """Log what the reading of networks and data has to say; it reaches standard error where nobody has set up logging."""
    for note in notes:
        _log.warning("goodnet: note: %s", show_path(note))


def holds_goodnet(model: object) -> bool:
    """Whether a verb was given the place of a GoodNet, a folder or an ONNX file, and not that of a network."""
    if not isinstance(model, str | Path):
        return False
    path = Path(model)
    return (path.is_dir() and not is_network_folder(path)) or _is_onnx(path)


def _is_onnx(path: Path, *, guarded: bool = True) -> bool:
    """Whether a file is a GoodNet in ONNX, or without `guarded` any network in ONNX.

    Of a file that is missing or of no known kind the ending says what was meant.
    """
    try:
        head = b""
        if path.is_file():
            with path.open("rb") as stream:
                head = stream.read(HEAD)
    except OSError:
        return False
    kind = kind_by_beginning(head)
    known = kind is not None or head.startswith((HDF5_BEGINNING, *ZIP_BEGINNINGS))
    return (kind == "onnx" and (not guarded or is_onnx_goodnet(path))) or (not known and path.suffix.lower() == ".onnx")


def networks_of(model: object) -> tuple[Classifier, ...]:
    """Return the networks that a verb was given as one object: itself, or the two of a GoodNet; none of a file."""
    if isinstance(model, GoodNet):
        return model.original, model.repaired
    return (model,) if isinstance(model, Classifier) else ()


def refuse_device(where: Execution, model: object) -> None:
    """Refuse a GPU for a GoodNet in an ONNX file.

    Raises:
        InvalidOption: one was asked for.
    """
    if isinstance(model, OnnxGoodNet) and where.device not in ("auto", "cpu"):
        raise InvalidOption(
            f"{model.path}: an ONNX file runs on the CPU here, got device '{where.device}'; leave it out, or give the "
            "GoodNet's folder"
        )


def open_goodnet(goodnet: GoodNet | OnnxGoodNet | str | Path, reading: Reading) -> GoodNet | OnnxGoodNet:
    """Return the GoodNet in a folder, or in the ONNX file that `export` wrote of one; an object comes back as it is.

    Raises:
        UnreadableModel: there is none.
        InvalidOption: there is an image shape or a key, or, unless it is a folder, an architecture.
    """
    refuse_given(reading, "a GoodNet", "image_shape", "key")
    if isinstance(goodnet, str | Path):
        # A network alone in ONNX goes the same way: the reader says what it lacks.
        if Path(goodnet).is_dir() or not _is_onnx(Path(goodnet), guarded=False):
            return GoodNet.load(goodnet, architecture=reading.architecture, confine=reading.confine)
        goodnet = OnnxGoodNet(goodnet, confine=reading.confine)
    refuse_given(reading, "a GoodNet that is no folder", "architecture")
    return goodnet


def open_path(path: str | Path, *, reading: Reading = Reading()) -> Classifier | Dataset:
    """Return what lies at `path`: a network (of a GoodNet the original) or a data set.

    Raises:
        InputError: there is nothing that can be read.
        InvalidOption: an input range, a way to resize or `strict` was given.
    """
    refuse_given(reading, "inspect", "input_range", "resize", "strict")
    path = Path(path)
    if path.is_dir() and is_goodnet(path):
        refuse_given(reading, "a GoodNet", "image_shape", "key")
        return GoodNet.load(path, architecture=reading.architecture, confine=reading.confine).original
    if path.is_dir() and is_network_folder(path):
        return open_network(path, reading)
    file = read_model_file(path, confine=reading.confine) if path.is_file() else None
    if file is None or not file.is_network:
        return read_data(path)
    try:
        return build_network(file, reading.architecture, reading.image_shape, reading.key)
    except UnknownImageSize as error:
        return _open_at_a_usual_size(file, reading, error)


def _open_at_a_usual_size(file: ModelFile, reading: Reading, error: UnknownImageSize) -> Classifier:
    """Return a network that is only to be looked at, for images of a usual size that it takes, and a note that says so.

    Raises:
        UnknownImageSize: it takes none of them.
    """
    for shape in _USUAL_SIZES:
        with suppress(InputError):
            classifier = build_network(file, reading.architecture, shape, reading.key)
            size = ",".join(map(str, shape))
            classifier.notes += (f"the image size is not known: shown for {size}; give it with --image-shape C,H,W",)
            return classifier
    raise error


#: Of common data sets: what a network is looked at with where nobody says what it takes.
_USUAL_SIZES = ((3, 32, 32), (1, 28, 28), (3, 224, 224), (1, 32, 32), (3, 64, 64), (3, 28, 28))


@dataclass(frozen=True)
class Loaded:
    """A network and the clean data that it is read with, in an input range that fits."""

    classifier: Classifier
    clean: Dataset
    reason: str

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes of reading both files: what was left out, and how labels and pixels were read."""
        unusual = self.classifier.input_range not in PLAIN_RANGES
        pixels = (f"pixels are fed as {self.classifier.input_range}, {self.reason}",) if unusual else ()
        return (*self.classifier.notes, *pixels, *self.clean.notes)


def load(model: ModelLike, clean: DataLike, *, reading: Reading = Reading()) -> Loaded:
    """Return the network and the clean data; the network is set to the input range that fits the data.

    Pictures of another size are brought to the network's. A network that has a normalisation keeps it; see
    `choose_input_range` and, without labels, `choose_unlabelled_range`.

    Raises:
        InputError: one of them cannot be read, or they do not fit each other.
    """
    classifier, data = load_both(model, clean, reading)
    choice = choose_range(classifier, data, reading.input_range)
    return Loaded(choice.classifier, data, choice.reason)


def choose_range(classifier: Classifier, data: Dataset, option: RangeOption) -> RangeChoice:
    """Return the network in the range given, in that which it has, or in one that fits the images.

    Raises:
        InputError: labels or images do not tell, see `choose_input_range`.
    """
    if option == "auto" and classifier.input_range not in PLAIN_RANGES:
        return RangeChoice(classifier, "as the network has it")
    choose = choose_unlabelled_range if data.labels is None else choose_input_range
    return choose(classifier, data, option)
