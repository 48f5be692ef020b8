"""Finds methods by name: files in a family's folder, the pipelines, and what other packages bring.

A package brings a method by an entry point of the group `goodnet.scanners`, `goodnet.repairers`, `goodnet.guards` or
`goodnet.attacks`; its name is the method's, its value `module:Class`::

    [project.entry-points."goodnet.scanners"]
    my_scanner = "my_package:MyScanner"
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from inspect import cleandoc
from typing import TYPE_CHECKING, Any, Literal

from goodnet.core.errors import InvalidOption, UnknownMethod

if TYPE_CHECKING:
    from goodnet.core.method import Method

Family = Literal["scanners", "repairers", "guards", "attacks"]
FAMILIES: tuple[Family, ...] = ("scanners", "repairers", "guards", "attacks")

#: Methods that are made of others: family -> name -> module:class.
_PIPELINES: dict[str, dict[str, str]] = {
    "scanners": {"ensemble": "goodnet.pipelines.scan_ensemble:ScanEnsemble"},
    "repairers": {"auto": "goodnet.pipelines.auto_repair:AutoRepair"},
    "guards": {"ensemble": "goodnet.pipelines.guard_ensemble:GuardEnsemble"},
}

#: Files of the families' folders that hold no method, but what several of a family share.
_SHARED = frozenset({"calibration", "poisoning"})


@cache
def names(family: Family) -> tuple[str, ...]:
    """Return the names of a family's methods, sorted, without importing them."""
    return tuple(sorted({*own_names(family), *_PIPELINES.get(family, {}), *_brought(family)}))


def own_names(family: Family) -> tuple[str, ...]:
    """Return the names of the methods that lie in the family's folder, one file each, sorted."""
    package = importlib.import_module(f"goodnet.{family}")
    return tuple(sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.name not in _SHARED))


@cache
def _brought(family: Family) -> dict[str, EntryPoint]:
    """Return the entry points of other packages; a name that goodnet has itself stays goodnet's."""
    taken = {*own_names(family), *_PIPELINES.get(family, {})}
    found = {point.name.replace("-", "_"): point for point in entry_points(group=f"goodnet.{family}")}
    return {name: point for name, point in found.items() if name not in taken}


def find(family: Family, name: str) -> type[Method]:
    """Return the class of method `name`: file `neural_cleanse.py` holds class `NeuralCleanse`.

    Raises:
        UnknownMethod: there is none, the message lists those there are; or another package's cannot be used.
    """
    word = name.replace("-", "_")
    if word in _PIPELINES.get(family, {}):
        module, _, class_name = _PIPELINES[family][word].partition(":")
        return _class(importlib.import_module(module), class_name)
    if word in own_names(family):
        module = importlib.import_module(f"goodnet.{family}.{word}")  # type: ignore[assignment]
        return _class(module, "".join(part.capitalize() for part in word.split("_")))
    if word in _brought(family):
        return _load(family, word, _brought(family)[word])
    raise UnknownMethod(f"unknown method '{name}' among the {family}; known: {', '.join(names(family)) or 'none yet'}")


def _class(module: Any, name: str) -> type[Method]:
    method: type[Method] = getattr(module, name)
    return method


def _load(family: Family, word: str, point: EntryPoint) -> type[Method]:
    from goodnet.core.method import Method

    package = point.dist.name if point.dist else "a package"
    try:
        method = point.load()
    except Exception as error:  # another's code may fail in any way
        raise UnknownMethod(
            f"method '{word}' of {package} does not load ({type(error).__name__}: {error}); update or remove it"
        ) from error
    if not (isinstance(method, type) and issubclass(method, Method) and method.family == family):
        raise UnknownMethod(
            f"method '{word}' of {package}: expected one of the {family}, got {point.value}; tell its authors"
        )
    if method.name() != word:
        raise UnknownMethod(
            f"method '{word}' of {package} calls itself '{method.name()}': expected the same word in its entry point"
        )
    return method


def make(family: Family, method: str | Method, options: Mapping[str, Any]) -> Method:
    """Return a method: the one given, or that of this name with these options.

    Raises:
        UnknownMethod: there is no such method, or it belongs to another family.
        InvalidOption: an option is misspelt or out of bounds, or comes with a method that has its own.
    """
    if isinstance(method, str):
        return find(family, method).from_options(**options)
    if isinstance(method, type):
        raise UnknownMethod(f"expected a method of the {family}, or its name, got the class: write {method.__name__}()")
    if getattr(method, "family", None) != family:
        raise UnknownMethod(f"expected a method of the {family}, or its name, got {type(method).__name__}")
    if options:
        given = ", ".join(options)
        raise InvalidOption(
            f"{method.name()}: the method has its options already; make it with {given}, or give its name"
        )
    return method


def describe(family: Family) -> dict[str, str]:
    """Return the first sentence of each method of a family, by name; what does not load says why."""
    described = {}
    for name in names(family):
        try:
            text = cleandoc(find(family, name).__doc__ or "")
        except UnknownMethod as error:
            text = str(error)
        described[name] = " ".join(text.partition("\n\n")[0].split()).split(". ")[0].rstrip(".")
    return described
