"""PyTorch state dicts (`.pt`, `.pth`, `.safetensors`) and Keras weights-only files <-> `Classifier`.

A state dict holds weights and no network; the architecture comes by name (`goodnet.architectures`) or as the
user's own `package.module:factory`. No pickle is executed: `torch.load(weights_only=True)`, safetensors, or HDF5.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from goodnet.architectures import Architecture
from goodnet.core.classifier import Classifier
from goodnet.core.errors import UnreadableModel
from goodnet.core.graph import trace
from goodnet.formats.files import replacing, require_file

State = dict[str, Tensor]

#: What `nn.DataParallel` and `torch.compile` put before each key.
_PREFIXES = ("module.", "_orig_mod.")


def read_state_dict(
    path: str | Path, architecture: Architecture, image_shape: tuple[int, int, int] | None = None
) -> Classifier:
    """Read a state dict into the network that `architecture` builds.

    Args:
        path: `.pt` or `.pth` (a state dict, or a checkpoint that holds one under any key), or `.safetensors`.
        architecture: builds the network, see `goodnet.architectures.find`.
        image_shape: (C, H, W); None takes the architecture's own.

    Raises:
        UnreadableModel: the file is damaged, carries code, holds no state dict, or does not fit the architecture.
    """
    path = require_file(path, UnreadableModel)
    content = _load(path)
    key, state = _find_state(path, content)
    prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in state)), "")
    weights = {name[len(prefix) :]: value for name, value in state.items()}
    shape = image_shape or architecture.image_shape
    if shape is None:
        raise UnreadableModel(f"{path}: the image size is not known; give it with --image-shape C,H,W")
    module = build_for(weights, architecture, shape)
    load_weights(module, weights, path, architecture.name)
    source = StateDictSource(path.suffix, module, content, key, prefix)
    return Classifier(trace(module), image_shape=shape, source=source, name=path.name, architecture=architecture.name)


def count_classes(weights: Mapping[str, Tensor]) -> int:
    """Return the number of rows of the last weight matrix: the head's classes."""
    return _class_counts(weights)[0]


def _class_counts(weights: Mapping[str, Tensor]) -> list[int]:
    """Return what may be the number of classes, likeliest first: the rows of weight matrices, the last one first."""
    matrices = [value for value in weights.values() if value.ndim == 2] or [v for v in weights.values() if v.ndim > 2]
    return list(dict.fromkeys(int(matrix.shape[0]) for matrix in reversed(matrices))) or [0]


def build_for(weights: State, architecture: Architecture, shape: tuple[int, int, int]) -> nn.Module:
    """Return the network with as many classes as `weights` have: not all files keep the order of the layers."""
    counts = _class_counts(weights)
    first = module = architecture.build(classes=counts[0], image_shape=shape)
    for classes in counts[1:]:
        expected = module.state_dict()
        if not all(name in weights for name in expected):
            return first
        if all(weights[name].shape == value.shape for name, value in expected.items()):
            return module
        module = architecture.build(classes=classes, image_shape=shape)
    fits = all(weights[name].shape == value.shape for name, value in module.state_dict().items() if name in weights)
    return module if fits else first


def load_weights(module: nn.Module, weights: State, path: Path, architecture: str) -> None:
    """Fill `module` with `weights`, all of them, each of the right shape.

    Raises:
        UnreadableModel: the message names the first weights that are missing, left over, or of another shape.
    """
    expected = module.state_dict()
    # The counter is missing in older files and in Keras's; nothing is computed from it.
    missing = [name for name in expected if name not in weights and not name.endswith("num_batches_tracked")]
    extra = [name for name in weights if name not in expected]
    wrong = [name for name in expected if name in weights and weights[name].shape != expected[name].shape]
    for kind, names in (("missing", missing), ("left over", extra), ("of another shape", wrong)):
        if names:
            example = names[0]
            if names is wrong:
                example += f" {tuple(weights[example].shape)} instead of {tuple(expected[names[0]].shape)}"
            raise UnreadableModel(
                f"{path}: the weights do not fit the architecture '{architecture}': {len(names)} {kind}, e.g. {example}; "
                "choose the architecture that it was trained with, and the image size (C, H, W) if that is another"
            )
    if not all(bool(torch.isfinite(value).all()) for value in weights.values() if value.is_floating_point()):
        raise UnreadableModel(
            f"{path}: expected finite weights, found NaN or infinity; the file is damaged or its training failed"
        )
    module.load_state_dict(weights, strict=False)


def _load(path: Path) -> Any:
    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            # torch warns of pickle protocols and TorchScript before it refuses them.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        is_pickle = _first_byte(path) == b"\x80" or "operand" not in str(error)
        if "invalid load key" in str(error) or "magic" in str(error).lower() or not is_pickle:
            raise UnreadableModel(_damaged(path)) from error
        reason = "it holds objects other than tensors, which can run code on loading"
        raise UnreadableModel(
            f"{path}: refused, {reason}; save the state dict alone: torch.save(net.state_dict(), path)"
        ) from error
    except (
        SafetensorError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
        IndexError,
    ) as error:
        raise UnreadableModel(_damaged(path)) from error


def _first_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1)


def _damaged(path: Path) -> str:
    return (
        f"{path}: expected a {path.suffix} file with a PyTorch state dict, but the file is damaged or of another kind"
    )


def _find_state(path: Path, content: Any) -> tuple[str | None, State]:
    """Return the state dict in a file and the key under which it lies (None: it is the whole file)."""
    if _is_state(content):
        return None, content
    inside = {key: value for key, value in content.items() if _is_state(value)} if isinstance(content, Mapping) else {}
    if not inside:
        raise UnreadableModel(
            f"{path}: expected a state dict (names to tensors), or a checkpoint that holds one, got {type(content).__name__}"
        )
    key = max(inside, key=lambda k: sum(v.numel() for v in inside[k].values()))
    return key, dict(inside[key])


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())
    )


@dataclass(frozen=True)
class StateDictSource:
    """Writes weights back into the same kind of file: same keys, and whatever else the checkpoint held.

    `module` is the network as it was before it was traced; what its copies lend is their structure.
    """

    suffix: str
    module: nn.Module
    content: Any
    key: str | None = None
    prefix: str = ""

    def write(self, network: nn.Module, path: Path) -> None:
        """Save the network's weights under the names that the file came with."""
        old = self.content if self.key is None else self.content[self.key]
        new = _update_state({name[len(self.prefix) :]: value for name, value in old.items()}, network)
        state = {self.prefix + name: value.detach().cpu().contiguous().clone() for name, value in new.items()}
        with replacing(path) as temporary:
            if self.suffix.lower() == ".safetensors":
                save_file(state, temporary)
            else:
                torch.save(state if self.key is None else {**self.content, self.key: state}, temporary)

    def rebuild(self, network: nn.Module) -> nn.Module:
        """Return a copy of the module, filled with the network's weights."""
        return rebuild_module(self.module, network)


def rebuild_module(module: nn.Module, network: nn.Module) -> nn.Module:
    """Return a copy of `module`, in evaluation mode, filled with the weights of `network`, the graph traced from it."""
    built = copy.deepcopy(module)
    built.load_state_dict(_update_state(built.state_dict(), network))
    return built.eval()


def _update_state(state: State, network: nn.Module) -> State:
    """Return `state` with the weights of `network`; those that its graph does not use stay as they are."""
    new = network.state_dict()
    # A network that could not be traced is one node called "network".
    return {name: new.get(name, new.get(f"network.{name}", value)) for name, value in state.items()}


def from_module(
    module: nn.Module,
    image_shape: tuple[int, int, int],
    *,
    name: str = "network",
    architecture: str | None = None,
    suffix: str = ".pt",
) -> Classifier:
    """Return a live module as a `Classifier` that shares its weights and saves them as a state dict."""
    source = StateDictSource(
        suffix, module, {key: value.detach().clone() for key, value in module.state_dict().items()}
    )
    return Classifier(
        trace(module.eval()), image_shape=image_shape, source=source, name=name, architecture=architecture
    )
