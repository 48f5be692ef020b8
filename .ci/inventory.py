"""List what a release brings along: python inventory.py WHEEL FOLDER.

`licences.json` and `sbom.cdx.json` (CycloneDX) of the wheel with all extras that users install are written into FOLDER.
Ends with 1 where a licence is not on the list in pyproject.toml ([tool.pip-licenses]).
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from plain_environment import make_environment

_REPOSITORY = Path(__file__).resolve().parents[1]
_TOOLS = Path(sys.executable).parent
_EXTRAS = ("onnx", "ray", "serve")


def write_inventory(wheel: Path, folder: Path) -> None:
    """Write both lists.

    Raises:
        CalledProcessError: a licence is not allowed, or a tool failed; it has said why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        python = make_environment(wheel.resolve(), Path(scratch) / "environment", _EXTRAS)
        licences, bill = folder.resolve() / "licences.json", folder.resolve() / "sbom.cdx.json"
        _run("pip-licenses", "--python", str(python), "--format", "json", "--output-file", str(licences))
        _run(
            "cyclonedx-py",
            *("environment", "--pyproject", "pyproject.toml", "--output-reproducible"),
            *("--output-file", str(bill), str(python)),
        )
    (info,) = importlib.metadata.distributions(path=[str(wheel)])
    content = json.loads(bill.read_text(encoding="utf-8"))
    # pyproject.toml does not state the version, so the tool leaves it out.
    content["metadata"]["component"]["version"] = info.version
    bill.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _run(tool: str, *arguments: str) -> None:
    subprocess.run([str(_TOOLS / tool), *arguments], check=True, cwd=_REPOSITORY)


if __name__ == "__main__":
    try:
        write_inventory(Path(sys.argv[1]), Path(sys.argv[2]))
    except subprocess.CalledProcessError as error:
        sys.exit(f"inventory: {Path(error.cmd[0]).name} ended with {error.returncode}; it says above why")
