"""Live models of Keras and PyTorch -> `Classifier`, the user's own object left as it is."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch
from torch import nn

from goodnet.core.classifier import Classifier
from goodnet.core.errors import InvalidOption, UnreadableModel
from goodnet.formats.keras import from_keras, is_keras_model
from goodnet.formats.networks import read_network
from goodnet.formats.pytorch import from_module


class KerasModel(Protocol):
    """A live `keras.Model`: Keras carries no types, and need not be imported to know one."""

    name: str

    def to_json(self, **kwargs: Any) -> str:
        """Return the architecture."""


#: What stands for a network wherever one is asked for: a file, or a live object.
ModelLike: TypeAlias = Classifier | nn.Module | KerasModel | str | Path


def as_classifier(
    model: ModelLike,
    architecture: str | None = None,
    image_shape: tuple[int, int, int] | None = None,
    key: str | None = None,
    *,
    confine: bool = True,
) -> Classifier:
    """Return a model file or a live model as a `Classifier`; a `Classifier` comes back as it is.

    Args:
        model: a file (see `read_network`), a `keras.Model` of any backend, a `torch.nn.Module`. Of live models the
            weights are copied: whatever is done with the classifier, the model stays as it is.
        architecture: for files that hold weights alone, a name or `package.module:factory`.
        image_shape: (C, H, W), for modules and for architectures that do not know theirs.
        key: which network of a PyTorch checkpoint that holds several.
        confine: let a child that can reach nothing read a file.

    Raises:
        UnreadableModel: the model cannot be read, copied, or taken for an image classifier.
        InvalidOption: a module came without the shape of its images, or something other than a checkpoint with a key.
        WrongShape: the module does not take such images, or does not give one row of logits per image.
    """
    if isinstance(model, str | Path):
        return read_network(model, architecture, image_shape, key, confine=confine)
    if key is not None:
        raise InvalidOption(
            f"a key chooses among the networks of a PyTorch checkpoint, and {type(model).__name__} is one network; leave it out"
        )
    if isinstance(model, Classifier):
        return model
    # On its torch backend a Keras model is an nn.Module too; translated, its layers can be told apart.
    if is_keras_model(model):
        return from_keras(model, image_shape=image_shape)
    if isinstance(model, nn.Module):
        return _copy_module(_unwrap(model), image_shape)
    raise UnreadableModel(
        f"expected a model file, a keras.Model, a torch.nn.Module or a goodnet.Classifier, got {type(model).__module__}."
        f"{type(model).__qualname__}; save the model and give its file"
    )


def _unwrap(module: nn.Module) -> nn.Module:
    """Return the network inside `torch.compile` and the wrappers that spread it over devices."""
    while True:
        inner = getattr(module, "_orig_mod", None)
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = module.module
        if not isinstance(inner, nn.Module):
            return module
        module = inner


def _copy_module(module: nn.Module, image_shape: tuple[int, int, int] | None) -> Classifier:
    name = type(module).__name__
    if image_shape is None:
        raise InvalidOption(f"{name}: the size of its images is not known; give image_shape=(channels, height, width)")
    weights = [parameter for parameter in module.parameters() if parameter.is_floating_point()]
    foreign = {weight.dtype for weight in weights} - {torch.float32}
    if foreign:
        raise UnreadableModel(f"{name}: expected weights of float32, got {foreign.pop()}; give model.float()")
    if not all(bool(torch.isfinite(weight).all()) for weight in weights):
        raise UnreadableModel(f"{name}: expected finite weights, found NaN or infinity; its training failed")
    try:
        own = copy.deepcopy(module)
    except Exception as error:  # whatever a stranger's module does when it is copied
        raise UnreadableModel(
            f"{name}: the module cannot be copied ({' '.join(str(error).split())}); give one that copy.deepcopy takes"
        ) from error
    # Whoever froze layers did it for a training of their own.
    for parameter in own.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return from_module(own, image_shape, name=name)
