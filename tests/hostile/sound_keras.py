"""A small Keras model that is read, its parts, and the same with one thing changed."""

from __future__ import annotations

import functools
import json
import tempfile
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py

from tests.hostile import zips

SHAPE = (4, 4, 3)


@functools.cache
def sound(suffix: str) -> bytes:
    """Return the bytes of a small model that is read."""
    import keras
    from keras import layers as kl

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input(SHAPE), kl.Conv2D(2, 3, name="conv"), kl.Flatten(), kl.Dense(2, name="dense")]
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"net{suffix}"
        model.save(path)
        return path.read_bytes()


def members() -> dict[str, bytes]:
    """Return the members of a small .keras file."""
    with zipfile.ZipFile(BytesIO(sound(".keras"))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Write a .keras file with another configuration."""
    content = members()
    config = json.loads(content["config.json"])
    change(config)
    path.write_bytes(zips.pack(content | {"config.json": json.dumps(config).encode()}))
    return path


def hdf5(path: Path, change: Callable[[h5py.File], None]) -> Path:
    """Write an .h5 file that is changed."""
    path.write_bytes(sound(".h5"))
    with h5py.File(path, "a") as file:
        change(file)
    return path


def with_config(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Write an .h5 file with another configuration."""

    def rewrite(file: h5py.File) -> None:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)

    return hdf5(path, rewrite)
