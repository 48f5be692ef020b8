"""Keras files as their bytes are: what is checked is what Keras gets to see.

A model file from a stranger is hostile until shown otherwise. Its first bytes say whether it is HDF5 or a zip archive,
whatever its name; its configuration is read before Keras sees it, and Lambda layers, custom code and references to other
files are refused. Keras then opens a copy: of the checked configuration and of the weights, and of nothing else.
"""

from __future__ import annotations

import io
import json
import lzma
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from goodnet.core.errors import UnreadableModel
from goodnet.core.one_line import one_line
from goodnet.formats.first_bytes import HDF5, ZIP, kind_of
from goodnet.formats.keras_configs import in_keras_3

#: The endings by which Keras knows its files.
KERAS_ENDINGS = (".h5", ".hdf5", ".keras")
#: A `.keras` file is not compressed by Keras; one that unpacks to more than this many times its size is a bomb.
_MOST_UNPACKING = 100
_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
#: What h5py, zipfile, json and the walk through a configuration raise on bytes that are no Keras model.
_DAMAGE = (
    OSError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    RuntimeError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


def ending_to_write(path: Path) -> str:
    """Return the ending with which a Keras model is written back: its own if Keras knows it, else its content's.

    Raises:
        UnreadableModel: the file is neither HDF5 nor a zip archive.
    """
    content = _ending_of_content(path)
    return path.suffix.lower() if path.suffix.lower() in KERAS_ENDINGS else content


@contextmanager
def copy_for_keras(path: Path) -> Iterator[Path]:
    """Give a copy of a whole Keras model that Keras 3 can open: checked, and in the words of Keras 3.

    Raises:
        UnreadableModel: the file is damaged, of another kind, holds weights alone, refers to other files, or carries code.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"model{_ending_of_content(path)}"
        try:
            if copy.suffix == ".h5":
                _copy_hdf5(path, copy)
            else:
                _copy_zip(path, copy)
        except _DAMAGE as error:
            raise UnreadableModel(
                f"{path}: expected a Keras model (.h5 or .keras), but the file is damaged or of another kind; "
                f"save it again with model.save ({one_line(str(error))})"
            ) from error
        yield copy


def _ending_of_content(path: Path) -> str:
    kind = kind_of(path)
    if kind not in (HDF5, ZIP):
        raise UnreadableModel(
            f"{path}: expected a Keras model (.h5 or .keras), but the file is {kind}; save it again with model.save"
        )
    return ".h5" if kind == HDF5 else ".keras"


def _copy_hdf5(path: Path, copy: Path) -> None:
    with h5py.File(path, "r") as file, h5py.File(copy, "w") as ours:
        refuse_links(file, path)
        if "model_config" not in file.attrs:
            raise UnreadableModel(
                f"{path}: the file holds weights alone, no architecture; say which network they belong to, "
                "e.g. --architecture deepid"
            )
        version = _text(file.attrs.get("keras_version", ""))
        ours.attrs["model_config"] = _checked(_text(file.attrs["model_config"]), version, path)
        file.copy("model_weights", ours)


def _copy_zip(path: Path, copy: Path) -> None:
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as ours:
        unpacked = sum(item.file_size for item in archive.infolist())
        if unpacked > _MOST_UNPACKING * max(path.stat().st_size, 1 << 20):
            raise UnreadableModel(f"{path}: refused, it unpacks to {unpacked >> 20} MiB, far more than its size")
        version = _text(json.loads(archive.read(_METADATA)).get("keras_version", ""))
        ours.writestr(_CONFIG, _checked(archive.read(_CONFIG).decode(), version, path))
        weights = archive.read(_WEIGHTS)
        with h5py.File(io.BytesIO(weights), "r") as file:
            refuse_links(file, path)
        ours.writestr(_WEIGHTS, weights)


def _checked(text: str, version: str, path: Path) -> str:
    """Return a configuration that runs no code, in the words of Keras 3."""
    config = json.loads(text)
    refuse_code(path, config)
    return json.dumps(in_keras_3(config, version, path))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def holds_weights_alone(file: h5py.File) -> bool:
    """Whether a file holds layers' weights and no architecture."""
    return "model_config" not in file.attrs and ("layer_names" in file.attrs or is_keras_3(file))


def is_keras_3(file: h5py.File) -> bool:
    """Whether a file of weights has the layout of Keras 3."""
    local = isinstance(file.get("layers", getlink=True), h5py.HardLink)
    return local and isinstance(file["layers"], h5py.Group)


def refuse_links(group: h5py.Group, path: Path) -> None:
    """Refuse an HDF5 file of which any part lies in another file.

    Raises:
        UnreadableModel: there is an external link, external storage or a virtual data set.
    """
    for name in group:
        link = group.get(name, getlink=True)
        item = None if isinstance(link, h5py.ExternalLink) else group.get(name)
        if item is None or (isinstance(item, h5py.Dataset) and (item.external or item.is_virtual)):
            raise UnreadableModel(f"{path}: refused, '{name}' points to another file; save the model as one file")
        if isinstance(item, h5py.Group) and isinstance(link, h5py.HardLink):
            refuse_links(item, path)


def refuse_code(path: Path, config: Any) -> None:
    """Refuse a model whose configuration would run code of its author.

    Raises:
        UnreadableModel: there is a Lambda layer, or a class from outside Keras.
    """
    if isinstance(config, list):
        for item in config:
            refuse_code(path, item)
    if not isinstance(config, dict):
        return
    kind, module = config.get("class_name"), config.get("module")
    if kind in ("Lambda", "__lambda__"):
        raise UnreadableModel(f"{path}: refused, the model has a Lambda layer, which is code that runs on loading")
    registered = config.get("registered_name")
    foreign = isinstance(module, str) and module.split(".")[0] not in ("keras", "builtins")
    if foreign or (isinstance(registered, str) and ">" in registered):
        raise UnreadableModel(f"{path}: refused, the model needs code from outside Keras ('{registered or module}')")
    for item in config.values():
        refuse_code(path, item)
