"""PyTorch weights (files of torch.save, safetensors) <-> `Classifier`.

A state dict holds weights and no network; the architecture comes by name (`goodnet.architectures`) or as the
user's own `package.module:factory`. `checkpoints.py` reads the file without running anything of it, `candidates.py` finds
the weights in it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from goodnet.architectures import Architecture
from goodnet.core.classifier import Classifier
from goodnet.core.errors import UnknownImageSize, UnreadableModel, UnwritableOutput
from goodnet.core.graph import trace
from goodnet.formats.candidates import Place, choose_network, misfit
from goodnet.formats.checkpoints import Checkpoint, read_checkpoint, replace_at
from goodnet.formats.files import require_file
from goodnet.formats.shown_paths import show_path
from goodnet.formats.weight_fit import Builds, State, compare


def read_state_dict(
    path: str | Path,
    architecture: Architecture,
    image_shape: tuple[int, int, int] | None = None,
    key: str | None = None,
    checkpoint: Checkpoint | None = None,
) -> Classifier:
    """Read the weights in a file into the network that `architecture` builds.

    Args:
        path: a file of torch.save with a state dict, or with a checkpoint that holds one anywhere; or a safetensors file.
        architecture: builds the network, see `goodnet.architectures.find`.
        image_shape: (C, H, W); None takes the architecture's own.
        key: where the weights lie in a checkpoint of several networks, as the error lists it.
        checkpoint: what the file holds, where it has been read.

    Raises:
        UnreadableModel: the file is damaged, carries code, holds no state dict, does not fit the architecture, or holds
            several networks that do and no key is given.
        InvalidOption: there is nothing that fits under the key.
    """
    path = require_file(path, UnreadableModel)
    checkpoint = read_checkpoint(path) if checkpoint is None else checkpoint
    shape = image_shape or architecture.image_shape
    if shape is None:
        raise UnknownImageSize(f"{path}: the image size is not known; give it with --image-shape C,H,W")
    builds = Builds(architecture, shape)
    chosen = choose_network(path, checkpoint.content, builds, key)
    module = builds.fitting(chosen.weights)
    load_weights(module, chosen.weights, path, architecture.name)
    kept = replace(checkpoint, content=chosen.content)
    source = StateDictSource(path.suffix, module, kept, chosen.places, chosen.left_out)
    classifier = Classifier(
        trace(module), image_shape=shape, source=source, name=show_path(path.name), architecture=architecture.name
    )
    if chosen.lookalikes:
        classifier.notes += (
            f"the file holds further tensors of the network's shapes under {', '.join(chosen.lookalikes)}; they are not looked "
            "at, and a file that is written back holds them as they are",
        )
    return classifier


def build_for(weights: State, architecture: Architecture, shape: tuple[int, int, int]) -> nn.Module:
    """Return the network with as many classes as `weights` have."""
    return Builds(architecture, shape).fitting(weights)


def load_weights(module: nn.Module, weights: State, path: Path, architecture: str) -> None:
    """Fill `module` with `weights`, all of them, each of the right shape, in the module's own precision.

    Raises:
        UnreadableModel: some are missing, left over, of another shape, or not finite; the message gives an example.
    """
    if not compare(weights, module).exact:
        raise misfit(path, weights, module, architecture)
    module.load_state_dict(weights, strict=False)
    # Read after loading: what float64 holds may be too large for the float32 that is computed in.
    if not all(bool(torch.isfinite(value).all()) for value in module.state_dict().values()):
        raise UnreadableModel(
            f"{path}: expected finite weights, found NaN or infinity; the file is damaged or its training failed"
        )


@dataclass(frozen=True)
class StateDictSource:
    """Writes weights back into the same kind of file: names, types, and whatever else the file held.

    `module` is the network as it was before it was traced; what its copies lend is their structure. `places` are all in
    which its weights lie in `checkpoint`; `left_out` are the keys of other networks, which the file held and what is
    written does not.
    """

    suffix: str
    module: nn.Module
    checkpoint: Checkpoint
    places: tuple[Place, ...] = (Place(()),)
    left_out: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Where in the file the weights lay, "/" for the whole of it; "A = B" where they lay twice."""
        return " = ".join(place.key for place in self.places)

    def write(self, network: nn.Module, path: Path) -> None:
        """Save the network's weights where they were in the file, in the types that they had.

        Raises:
            UnwritableOutput: a weight has grown beyond what its type can hold.
        """
        content, values = self.checkpoint.content, _update_state(self.module.state_dict(), network)
        for place in self.places:
            content = replace_at(content, place.path, partial(_refill, prefix=place.prefix, values=values, path=path))
        replace(self.checkpoint, content=content).write(path)

    def rebuild(self, network: nn.Module) -> nn.Module:
        """Return a copy of the module, filled with the network's weights."""
        return rebuild_module(self.module, network)


def _refill(mapping: Any, prefix: str, values: State, path: Path) -> Any:
    """Return a copy of a file's mapping, of its own kind and order, in which the weights under `prefix` are `values`."""
    twin = copy.copy(mapping)
    for name, old in mapping.items():
        own = name[len(prefix) :] if isinstance(name, str) and name.startswith(prefix) else None
        if own in values:
            twin[name] = _store(old, values[own], path, name)
    return twin


def _store(old: Tensor, value: Tensor, path: Path, name: str) -> Tensor:
    """Return `value` in the type that the file has; a weight that has not changed keeps what float32 cannot hold of it."""
    value, stored = value.detach().cpu(), old.detach().clone()
    if not torch.equal(stored.to(value.dtype), value):
        stored.copy_(value)
        if bool(torch.isfinite(value).all()) and not bool(torch.isfinite(stored.to(value.dtype)).all()):
            raise UnwritableOutput(
                f"{path}: '{name}' has grown beyond what the file's {str(old.dtype).removeprefix('torch.')} can hold; save the "
                "original in float32 and repair that"
            )
    return nn.Parameter(stored, old.requires_grad) if isinstance(old, nn.Parameter) else stored


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
    # A network that ran on images channels last has its kernels in that order, which safetensors does not know.
    state = {key: value.clone(memory_format=torch.contiguous_format) for key, value in module.state_dict().items()}
    source = StateDictSource(suffix, module, Checkpoint(state, is_safetensors=suffix == ".safetensors"))
    return Classifier(
        trace(module.eval()), image_shape=image_shape, source=source, name=name, architecture=architecture
    )
