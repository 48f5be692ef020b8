"""What a Keras configuration may name: the layers that have a counterpart here, and what belongs to them.

Keras creates an object for every name in a configuration that it knows. Some objects run code, read files or open
addresses when they are created. So goodnet keeps a list of allowed names, not of forbidden ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from goodnet.core.errors import UnreadableModel
from goodnet.formats.keras_layers import RULES
from goodnet.formats.keras_operations import MARKED
from goodnet.formats.shown_paths import show_path

#: Models, what they begin with, and the spellings of Keras 2.
_LAYERS = frozenset(
    {*RULES, *MARKED, "InputLayer", "Functional", "Model", "Sequential", "BatchNormalizationV1", "BatchNormalizationV2"}
)
#: Values that Keras writes as objects.
_VALUES = frozenset(
    {
        *("__keras_tensor__", "__tensor__", "__numpy__", "__tuple__", "__slice__", "__ellipsis__", "__none__"),
        *("slice", "TensorShape"),
    }
)
#: The parts of Keras whose classes and functions do nothing but compute.
_FAMILIES = ("initializers", "regularizers", "constraints", "dtype_policies", "activations")
#: More layers than any network that is known has.
_MOST_LAYERS = 3_000
#: A layer names itself and its initializers, regularizers and type.
_OBJECTS_OF_A_LAYER = 20
#: More letters of a name are not shown.
_SHOWN = 80


def refuse_code(path: Path, config: Any) -> None:
    """Refuse a model whose configuration would do anything while it is read but make a network.

    Raises:
        UnreadableModel: there is a Lambda layer, a class from outside Keras, a layer without a counterpart, or a name of
            Keras that is none of a network's part; or there are more layers than any network has.
    """
    if not isinstance(config, Mapping):
        for item in config if isinstance(config, list) else ():
            refuse_code(path, item)
        return
    kind, module = config.get("class_name"), config.get("module")
    if kind in ("Lambda", "__lambda__"):
        raise UnreadableModel(
            f"{path}: refused, the model has a Lambda layer, which is code that runs on loading; replace the Lambda layer by a "
            "standard layer and save again"
        )
    registered = config.get("registered_name")
    foreign = isinstance(module, str) and module.split(".")[0] not in ("keras", "builtins")
    if foreign or (isinstance(registered, str) and ">" in registered):
        raise UnreadableModel(
            f"{path}: refused, the model needs code from outside Keras ('{registered or module}'); replace it by standard layers "
            "and functions and save again"
        )
    for item in config.values():
        refuse_code(path, item)


def refuse_many_layers(path: Path, text: str) -> None:
    """Refuse a configuration, as text, that names far more objects than the layers of any network need.

    Raises:
        UnreadableModel: it does.
    """
    if text.count('"class_name"') > _OBJECTS_OF_A_LAYER * _MOST_LAYERS:
        raise UnreadableModel(
            f"{path}: refused, expected a network of at most {_MOST_LAYERS:,} layers, got far more; give a smaller network"
        )


def refuse_foreign_parts(path: Path, model: Any) -> None:
    """Refuse a model that names anything but layers with a counterpart and their parts; its compile options do not count.

    Raises:
        UnreadableModel: it does, or has more layers than any network has.
    """
    count = _check_parts(path, model)
    if count > _MOST_LAYERS:
        raise UnreadableModel(
            f"{path}: refused, expected a network of at most {_MOST_LAYERS:,} layers, got {count:,}; give a smaller network"
        )


def _check_parts(path: Path, item: Any) -> int:
    """Return how many layers there are in a part of a configuration."""
    if isinstance(item, list):
        return sum(_check_parts(path, part) for part in item)
    if not isinstance(item, Mapping):
        return 0
    kind = item.get("class_name")
    if isinstance(kind, str) and kind not in _LAYERS and not _is_part(kind, item):
        raise _unknown_part(path, kind, item.get("config"))
    return (kind in _LAYERS) + sum(_check_parts(path, part) for part in item.values())


def _is_part(kind: str, item: Mapping[str, Any]) -> bool:
    """Whether it is a value, an operation of `keras.ops`, or of a family that does nothing but compute."""
    module = str(item.get("module") or "")
    if kind in _VALUES or module.startswith(("keras.ops", "keras.src.ops")):
        return True
    name = item.get("config") if kind == "function" else kind
    return isinstance(name, str) and name in _names_of_families()


def _unknown_part(path: Path, kind: str, config: Any) -> UnreadableModel:
    name = config.get("name") if isinstance(config, Mapping) else None
    shown = show_path(kind[:_SHOWN])
    if kind == "function":
        return UnreadableModel(
            f"{path}: refused, the model names the function '{show_path(str(config)[:_SHOWN])}', which is no activation; replace "
            "it by a standard activation and save again"
        )
    return UnreadableModel(
        f"{path}: layer {show_path(str(name)[:_SHOWN])!r} cannot be translated, layer kind '{shown}' is not supported; load the "
        "network in PyTorch instead, or open an issue"
    )


@cache
def _names_of_families() -> frozenset[str]:
    """Return what the families call their classes and functions, also by the names of Keras 2."""
    import keras  # on the backend that `import_keras` has chosen

    names = {name for family in _FAMILIES for name in dir(getattr(keras, family))}
    return frozenset({*names, "Policy", "PolicyV1"} - {"get", "serialize", "deserialize"})
