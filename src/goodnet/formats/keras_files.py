"""Keras files as their bytes are: what is checked is what Keras gets to see.

A model file is hostile until shown otherwise. Its first bytes say whether it is HDF5 or a zip archive,
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
from goodnet.formats.declared_sizes import require_held
from goodnet.formats.first_bytes import HDF5, ZIP, kind_of
from goodnet.formats.hdf5_files import require_own_content
from goodnet.formats.json_texts import read_json
from goodnet.formats.keras_code import refuse_code, refuse_foreign_parts, refuse_many_layers
from goodnet.formats.keras_configs import in_keras_3
from goodnet.formats.keras_operations import mark_operations
from goodnet.formats.keras_tensorflow import without_tensorflow
from goodnet.formats.shown_paths import show_path
from goodnet.formats.zip_archives import unpacked_size

#: The endings by which Keras knows its files.
KERAS_ENDINGS = (".h5", ".hdf5", ".keras")
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
        require_own_content(file, show_path(path), path.stat().st_size, UnreadableModel)
        if "model_config" not in file.attrs:
            raise UnreadableModel(
                f"{path}: the file holds weights alone, no architecture; say which network they belong to, "
                "e.g. --architecture deepid"
            )
        version = _text(file.attrs.get("keras_version", ""))
        config = mark_operations(_read_config(_text(file.attrs["model_config"]), path))
        ours.attrs["model_config"] = _checked(config, version, path)
        file.copy("model_weights", ours)


def _copy_zip(path: Path, copy: Path) -> None:
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as ours:
        require_held(show_path(path), unpacked_size(archive), path.stat().st_size, UnreadableModel)
        version = _text(read_json(archive.read(_METADATA)).get("keras_version", ""))
        ours.writestr(_CONFIG, _checked(_read_config(archive.read(_CONFIG).decode(), path), version, path))
        weights = archive.read(_WEIGHTS)
        with h5py.File(io.BytesIO(weights), "r") as file:
            require_own_content(file, show_path(path), path.stat().st_size, UnreadableModel)
        ours.writestr(_WEIGHTS, weights)


def _read_config(text: str, path: Path) -> Any:
    """Return a configuration as it is written, if it names no more objects than a network has."""
    refuse_many_layers(path, text)
    return read_json(text)


def _checked(config: Any, version: str, path: Path) -> str:
    """Return a configuration that runs no code, in the words of Keras 3."""
    config = without_tensorflow(config)
    refuse_code(path, config)
    # How the model was trained is not read.
    config.pop("compile_config", None)
    refuse_foreign_parts(path, config)
    return json.dumps(in_keras_3(config, version, path))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
