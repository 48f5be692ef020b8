"""Networks that other libraries make by name: `timm:resnet18`, `torchvision:resnet50`; without weights, nothing is fetched."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import nn

from goodnet.core.errors import InvalidOption, UnknownMethod
from goodnet.core.one_line import describe_error

#: Operators for detection whose names torchvision looks up on import; no classifier uses them.
_DETECTION = ("nms", "qnms")
_TORCHVISION_SIZE = 224
#: torchvision's factories that were published for another size.
_SIZES = {"inception_v3": 299}

#: What the names of libraries are.
LIBRARIES = ("timm", "torchvision")


def is_library(name: str) -> bool:
    """Whether an architecture's name is that of a library's network, as `timm:resnet18` is."""
    return name.partition(":")[0] in LIBRARIES and ":" in name


def find_in_library(name: str) -> tuple[Callable[..., nn.Module], tuple[int, int, int]]:
    """Return what builds a library's network for `num_classes`, and the shape of the images that it was published for.

    Raises:
        InvalidOption: the library is not installed.
        UnknownMethod: it has no network of this name.
    """
    library, _, word = name.partition(":")
    return _find_in_timm(name, word) if library == "timm" else _find_in_torchvision(name, word)


def _find_in_timm(name: str, word: str) -> tuple[Callable[..., nn.Module], tuple[int, int, int]]:
    import_torchvision()
    timm = _import("timm")
    if not timm.is_model(word):
        raise _unknown(name, timm.list_models(f"*{word[:6]}*"))
    settings = timm.get_pretrained_cfg(word)

    def build(num_classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
        return _build_in_timm(timm, word, num_classes, image_shape)

    return build, (3, 224, 224) if settings is None else tuple(settings.input_size)


def _build_in_timm(timm: Any, word: str, classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """Networks of patches are told the size of their images; those of convolutions refuse to hear it."""
    options = {"pretrained": False, "num_classes": classes, "in_chans": image_shape[0]}
    try:
        module = timm.create_model(word, img_size=image_shape[1:], **options)
    except TypeError:
        module = timm.create_model(word, **options)
    return module  # type: ignore[no-any-return]


def _find_in_torchvision(name: str, word: str) -> tuple[Callable[..., nn.Module], tuple[int, int, int]]:
    models = import_torchvision().models
    # Those alone that sort images: the library has others in folders of their own.
    if word not in models.list_models(module=models):
        raise _unknown(name, models.list_models(module=models, include=f"*{word[:5]}*"))
    size = _SIZES.get(word, _TORCHVISION_SIZE)

    def build(num_classes: int) -> nn.Module:
        options = {"init_weights": False} if word in ("googlenet", "inception_v3") else {}
        return models.get_model(word, weights=None, num_classes=num_classes, **options)  # type: ignore[no-any-return]

    return build, (3, size, size)


def import_torchvision() -> Any:
    """Import torchvision, also where its compiled part is for another build of torch than the one that is installed.

    Raises:
        InvalidOption: it is not installed, or cannot be imported.
    """
    try:
        return _import("torchvision")
    except RuntimeError:
        # It stops at names that its compiled part would have brought along.
        _declare_detection()
        return _import("torchvision")


def _declare_detection() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for operator in _DETECTION:
        if not hasattr(torch.ops.torchvision, operator):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    _DECLARED.append(library)


#: Torch forgets what a library has declared as soon as nobody holds it.
_DECLARED: list[torch.library.Library] = []


def _import(library: str) -> Any:
    try:
        module: ModuleType = importlib.import_module(library)
    except ImportError as error:
        raise InvalidOption(
            f"architectures of {library} need it installed: pip install 'goodnet[timm]' ({describe_error(error)})"
        ) from error
    return module


def _unknown(name: str, alike: Sequence[str]) -> UnknownMethod:
    few = f"; it has {', '.join(alike[:8])}" if alike else ""
    library = name.partition(":")[0]
    return UnknownMethod(f"architecture '{name}': {library} has no network of this name{few}")
