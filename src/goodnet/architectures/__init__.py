"""Networks that weights-only files need: one file each, with a function `build` and an `IMAGE_SHAPE`."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from goodnet.architectures.libraries import LIBRARIES, find_in_library, is_library
from goodnet.core.errors import InvalidOption, UnknownMethod
from goodnet.core.one_line import describe_error


@dataclass(frozen=True)
class Architecture:
    """A network without weights: `name` as the user gave it, and what builds it.

    `image_shape` (C, H, W) is the one it was published with, None where only the user knows.
    """

    name: str
    factory: Callable[..., nn.Module]
    image_shape: tuple[int, int, int] | None = None

    def build(self, *, classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
        """Return the network with fresh weights; a user's factory gets those of the two arguments that it names.

        Raises:
            InvalidOption: the factory fails, or returns something other than an `nn.Module`.
        """
        offered = {"classes": classes, "num_classes": classes, "image_shape": image_shape}
        try:
            module = self.factory(**_accepted(self.factory, offered))
        except Exception as error:
            raise InvalidOption(
                f"architecture '{self.name}' failed for {classes} classes and images {image_shape}: {describe_error(error)}"
            ) from error
        if not isinstance(module, nn.Module):
            raise InvalidOption(
                f"architecture '{self.name}' must return a torch.nn.Module, got {type(module).__name__}"
            )
        return module


def _accepted(factory: Callable[..., nn.Module], offered: dict[str, Any]) -> dict[str, Any]:
    """Return those of the arguments that a factory names; one that hands all on (`**kwargs`) gets torchvision's name too."""
    parameters = inspect.signature(factory).parameters.values()
    names = {item.name for item in parameters}
    if any(item.kind is item.VAR_KEYWORD for item in parameters) and not names & offered.keys():
        names.add("num_classes")
    return {key: value for key, value in offered.items() if key in names}


def names() -> tuple[str, ...]:
    """Return the names of the architectures that goodnet knows."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "libraries"))


def find(name: str) -> Architecture:
    """Return the architecture `name`: one of ours, a library's (`timm:resnet18`) or the user's `package.module:factory`.

    Raises:
        UnknownMethod: there is no such architecture, module or factory.
        InvalidOption: the library is not installed.
    """
    if is_library(name):
        return Architecture(name, *find_in_library(name))
    if ":" in name:
        return Architecture(name, _user_factory(name))
    word = name.replace("-", "_").lower()
    if word not in names():
        raise UnknownMethod(
            f"unknown architecture '{name}'; known: {', '.join(names())}, "
            f"{', '.join(f'{item}:NAME' for item in LIBRARIES)}, or your own package.module:factory"
        )
    module = importlib.import_module(f"{__name__}.{word}")
    return Architecture(word, module.build, module.IMAGE_SHAPE)


def _user_factory(name: str) -> Callable[..., nn.Module]:
    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        # A console script does not look into the working folder, where users keep their modules.
        sys.path.insert(0, os.getcwd())
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:
        raise UnknownMethod(
            f"architecture '{name}': {describe_error(error)}; expected package.module:factory that can be imported here"
        ) from error
    if not callable(factory):
        raise UnknownMethod(
            f"architecture '{name}': '{attribute}' is not callable; expected a function that returns a network"
        )
    return factory  # type: ignore[no-any-return]
