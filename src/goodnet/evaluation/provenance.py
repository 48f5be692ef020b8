"""Hashes of what a result depends on: files, options, and the source code that made it."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from goodnet.formats.files import sha256

_PACKAGE = "goodnet"


def hash_json(content: Any) -> str:
    """Return the SHA-256 of something that JSON can say, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def hash_files(paths: Iterable[Path]) -> str:
    """Return one hash for files and folders, in their order."""
    return hash_json([_hash_file(str(path), _state(path)) for path in paths])


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@cache
def _hash_file(path: str, state: tuple[int, int]) -> str:
    """Return a file's hash; the same file is read once as long as its time and size stay. A folder is read each time."""
    return sha256(path)


@cache
def hash_source(*modules: str, without: tuple[str, ...] = ()) -> str:
    """Return a hash of the source of modules of goodnet and of all that they import of goodnet.

    Left out with all that they import: the modules `without`, and the package itself, which only hands names on.
    """
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in found or module in (_PACKAGE, *without):
            continue
        source = _read_source(module)
        if source is not None:
            found[module] = hashlib.sha256(source.encode()).hexdigest()
            waiting += _imports(source)
    return hash_json(found)


def _read_source(module: str) -> str | None:
    """Return a module's source, None where there is no such module (a name inside one)."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    if spec is None or spec.origin is None or not os.path.isfile(spec.origin):
        return None
    return Path(spec.origin).read_text(encoding="utf-8")


def _imports(source: str) -> list[str]:
    """Return the names in a source that may be modules of goodnet."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.split(".")[0] == _PACKAGE]
