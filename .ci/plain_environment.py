"""Make the virtual environment that `pip install WHEEL` would make, without a network.

python plain_environment.py WHEEL FOLDER [EXTRA ...]

The wheel is installed; what it depends on, and no more, is linked from the environment that runs this.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def make_environment(wheel: Path, folder: Path, extras: Iterable[str] = ()) -> Path:
    """Return the Python of a new environment in `folder` that holds the wheel and what it depends on.

    Raises:
        PackageNotFoundError: something that it depends on is not installed here.
        CalledProcessError: pip could not install the wheel, or something is missing in the environment.
    """
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    (packages,) = folder.glob("lib/python*/site-packages")
    (info,) = metadata.distributions(path=[str(wheel)])
    for distribution in _needed(info.requires or [], extras):
        _link(distribution, packages)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    subprocess.run([*pip, "check"], check=True)
    return python


def _needed(requirements: list[str], extras: Iterable[str]) -> Iterable[metadata.Distribution]:
    """Return all distributions that the requirements lead to, each once."""
    waiting = [(line, extra) for line in requirements for extra in ("", *extras)]
    found: dict[str, metadata.Distribution] = {}
    seen = set[tuple[str, str]]()
    while waiting:
        line, extra = pair = waiting.pop()
        requirement = Requirement(line)
        if pair in seen or (requirement.marker and not requirement.marker.evaluate({"extra": extra})):
            continue
        seen.add(pair)
        distribution = found.setdefault(canonicalize_name(requirement.name), metadata.distribution(requirement.name))
        waiting += [(more, wanted) for more in distribution.requires or [] for wanted in ("", *requirement.extras)]
    return found.values()


def _link(distribution: metadata.Distribution, packages: Path) -> None:
    """Link the folders and files that lie side by side in site-packages; a namespace that several share is linked once."""
    for name in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
        link = packages / name
        if not link.exists():
            link.symlink_to(Path(str(distribution.locate_file(name))).resolve())


if __name__ == "__main__":
    make_environment(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
