"""The hashed constraints are the plain ones, for all platforms. Where this fails: make hashes"""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def pins(lines: list[str]) -> dict[str, str]:
    requirements = [Requirement(line) for line in lines]
    return {canonicalize_name(requirement.name): str(requirement.specifier) for requirement in requirements}


@pytest.fixture(scope="module")
def plain(repository: Path) -> dict[str, str]:
    return pins((repository / "constraints.txt").read_text(encoding="utf-8").splitlines())


@pytest.fixture(scope="module")
def hashed(repository: Path) -> dict[str, set[str]]:
    """Each requirement as it is written, and its hashes."""
    text = (repository / "constraints-hashed.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    return {line.partition(" --hash")[0]: set(re.findall(r"--hash=sha256:(\w+)", line)) for line in text.splitlines()}


def test_every_line_has_hashes_and_no_file_has_two_lines(hashed: dict[str, set[str]]) -> None:
    found = [digest for digests in hashed.values() for digest in digests]
    assert all(hashed.values())
    assert all(len(digest) == 64 for digest in found)
    assert len(found) == len(set(found))


def test_both_name_the_same_versions(plain: dict[str, str], hashed: dict[str, set[str]]) -> None:
    versions = pins(list(hashed))
    assert {name: versions.get(name) for name in plain} == plain


def test_what_is_installed_here_is_what_is_pinned(plain: dict[str, str]) -> None:
    """A package that pyproject.toml asks for has a line; its version here is that one (a torch for CPUs has another ending)."""
    requirements = [Requirement(line) for line in importlib.metadata.requires("goodnet") or []]
    names = {canonicalize_name(requirement.name) for requirement in requirements}
    assert names <= plain.keys()
