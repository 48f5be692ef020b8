"""What the project says of itself in several files is the same, and the version stands in one."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import goodnet


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, object]:
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def citation(repository: Path) -> dict[str, object]:
    return yaml.safe_load((repository / "CITATION.cff").read_text(encoding="utf-8"))


def test_the_citation_has_what_the_format_asks_for(citation: dict[str, object]) -> None:
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()


def test_the_citation_says_what_the_package_says(citation: dict[str, object], project: dict[str, object]) -> None:
    assert citation["license"] == project["license"]
    assert citation["authors"] == project["authors"]
    assert citation["abstract"] == project["description"]


def test_the_version_is_stated_once(citation: dict[str, object], project: dict[str, object]) -> None:
    assert "version" not in citation
    assert "version" not in project
    assert metadata.version("goodnet") == goodnet.__version__


def test_who_installs_goodnet_alone_gets_no_extra() -> None:
    needed = [Requirement(line) for line in metadata.requires("goodnet") or []]
    plain = {item.name for item in needed if item.marker is None or item.marker.evaluate({"extra": ""})}
    assert {"torch", "keras", "h5py"} <= plain
    assert not {"onnx", "onnxruntime", "ray", "uvicorn", "fastapi", "Sphinx", "pytest"} & plain
