"""Hostile files: how they are listed, and where they lie while they are tried.

Each is made by a function of a family module, which is told the place: a folder of its own, a mark that a payload would
make, a secret that lies outside, and the port of a listener that nobody may call.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

#: The modules that make them, in the order of the table.
FAMILIES = (
    "keras_files",
    "keras_archives",
    "torch_files",
    "safetensors_files",
    "onnx_files",
    "hdf5_data",
    "npz_files",
    "pictures",
    "published_sets",
    "goodnet_folders",
    "specs",
    "records",
    "policies",
)


@dataclass(frozen=True)
class Place:
    """Where a file is made. `folder` is its own; `secret` lies in a folder that is watched."""

    folder: Path
    mark: Path
    secret: Path
    port: int

    @property
    def command(self) -> str:
        """A line for a shell that makes the mark and calls the listener."""
        return f"touch '{self.mark}'; exec 3<>/dev/tcp/127.0.0.1/{self.port}"


@dataclass(frozen=True)
class Case:
    """One hostile file.

    `kind` is its class in the table, `threat` the advisories that it stands for, `reader` what it is given to, `says` a part of
    the reason.
    """

    name: str
    kind: str
    reader: str
    says: str
    make: Callable[[Place], Path]
    threat: str = ""


@dataclass
class Family:
    """The hostile files of one module."""

    title: str
    cases: list[Case] = field(default_factory=list)

    def add(
        self, kind: str, reader: str, says: str, make: Callable[[Place], Path], name: str, threat: str = ""
    ) -> None:
        """Add a file that `make` writes."""
        self.cases.append(Case(f"{self.title}: {name}", f"{self.title}: {kind}", reader, says, make, threat))

    def file(
        self, kind: str, reader: str, says: str, *, threat: str = "", name: str = ""
    ) -> Callable[[Callable[[Place], Path]], Callable[[Place], Path]]:
        """Add the file that the decorated function writes; its name is the case's."""

        def keep(make: Callable[[Place], Path]) -> Callable[[Place], Path]:
            self.add(kind, reader, says, make, name or make.__name__.strip("_").replace("_", " "), threat)
            return make

        return keep


def all_cases() -> list[Case]:
    """Return every hostile file, family after family."""
    modules = (importlib.import_module(f"tests.hostile.{name}") for name in FAMILIES)
    return [case for module in modules for case in module.FAMILY.cases]
