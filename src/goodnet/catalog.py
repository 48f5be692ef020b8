"""Finds methods by file name: a file dropped into a family's folder is in the catalogue."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING, Literal

from goodnet.core.errors import UnknownMethod

if TYPE_CHECKING:
    from goodnet.core.method import Method

Family = Literal["scanners", "repairers", "guards", "attacks"]
FAMILIES: tuple[Family, ...] = ("scanners", "repairers", "guards", "attacks")


@cache
def names(family: Family) -> tuple[str, ...]:
    """Return the names of a family's methods, sorted, without importing them."""
    package = importlib.import_module(f"goodnet.{family}")
    return tuple(sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.name[0] != "_"))


def find(family: Family, name: str) -> type[Method]:
    """Return the class of method `name`: file `neural_cleanse.py` holds class `NeuralCleanse`.

    Raises:
        UnknownMethod: there is no such file; the message lists those there are.
    """
    word = name.replace("-", "_")
    if word not in names(family):
        known = ", ".join(names(family)) or "none yet"
        raise UnknownMethod(f"unknown method '{name}' among the {family}; known: {known}")
    module = importlib.import_module(f"goodnet.{family}.{word}")
    method: type[Method] = getattr(module, "".join(part.capitalize() for part in word.split("_")))
    return method
