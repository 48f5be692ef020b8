"""`predict`: what a GoodNet says of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from goodnet.api.loading import DataLike, load_dataset, networks_of, open_goodnet, refuse_device
from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnreadableData
from goodnet.core.resizing import USUAL, Fitting, Resizing
from goodnet.devices import choose_device, on_device
from goodnet.formats.first_bytes import HDF5, ZIP, kind_of
from goodnet.formats.images import read_pictures
from goodnet.formats.shown_paths import show_path
from goodnet.pair.goodnet import GoodNet
from goodnet.pair.onnx import OnnxGoodNet


def predict(
    goodnet: GoodNet | OnnxGoodNet | str | Path,
    images: Sequence[str | Path] | DataLike,
    *,
    confine: bool = True,
    device: str = "auto",
) -> list[int]:
    """Return the class of every image: N ("one more than the last") where the GoodNet says backdoored.

    Args:
        goodnet: a `GoodNet`, the folder that holds one, or the ONNX file that `export` wrote of one.
        images: picture files, or a data set, or live data, see `load_dataset`.
        confine: let a process of its own, which can reach nothing, read the bytes of model files (docs/threat-model.md).
        device: auto (a GPU where there is one), cpu or cuda; an ONNX file runs on the CPU.

    Raises:
        UnreadableModel: there is no GoodNet in the folder or file.
        UnreadableData: a picture cannot be read.
        WrongShape: live images have another size than the network takes.
        InvalidOption: the GoodNet was made without the input range of its networks, or there is no such device for it.
    """
    place = choose_device(device)
    guard = open_goodnet(goodnet, confine=confine) if isinstance(goodnet, str | Path) else goodnet
    refuse_device(device, guard)
    with on_device(place, *networks_of(guard)):
        return [int(label) for label in guard.answers(_read(images, guard)).goodnet]


def _read(images: Sequence[str | Path] | DataLike, guard: GoodNet | OnnxGoodNet) -> Dataset:
    if isinstance(images, list | tuple) and all(isinstance(item, str | Path) for item in images):
        return _read_pictures([Path(item) for item in images], guard)
    return load_dataset(images, channels=guard.image_shape[0], name="images")  # type: ignore[arg-type]


def _read_pictures(paths: Sequence[Path], guard: GoodNet | OnnxGoodNet) -> Dataset:
    for path in paths:
        if path.is_dir() or (path.is_file() and kind_of(path) in (HDF5, ZIP)):
            raise UnreadableData(
                f"{show_path(path)}: expected pictures, one path for each, got a data set; to measure a whole set: "
                f"goodnet evaluate GOODNET --clean {show_path(path)}"
            )
    said = guard.original.resizing if isinstance(guard, GoodNet) else None
    fitting = Fitting(guard.image_shape[1:], Resizing.read(said or USUAL))
    return read_pictures(paths, guard.image_shape[0], fitting=fitting)
