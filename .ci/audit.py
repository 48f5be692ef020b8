"""Ask an advisory data base about every pinned package: python audit.py [CONSTRAINTS].

Ends with 0 where all were looked up and none has a known hole, with 1 where one has, and with 75 where the data base could
not be asked about all of them: that is not a pass.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[1]
NOT_AUDITED = 75


def judge(answer: str, complaint: str) -> tuple[int, list[str]]:
    """Return the exit code and what to say.

    Args:
        answer: the JSON that pip-audit printed, or nothing.
        complaint: what it said besides.
    """
    try:
        packages = json.loads(answer)["dependencies"]
    except ValueError:
        said = complaint.strip().splitlines()[-1:]
        return NOT_AUDITED, [f"NOT AUDITED: pip-audit gave no answer{': ' + said[0] if said else ' and no reason'}"]
    if not packages:
        return NOT_AUDITED, ["NOT AUDITED: pip-audit looked at no package"]
    holes = [
        f"{package['name']} {package['version']}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'no version'}"
        for package in packages
        for hole in package.get("vulns", ())
    ]
    if holes:
        return 1, holes
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    if unknown:
        names = ", ".join([*unknown[:3], "..."] if len(unknown) > 3 else unknown)
        return NOT_AUDITED, [
            f"NOT AUDITED: {len(unknown)} of {len(packages)} packages could not be looked up ({names}); "
            "run it where the advisory data base can be reached"
        ]
    return 0, [f"audited: {len(packages)} packages, no known hole"]


def main(constraints: Path) -> int:
    """Run pip-audit and print what came of it; return the exit code."""
    command = [str(Path(sys.executable).parent / "pip-audit"), "--progress-spinner", "off", "--format", "json"]
    command += ["--require-hashes", "--disable-pip", "--requirement", str(constraints)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    code, lines = judge(done.stdout, done.stderr)
    print(*lines, sep="\n")
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else _REPOSITORY / "constraints-hashed.txt"))
