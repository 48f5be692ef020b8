"""Scan networks by others, whose truth is known, with one method: exact, accused, seconds.

    python benchmarks/strangers.py DIR [--method patch_probe] [--out FILE] [OPTION ...]
    python benchmarks/strangers.py DIR --method neural_cleanse --steps 1000 --images 32 --keep 1     # the paper's schedule
    python benchmarks/strangers.py DIR --method max_margin --published --starts 30 --steps 300       # as published

DIR holds truth.json (name -> model, architecture, clean set, targets), a folder for each network and `_clean/`. Each network
is scanned by a command of its own, in its folder, with the defaults or the options that follow, two at a time. FILE gets a
line for each as it ends, and those that are there already are not scanned again. Bar of the scan: every target, no other
class, no clean network accused.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

AT_ONCE = 2


def scan(
    folder: Path, name: str, truth: dict[str, Any], method: str, further: list[str], clean: Path
) -> dict[str, Any]:
    command = [sys.executable, "-m", "goodnet", "scan", truth["model"], "--method", method, "--json", "--workers", "1"]
    command += ["--clean", str(clean), *further]
    command += ["--architecture", truth["architecture"]] if truth["architecture"] else []
    code, printed, complaint, seconds = run(command, folder / name)
    row = {"name": name, "method": method, "true": truth["targets"], "seconds": round(seconds)}
    if code not in (0, 1, 3):
        return {**row, "verdict": complaint.strip().splitlines()[-1], "found": None, "score": None}
    content = json.loads(printed)
    scores = [score for score in content["scores"] if score is not None]
    found = sorted({item["target"] for item in content["suspected"]})
    return {
        **row,
        "verdict": content["verdict"],
        "found": found,
        "score": max(scores, default=None),
        "reason": content["reason"],
    }


def run(command: list[str], folder: Path) -> tuple[int, str, str, float]:
    """Return exit code, output, errors and processor seconds of a command in one thread.

    Processor time counts what the command and its workers computed: work beside it hardly changes that.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=err, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = [file.seek(0) or file.read() for file in (out, err)]
    return process.returncode, *texts, used.ru_utime + used.ru_stime


def _clean(folder: Path, truth: dict[str, Any]) -> Path:
    return folder / "_clean" / f"{truth['clean']}.h5"


def show(rows: list[dict[str, Any]]) -> None:
    table = Table()
    for column in ("network", "true targets", "verdict", "found", "highest score", "seconds"):
        table.add_column(column)
    for row in rows:
        score = "" if row["score"] is None else f"{row['score']:.1f}"
        table.add_row(*(str(row[key]) for key in ("name", "true", "verdict", "found")), score, str(row["seconds"]))
    console = Console(width=160)
    console.print(table)
    bad, clean = [row for row in rows if row["true"]], [row for row in rows if row["true"] == []]
    exact = sum(row["found"] == row["true"] for row in bad)
    wrong = sum(bool(row["found"]) and not set(row["found"]) <= set(row["true"]) for row in bad)
    missed = sum(row["verdict"] == "clean" for row in bad)
    undecided = sum(row["verdict"] == "inconclusive" for row in bad)
    console.print(
        f"backdoored {len(bad)}: exact {exact}, a wrong class {wrong}, called clean {missed}, inconclusive {undecided}; "
        f"clean {len(clean)}: accused {sum(bool(row['found']) for row in clean)}, "
        f"inconclusive {sum(row['verdict'] == 'inconclusive' for row in clean)}; "
        f"not read {sum(row['found'] is None for row in rows)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--method", default="ensemble")
    parser.add_argument("--out", type=Path, help="default: strangers_METHOD.jsonl")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these networks alone")
    options, further = parser.parse_known_args()
    out_path = options.out or Path(f"strangers_{options.method}.jsonl")
    truth = json.loads((options.folder / "truth.json").read_text())
    truth = {name: truth[name] for name in options.only or truth}
    lines = out_path.read_text().splitlines() if out_path.exists() else []
    rows = {row["name"]: row for row in map(json.loads, lines)}
    left = [name for name in truth if name not in rows]
    folder = options.folder.resolve()
    with ThreadPoolExecutor(AT_ONCE) as pool, out_path.open("a") as out:
        for row in pool.map(
            lambda name: scan(folder, name, truth[name], options.method, further, _clean(folder, truth[name])), left
        ):
            rows[row["name"]] = row
            print(json.dumps(row), file=out, flush=True)
    show([rows[name] for name in truth])


if __name__ == "__main__":
    main()
