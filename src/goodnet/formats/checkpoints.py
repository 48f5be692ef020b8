"""What lies in a file of torch.save or a safetensors file, read without running anything of it, and written back.

No pickle is executed: `torch.load(weights_only=True)` builds tensors, plain containers, and what `inert_objects` allows.
"""

from __future__ import annotations

import copy
import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from goodnet.core.errors import CodeInFile, UnreadableModel
from goodnet.formats.checkpoint_sizes import require_room
from goodnet.formats.checkpoint_trees import is_made
from goodnet.formats.files import write_bytes
from goodnet.formats.first_bytes import is_safetensors
from goodnet.formats.inert_objects import INERT
from goodnet.formats.json_texts import read_json
from goodnet.formats.pickle_trees import list_names
from goodnet.formats.shown_paths import show_path

#: A checkpoint nested more deeply, or of more containers, is none that a training wrote; one that holds itself is both.
_DEEPEST, _MOST_CONTAINERS = 64, 100_000
#: Names in a pickle that a message shows.
_SHOWN = 5
#: How torch's reader names what it does not make.
_REFUSED_NAME = re.compile(r"GLOBAL (\S+)")

#: Libraries that pickle whole programs: what their files are, and the way out.
_MAKERS = {
    "ultralytics.": "a checkpoint of Ultralytics, which is a pickled program; export it where it is installed: yolo export "
    "model=FILE format=onnx, and give the ONNX file",
    "fastai.": "an export of fastai, which is a pickled program; load it where fastai is installed and save the weights: "
    "torch.save(learn.model.state_dict(), path)",
}

#: The way to a container inside a checkpoint: keys of mappings, numbers in lists.
KeyPath = tuple[Any, ...]


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds. `metadata` are the notes in a safetensors file, None where it has none."""

    content: Any
    is_safetensors: bool = False
    metadata: dict[str, str] | None = None

    def write(self, path: Path) -> None:
        """Write a file of the same kind."""
        if self.is_safetensors:
            write_bytes(path, save(self.content, metadata=self.metadata))
        else:
            write_torch(self.content, path)


def write_torch(content: Any, path: Path) -> None:
    """Write what torch.save writes, in one step."""
    written = io.BytesIO()
    torch.save(content, written)
    write_bytes(path, written.getbuffer())


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file of torch.save or a safetensors file.

    Raises:
        UnreadableModel: the file is damaged, or holds an object that could run code.
    """
    with path.open("rb") as file:
        head = file.read(9)
    return _read_safetensors(path) if is_safetensors(head) else Checkpoint(_load(path))


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        with path.open("rb") as stream:
            read_json(stream.read(int.from_bytes(stream.read(8), "little")))
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        return Checkpoint(load_file(path), is_safetensors=True, metadata=metadata)
    except (
        SafetensorError,
        OSError,
        ValueError,
        KeyError,
        RuntimeError,
        AttributeError,
        TypeError,
        RecursionError,
    ) as error:
        raise UnreadableModel(damaged(path)) from error


def _load(path: Path) -> Any:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(INERT):
            # torch warns of pickle protocols and TorchScript before it refuses them.
            warnings.simplefilter("ignore")
            require_room(path)
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnreadableModel:
        raise
    except UnpicklingError as error:
        with path.open("rb") as stream:
            raise refuse_name(path, error, list_names(stream)) from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise UnreadableModel(damaged(path)) from error


def refuse_name(path: Path, error: UnpicklingError, names: Sequence[str]) -> UnreadableModel:
    """Return the error for a file whose reading ended at a name that is not made, or at damage; `names` are all in it."""
    named = _REFUSED_NAME.search(str(error))
    if named is None:
        return UnreadableModel(damaged(path))
    foreign = [as_one_line(name) for name in names if not is_made(name)] or [as_one_line(named[1])]
    listed = name_all(foreign) if foreign[1:] else ""
    maker = next((words for module, words in _MAKERS.items() if named[1].startswith(module)), None)
    if maker is not None:
        return CodeInFile(f"{path}: refused, {maker}{listed}", foreign)
    return CodeInFile(
        f"{path}: refused, it holds a '{as_one_line(named[1])}', which could run code on loading{listed}; save the state dict "
        "alone where it was made: torch.save(net.state_dict(), path)",
        foreign,
    )


def name_all(names: Sequence[str]) -> str:
    """Return names in a pickle in words, the first few of them; nothing where there are none."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"; it names {', '.join(names[:_SHOWN])}{more}" if names else ""


def damaged(path: Path) -> str:
    """Return the words for a file that is no checkpoint."""
    return (
        f"{path}: expected a file of torch.save (pickle protocol 2, torch's default) or safetensors with a state dict, but it is "
        "damaged or of another kind; save it again: torch.save(net.state_dict(), path)"
    )


def as_one_line(name: object) -> str:
    """Return what an untrusted file calls something as printable text, from at most 80 letters of it."""
    return show_path(str(name)[:80])


def find_mappings(path: Path, content: Any) -> Iterator[tuple[KeyPath, dict[str, Tensor]]]:
    """Yield the path of keys and the named tensors of every mapping in a checkpoint, the outermost first.

    Raises:
        UnreadableModel: it is nested without end.
    """
    for place, items in find_containers(path, content):
        tensors = {key: value for key, value in items if isinstance(key, str) and _holds_numbers(value)}
        if tensors:
            yield place, tensors


def find_containers(path: Path, content: Any) -> Iterator[tuple[KeyPath, list[tuple[Any, Any]]]]:
    """Yield the items of every mapping and list in a checkpoint, and the way there, the outermost first.

    Raises:
        UnreadableModel: it is nested without end.
    """
    waiting: list[tuple[KeyPath, Any]] = [((), content)]
    for place, node in waiting:  # grows on the way
        if len(waiting) > _MOST_CONTAINERS or len(place) > _DEEPEST:
            raise too_deep(path)
        items = list(node.items() if isinstance(node, Mapping) else enumerate(node) if _is_list(node) else ())
        waiting += [((*place, key), value) for key, value in items if isinstance(value, Mapping) or _is_list(value)]
        yield place, items


def too_deep(path: Path) -> UnreadableModel:
    """Return the error for a checkpoint that is nested without end."""
    return UnreadableModel(
        f"{path}: refused, expected a checkpoint of at most {_MOST_CONTAINERS} containers, {_DEEPEST} within one "
        "another, got more; save the state dict alone: torch.save(net.state_dict(), path)"
    )


def _is_list(node: object) -> bool:
    return isinstance(node, list | tuple) and not isinstance(node, torch.Size)


def _holds_numbers(value: object) -> bool:
    """Whether it is a tensor with a number of its own for every element: not sparse, quantised, or one number repeated."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and value.untyped_storage().nbytes() >= value.numel() * value.element_size()
    )


def replace_at(content: Any, place: KeyPath, change: Callable[[Any], Any]) -> Any:
    """Return `content` with what lies at `place` changed; all else is shared, and what was given stays as it is.

    A mapping that becomes empty goes. In a list it stays, so that the others keep their numbers.
    """
    if not place:
        return change(content)
    new = replace_at(content[place[0]], place[1:], change)
    if isinstance(content, tuple):
        return tuple(new if i == place[0] else item for i, item in enumerate(content))
    twin = copy.copy(content)
    if isinstance(twin, Mapping) and isinstance(new, Mapping) and not new:
        del twin[place[0]]  # type: ignore[attr-defined]
    else:
        twin[place[0]] = new
    return twin
