"""`predict`: what a GoodNet says of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from goodnet.api.loading import (
    DataLike,
    fit_data,
    networks_of,
    open_goodnet,
    read_stored,
    refuse_device,
)
from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnreadableData
from goodnet.core.given import refuse_given
from goodnet.core.reading import Reading
from goodnet.core.resizing import USUAL, Fitting, Resizing
from goodnet.devices import on_device
from goodnet.execution import Execution
from goodnet.formats.first_bytes import HDF5, ZIP, kind_of
from goodnet.formats.images import read_pictures
from goodnet.formats.shown_paths import show_path
from goodnet.pair.goodnet import GoodNet
from goodnet.pair.onnx import OnnxGoodNet


def predict(
    goodnet: GoodNet | OnnxGoodNet | str | Path,
    images: Sequence[str | Path] | DataLike,
    *,
    reading: Reading = Reading(),
    where: Execution = Execution(),
) -> list[int]:
    """Return the class of every image: N ("one more than the last") where the GoodNet says backdoored.

    Args:
        goodnet: a `GoodNet`, the folder that holds one, or the ONNX file that `export` wrote of one.
        images: picture files, or a data set, or live data, see `load_dataset`.
        reading: how to read GoodNet and pictures.
        where: the device alone; an ONNX file runs on the CPU.

    Raises:
        UnreadableModel: there is no GoodNet in the folder or file.
        UnreadableData: a picture cannot be read.
        WrongShape: live images have another size than the network takes.
        InvalidOption: the GoodNet was made without the input range of its networks, there is no such device for it, or a
            field was given that means nothing to a GoodNet.
    """
    refuse_given(where, "predict", "workers", "cluster", "budget")
    place = where.place()
    refuse_given(reading, "predict", "input_range")
    guard = open_goodnet(goodnet, reading)
    refuse_device(where, guard)
    with on_device(place, *networks_of(guard)):
        return [int(label) for label in guard.predict_all(_read(images, guard, reading)).goodnet]


def _read(images: Sequence[str | Path] | DataLike, guard: GoodNet | OnnxGoodNet, reading: Reading) -> Dataset:
    if isinstance(images, list | tuple) and all(isinstance(item, str | Path) for item in images):
        return _read_pictures([Path(item) for item in images], guard, reading)
    given = cast(DataLike, images)
    return fit_data(guard, read_stored(given, "images", reading), given, reading)


def _read_pictures(paths: Sequence[Path], guard: GoodNet | OnnxGoodNet, reading: Reading) -> Dataset:
    for path in paths:
        if path.is_dir() or (path.is_file() and kind_of(path) in (HDF5, ZIP)):
            raise UnreadableData(
                f"{show_path(path)}: expected pictures, one path for each, got a data set; to measure a whole set: "
                f"goodnet evaluate GOODNET --clean {show_path(path)}"
            )
    fitting = Fitting(guard.image_shape[1:], Resizing.read(reading.resize or guard.resizing or USUAL))
    return read_pictures(paths, guard.image_shape[0], fitting=fitting)
