"""Print every direct dependency at its lower bound, as constraints for pip: `name==bound`, one a line.

The tools of `dev`, `docs` and `release` have no bounds and take part as they are. What the dependencies need
themselves, pip chooses.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_REPOSITORY = Path(__file__).resolve().parents[1]

#: Taken from constraints.txt: this build of torch is the only one that machines without a network hold.
_AS_PINNED = ("torch",)
#: Extras that hold tools, not what a user installs.
_TOOLS = ("dev", "docs", "release")


def lowest_versions(project: str, pinned: str) -> list[str]:
    """Return the constraints, sorted by name.

    Args:
        project: the text of pyproject.toml.
        pinned: the text of constraints.txt.

    Raises:
        ValueError: a dependency has no lower bound, or two of them.
    """
    bounds: dict[str, str] = {}
    for requirement in _requirements(project):
        name, bound = canonicalize_name(requirement.name), _lower_bound(requirement)
        if bounds.setdefault(name, bound) != bound:
            raise ValueError(f"{name}: expected one lower bound, got {bounds[name]} and {bound}; choose one")
    pins = dict(line.split("==") for line in pinned.splitlines() if line)
    bounds |= {name: pins[name] for name in _AS_PINNED}
    return [f"{name}=={bound}" for name, bound in sorted(bounds.items())]


def _requirements(project: str) -> Iterator[Requirement]:
    """Yield what a user installs: the dependencies and every extra but those of tools."""
    content = tomllib.loads(project)["project"]
    extras = content["optional-dependencies"]
    for group in (content["dependencies"], *(extras[name] for name in extras if name not in _TOOLS)):
        yield from map(Requirement, group)


def _lower_bound(requirement: Requirement) -> str:
    bounds = [item.version for item in requirement.specifier if item.operator == ">="]
    if len(bounds) != 1:
        raise ValueError(f"{requirement}: expected one lower bound, got {len(bounds)}; write NAME>=VERSION")
    return bounds[0]


if __name__ == "__main__":
    texts = ((_REPOSITORY / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "constraints.txt"))
    print(*lowest_versions(*texts), sep="\n")
