"""One door for every model file: the file's kind, found by its content, decides who reads it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch

from goodnet import architectures
from goodnet.architectures import Architecture, deepid
from goodnet.confinement.reading import can_confine
from goodnet.core.classifier import Classifier
from goodnet.core.errors import CodeInFile, InvalidOption, UnreadableModel
from goodnet.formats.checkpoints import Checkpoint, as_one_line, damaged, name_all, read_checkpoint
from goodnet.formats.confined_files import (
    ConfinedFile,
    checkpoint_of,
    describe_walls,
    read_confined,
    read_confined_onnx,
    take_onnx_content,
    twin_of,
)
from goodnet.formats.file_kinds import Kind, find_kind, is_onnx_goodnet, refuse_kind
from goodnet.formats.files import require_file
from goodnet.formats.keras import from_keras, is_keras_model, read_keras
from goodnet.formats.keras_deepid import build_keras
from goodnet.formats.keras_factories import fill_keras
from goodnet.formats.keras_weights import read_keras_weights
from goodnet.formats.network_folders import is_network_folder, read_network_folder
from goodnet.formats.one_reading import require_one_reading
from goodnet.formats.onnx_networks import read_onnx_network, require_package
from goodnet.formats.pickle_trees import list_names
from goodnet.formats.pytorch import from_module, read_state_dict

#: Endings of models: a file of no known kind is called one by them, and data else.
_ENDINGS = (".h5", ".hdf5", ".keras", ".pt", ".pth", ".safetensors", ".ckpt", ".bin", ".onnx", ".pt2", ".tar")
#: Formats in which a network that is made here can be saved.
FORMATS = ("pt", "safetensors", "h5", "keras")


def read_network(
    path: str | Path,
    architecture: str | None = None,
    image_shape: tuple[int, int, int] | None = None,
    key: str | None = None,
    *,
    confine: bool = True,
) -> Classifier:
    """Read a model file, whatever its ending.

    Args:
        path: a whole Keras model (HDF5, `.keras`), Keras weights (HDF5), a file of torch.save, safetensors; a folder of
            Hugging Face or timm.
        architecture: for files that hold weights alone, a name or `package.module:factory`.
        image_shape: (C, H, W), for architectures that do not know theirs.
        key: which network of a PyTorch checkpoint that holds several, as the error lists it.
        confine: let a process of its own, which can reach nothing, read the file's bytes; the network is the same.

    Raises:
        UnreadableModel: the file cannot be read, needs an architecture and none is given, or needs a key.
        InvalidOption: there is no network under the key, or the file is no checkpoint.
        UnknownMethod: there is no such architecture.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path, architecture, image_shape, key, confine=confine)
    return build_network(read_model_file(path, confine=confine), architecture, image_shape, key)


@dataclass(frozen=True)
class ModelFile:
    """A model file whose kind is known.

    `confined` is what a child has read of it, None where none has; `notes` say where walls were missing.
    """

    path: Path
    kind: Kind
    confined: ConfinedFile | None
    notes: tuple[str, ...]

    @property
    def is_network(self) -> bool:
        """Whether it is a model rather than data, or something that can only be meant for one."""
        if self.kind in ("unknown", "zip", "tar"):
            return self.path.suffix.lower() in _ENDINGS
        return self.kind not in ("hdf5", "npz")


def read_model_file(path: str | Path, *, confine: bool = True) -> ModelFile:
    """Find out what a file is; with `confine` a child does, and reads it where it is a model.

    Raises:
        UnreadableModel: there is no such file, or it cannot be read, or the child was stopped.
    """
    path = require_file(path, UnreadableModel)
    if confine and can_confine():
        confined = read_confined(path)
        return ModelFile(path, confined.kind, confined, describe_walls(confine, confined))
    require_one_reading(path, UnreadableModel)
    return ModelFile(path, find_kind(path), None, describe_walls(confine, None))


def build_network(
    file: ModelFile,
    architecture: str | None = None,
    image_shape: tuple[int, int, int] | None = None,
    key: str | None = None,
) -> Classifier:
    """Return the network in a model file; its notes say where the reading was not confined. See `read_network`."""
    if file.kind not in ("keras", "keras weights", "torch", "safetensors", "onnx"):
        raise _refuse_pickle(file) if file.kind == "pickle" else refuse_kind(file.path, file.kind)
    if key is not None and file.kind in ("keras", "keras weights", "onnx"):
        raise InvalidOption(
            f"{file.path}: a key chooses among the networks of a PyTorch checkpoint; leave out --key for {file.kind}"
        )
    if file.kind == "onnx":
        file = _require_onnx_network(file)
    found = None if file.kind in ("keras", "onnx") else _require_architecture(file, architecture)
    classifier = _build(file, found, image_shape, key)
    classifier.notes += file.notes
    classifier.sha256 = None if file.confined is None else file.confined.sha256
    return classifier


def _refuse_pickle(file: ModelFile) -> CodeInFile:
    if file.confined is not None:
        names = file.confined.names
    else:
        with file.path.open("rb") as stream:
            names = tuple(list_names(stream))
    shown = [as_one_line(name) for name in names]
    return CodeInFile(f"{refuse_kind(file.path, file.kind)}{name_all(shown)}", shown)


def _build(
    file: ModelFile, architecture: Architecture | None, image_shape: tuple[int, int, int] | None, key: str | None
) -> Classifier:
    if file.kind == "onnx":
        read = None if file.confined is None else partial(take_onnx_content, file.confined)
        return read_onnx_network(file.path, image_shape, read)
    if file.kind in ("torch", "safetensors") and architecture is not None:
        checkpoint = None if file.confined is None else checkpoint_of(file.confined)
        return read_state_dict(file.path, architecture, image_shape, key, checkpoint)
    with nullcontext(file.path) if file.confined is None else twin_of(file.confined) as path:
        if architecture is None:
            return read_keras(path, image_shape)
        model = _build_keras(architecture.factory) if ":" in architecture.name else None
        if model is not None:
            return fill_keras(path, model, architecture.name)
        return read_keras_weights(path, architecture, image_shape)


def _require_onnx_network(file: ModelFile) -> ModelFile:
    """Return an ONNX file that holds a network alone; where a child found out its kind, one has read it now."""
    if is_onnx_goodnet(file.path):
        raise refuse_kind(file.path, file.kind)
    if file.confined is None:
        return file
    require_package("onnx")
    return replace(file, confined=read_confined_onnx(file.path))


def _require_architecture(file: ModelFile, architecture: str | None) -> Architecture:
    if architecture is None:
        if file.kind == "torch":
            # What is a pickled program is said to be one.
            read_checkpoint(file.path) if file.confined is None else checkpoint_of(file.confined)
        known = ", ".join(architectures.names())
        raise UnreadableModel(
            f"{file.path}: the file holds weights alone; say which network they belong to: --architecture NAME ({known}) "
            "or package.module:factory"
        )
    return architectures.find(architecture)


def _build_keras(factory: Callable[..., Any]) -> Any:
    """Return the model of a user's factory of Keras models that needs no arguments, None for any other factory."""
    if any(
        item.default is item.empty and item.kind is not item.VAR_KEYWORD
        for item in signature(factory).parameters.values()
    ):
        return None
    model = factory()
    return model if is_keras_model(model) else None


def _read_folder(
    path: Path, architecture: str | None, image_shape: tuple[int, int, int] | None, key: str | None, *, confine: bool
) -> Classifier:
    if not is_network_folder(path):
        raise refuse_kind(path, find_kind(path))
    if architecture is not None or key is not None:
        raise InvalidOption(f"{path}: the folder says which network it holds; leave out --architecture and --key")
    notes: set[str] = set()

    def read_weights(file: Path) -> Checkpoint:
        found = read_model_file(file, confine=confine)
        notes.update(found.notes)
        return _checkpoint_in(found)

    classifier = read_network_folder(path, image_shape, read_weights)
    classifier.notes += tuple(sorted(notes))
    return classifier


def _checkpoint_in(file: ModelFile) -> Checkpoint:
    if file.kind == "pickle":
        raise _refuse_pickle(file)
    if file.kind not in ("torch", "safetensors"):
        raise UnreadableModel(damaged(file.path))
    return read_checkpoint(file.path) if file.confined is None else checkpoint_of(file.confined)


def says_its_size(path: Path) -> bool:
    """Whether the network's files say how large its images are, as a folder of Hugging Face or timm does."""
    return path.is_dir() and is_network_folder(path)


def make_network(
    architecture: str, classes: int, image_shape: tuple[int, int, int], *, file_format: str = "pt", seed: int = 0
) -> Classifier:
    """Return a network with fresh weights, drawn from `seed`, that is saved as `network.FORMAT`.

    Raises:
        InvalidOption: no such format, one that this architecture cannot be saved in, or images it does not take.
        UnknownMethod: there is no such architecture.
    """
    found = architectures.find(architecture)
    name = f"network.{file_format}"
    if file_format not in FORMATS:
        raise InvalidOption(f"expected a format out of {', '.join(FORMATS)}, got '{file_format}'")
    if file_format in ("h5", "keras"):
        if found.name != "deepid" or image_shape != deepid.IMAGE_SHAPE:
            raise InvalidOption(
                f"Keras files are made of deepid for images {deepid.IMAGE_SHAPE}, not of {found.name} for {image_shape}; "
                "choose --format pt or safetensors"
            )
        return from_keras(build_keras(classes, seed), f".{file_format}", name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = found.build(classes=classes, image_shape=image_shape)
    return from_module(module, image_shape, name=name, architecture=found.name, suffix=f".{file_format}")
