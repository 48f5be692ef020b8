"""Model files that a confined child has read: plain data, and what the readers of each kind need of it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory
from typing import Any, get_args

import h5py
from torch import Tensor

from goodnet.confinement.reading import Contents, read_file
from goodnet.core.errors import InputError, UnreadableModel
from goodnet.formats.checkpoint_trees import TooDeep, build_checkpoint
from goodnet.formats.checkpoints import Checkpoint, damaged, refuse_name, too_deep
from goodnet.formats.file_kinds import Kind
from goodnet.formats.hdf5_trees import Array, write_tree

_READER, _ONNX_READER = "goodnet.formats.confined_reader:read_model", "goodnet.formats.confined_onnx:read_onnx"


@dataclass(frozen=True)
class ConfinedFile:
    """What a child has found in a model file. `sha256` is that of the bytes that it read, "" where it read none."""

    path: Path
    kind: Kind
    record: dict[str, Any]
    tensors: dict[str, Tensor]
    sha256: str
    missing: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What a pickle names, in its order."""
        return tuple(str(name) for name in self.record.get("names", ()))


def read_confined(path: Path) -> ConfinedFile:
    """Read a model file in a child that can reach nothing; of ONNX it finds out the kind alone, see `read_confined_onnx`.

    Raises:
        UnreadableModel: the child has refused it, or was stopped.
    """
    return _ask_child(_READER, path)


def read_confined_onnx(path: Path) -> ConfinedFile:
    """Read an ONNX file in a child that can reach nothing. The package onnx must be there.

    Raises:
        UnreadableModel: the child has refused it, or was stopped.
    """
    return _ask_child(_ONNX_READER, path)


def _ask_child(reader: str, path: Path) -> ConfinedFile:
    reading: Contents = read_file(reader, path)
    record = reading.record
    if record.get("kind") not in get_args(Kind):
        raise _senseless(path)
    return ConfinedFile(path, record["kind"], record, reading.tensors, str(record.get("sha256", "")), reading.missing)


def describe_walls(confine: bool, file: ConfinedFile | None) -> tuple[str, ...]:
    """Return what a user should know of how a model file was read: by a child, or, where `file` is None, without one."""
    if file is None:
        why = ", which this system does not have" if confine else ""
        return (f"the model file was read without confinement{why}",)
    missing = ", ".join(file.missing)
    return (
        (f"the confinement in which the model file was read is incomplete on this system: {missing}",)
        if missing
        else ()
    )


def checkpoint_of(file: ConfinedFile) -> Checkpoint:
    """Return what a file of torch.save or a safetensors file holds.

    Raises:
        UnreadableModel: it is damaged, or holds an object that could run code.
    """
    try:
        if file.kind == "safetensors":
            tensors = {str(name): file.tensors[f"tensor {n}"] for n, name in enumerate(file.record["names"])}
            return Checkpoint(tensors, is_safetensors=True, metadata=file.record["metadata"])
        return Checkpoint(build_checkpoint(file.record, file.tensors))
    except TooDeep as error:
        raise too_deep(file.path) from error
    except UnpicklingError as error:
        raise refuse_name(file.path, error, file.record["names"]) from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise UnreadableModel(damaged(file.path)) from error


def take_onnx_content(file: ConfinedFile) -> bytes:
    """Return the ONNX file of the same content, which we have written: its parts are the stranger's, its bytes ours.

    `file` is emptied of its tensors, so that the weights are not held twice.

    Raises:
        UnreadableModel: the child's answer makes no sense.
    """
    from goodnet.formats.onnx_trees import write_graph  # its packages may not be installed

    arrays = {name: file.tensors.pop(name).numpy() for name in list(file.tensors)}
    try:
        return write_graph(file.record, arrays)
    except ValueError as error:
        raise _senseless(file.path) from error


@contextmanager
def twin_of(file: ConfinedFile) -> Iterator[Path]:
    """Give a Keras file of the same name and content, which we have written: its parts are the stranger's, its bytes ours.

    Raises:
        UnreadableModel: the stranger's file is damaged; or what is raised of the twin, which then names the file.
    """
    with TemporaryDirectory() as folder:
        twin = Path(folder) / file.path.name
        try:
            _write_twin(file, twin)
            yield twin
        except InputError as error:
            raise type(error)(str(error).replace(str(twin), str(file.path))) from error


def _senseless(path: Path) -> UnreadableModel:
    """Return the error for what no honest child says."""
    return UnreadableModel(f"{path}: refused, the sandboxed reader returned an invalid result; do not trust this file")


def _write_twin(file: ConfinedFile, twin: Path) -> None:
    record = file.record
    if "damage" in record:
        raise UnreadableModel(
            f"{twin}: expected a Keras model (.h5 or .keras), but the file is damaged or of another kind; "
            f"save it again with model.save ({record['damage']})"
        )
    try:
        _write_parts(twin, record, {name: tensor.numpy() for name, tensor in file.tensors.items()})
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise _senseless(twin) from error


def _write_parts(twin: Path, record: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    if "metadata" not in record:
        with h5py.File(twin, "w") as ours:
            if "config" in record:
                ours.attrs["model_config"], ours.attrs["keras_version"] = record["config"], record["version"]
            write_tree(ours.create_group("model_weights") if "config" in record else ours, record, arrays)
        return
    weights = io.BytesIO()
    with h5py.File(weights, "w") as ours:
        write_tree(ours, record, arrays)
    with zipfile.ZipFile(twin, "w") as archive:
        archive.writestr("metadata.json", record["metadata"])
        archive.writestr("config.json", record["config"])
        archive.writestr("model.weights.h5", weights.getvalue())
