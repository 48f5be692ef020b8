"""Every fault in every long verb: what is left, how the command ends, and whether running it again ends as if nothing was.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/faults.py [--verbs scan,repair] [--faults "kill -9"] [--moments 4]

Each command runs once undisturbed, and then with the fault at `--moments` of its steps, spread from the first to the last (0:
at every one), see tests/reliability/faults.py. After each the command is run again, a scan with --resume. Checked are:

* the exit code, and one line on standard error;
* that each file under its name is one of the undisturbed run's, to the byte (times aside);
* that running again ends with the undisturbed run's files and no others, and does no finished part, network or cell again.

The full disk is a small tmpfs of its own, filled up; where none can be mounted, files may no longer grow (RLIMIT_FSIZE). The
clock is set back by a day for `time.time` of the command alone. `--ray` kills a node of a Ray cluster of two on this machine.
What is in benchmarks/values/faults.jsonl is not run again; `--table` only prints the table of docs/reliability.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.micro_zoo import BENCH, ZOO
from tests.reliability.faults import Ended, run

ROOT = Path(__file__).resolve().parents[1]
VALUES = ROOT / "benchmarks" / "values" / "faults.jsonl"
MARK = "tests.data.twin_network:build"
#: A fault, and the exit codes that end it well.
CODES = {
    "read-only output": (2,),
    "full disk": (2,),
    "permission lost": (2,),
    "kill -9": (-9,),
    "SIGTERM": (143,),
    "Ctrl-C": (130,),
    "out of memory": (3,),
    "worker lost": (0,),
    "clock set back": (0,),
    "Ray node lost": (0,),
}
#: What a killed or ended run may leave besides whole files: it is in nobody's way.
UNFINISHED = re.compile(r"(^|/)(\.goodnet\.[^/]*|unfinished|checkpoints|checkpoint_\w+\.pt|ballast)(/|$)")
TIMES = ("seconds", "started")


@dataclass(frozen=True)
class Job:
    """A command whose last word is its output; `again` goes with it when it is run again; `kept` is finished work.

    `tells` are the files in which it says which of its parts had too little memory; it goes on without them.
    """

    verb: str
    words: tuple[str, ...]
    ends: tuple[int, ...] = (0,)
    again: tuple[str, ...] = ()
    kept: str = "nothing"
    spread: bool = False
    file: str = ""
    tells: str = "nothing"


#: What is finished work of verbs that are spread over workers, and in which files they tell what failed.
PARTS: dict[str, dict[str, Any]] = {
    "zoo build": {"kept": r"(pairs/\w+|data)/\w+$", "tells": r"^manifest\.json$", "spread": True},
    "bench": {"kept": r"cells/\w+$", "tells": r"^(cells\.json|\w+\.csv|cells/\w+/cell\.json)$", "spread": True},
}


def jobs(inputs: Path) -> dict[str, Job]:
    net = str(inputs / "planted.safetensors")
    model = (net, "--architecture", MARK, "--no-confine")
    clean = ("--clean", str(inputs / "clean.h5"))
    attack = ("digits:8", "--epochs", "4", "--rate", "0.1", "--target", "3")
    listed = [
        Job("scan", ("scan", *model, *clean, "--steps", "30"), (0, 1), ("--resume",), r"unfinished/\w+\.pt$", True),
        Job("repair", ("repair", *model, *clean, "--method", "pruning", "--target", "7", "--keep-all")),
        Job("guard", ("guard", *model, *clean, "--method", "disagreement", "--target", "7", "--repaired", net)),
        Job("attack", ("attack", *attack)),
        Job("zoo build", ("zoo", "build", str(inputs / "zoo.toml")), **PARTS["zoo build"]),
        Job("bench", ("bench", str(inputs / "bench.toml"), "--zoo", str(inputs / "zoo")), **PARTS["bench"]),
        Job(
            "export",
            ("export", str(inputs / "repair" / "goodnet"), "--architecture", MARK, "--format", "pt2", "--input-range", "0..1"),
            file="goodnet.pt2",
        ),
    ]  # fmt: skip
    return {job.verb: job for job in listed}


def words_of(job: Job, out: Path, workers: int, *, again: bool = False) -> list[str]:
    spread = ("--workers", str(workers)) if job.spread else ()
    return [*job.words, *spread, *(job.again if again else ()), "--out", str(out / job.file)]


def make_inputs(folder: Path, verbs: list[str]) -> None:
    """Write what the commands read, each with a process of its own: this one stays as it was imported."""
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from tests.conftest import _load_twin\nfrom goodnet.formats.arrays import write_hdf5\n"
        "twin, folder = _load_twin('planted'), Path(sys.argv[1])\n"
        "twin.classifier.save(folder / 'planted.safetensors'); write_hdf5(folder / 'clean.h5', twin.clean)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(folder), str(ROOT)], check=True)
    (folder / "zoo.toml").write_text(ZOO)
    (folder / "bench.toml").write_text(BENCH.replace("[0, 1, 2]", "[0]"))
    needed = {"export": "repair", "bench": "zoo build"}
    for verb in (needed[verb] for verb in verbs if verb in needed):
        ended = run(words_of(jobs(folder)[verb], folder / verb.split()[0], 1))
        assert ended.code == 0, ended.err


class Place:
    """An output folder, on a small disk of its own where one can be mounted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", "size=64m,mode=755", "tmpfs", str(path)]
        self.own = (
            shutil.which("mount") is not None
            and subprocess.run(mount, capture_output=True, check=False).returncode == 0
        )

    def empty(self) -> None:
        """Remove all that is in it."""
        self.allow()
        for item in self.path.iterdir():
            shutil.rmtree(item) if item.is_dir() else item.unlink()

    def allow(self) -> None:
        """Give back what the fault took: permissions and room."""
        for folder in [self.path, *(path for path in self.path.rglob("*") if path.is_dir())]:
            folder.chmod(0o755)
        (self.path / "ballast").unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder and its disk."""
        self.empty()
        if self.own:
            subprocess.run(["umount", str(self.path)], check=True)
        self.path.rmdir()


def content(out: Path) -> dict[str, str]:
    """Return a hash of each file under its name, times in it left out."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.is_file() and not UNFINISHED.search(name) and path.name != "seconds.csv":
            found[name] = hashlib.sha256(_without_times(path)).hexdigest()
    return found


def _without_times(path: Path) -> bytes:
    read = path.read_bytes()
    if path.suffix != ".json":
        return read
    try:
        values = json.loads(read)
    except ValueError:
        return read
    return json.dumps({key: value for key, value in values.items() if key not in TIMES}).encode()


def left_behind(out: Path) -> list[str]:
    return [str(path.relative_to(out)) for path in out.rglob("*") if UNFINISHED.search(str(path.relative_to(out)))]


def try_fault(job: Job, fault: str, step: int, place: Place, whole: dict[str, str], workers: int) -> list[str]:
    """Let a fault happen and run the command again; return what was wrong."""
    out = place.path
    place.empty()
    if fault == "read-only output":
        out.chmod(0o555)
        ended = run(words_of(job, out, workers))
    else:
        ended = run(words_of(job, out, workers), fault, step, out)
    place.allow()
    present = content(out)
    differing = {name for name, value in present.items() if whole.get(name) != value}
    told = {name for name in differing if fault == "out of memory" and re.search(job.tells, name)}
    # What is put under its name needs no more room, and what is there already no more memory.
    enough = fault in ("full disk", "out of memory") and ended.code in job.ends and (present == whole or told)
    wrong = [] if enough else _judge_end(job, fault, ended)
    wrong += [f"'{name}' is under its name and not whole" for name in sorted(differing - told)]
    if CODES[fault] == (0,):
        return wrong + ([] if present == whole else ["the result is another one"])
    unlike = {out / name for name in differing}
    found = (path for path in out.rglob("*") if re.search(job.kept, str(path)) and ".goodnet." not in str(path))
    finished = {str(path) for path in found if not any(name.is_relative_to(path) for name in unlike)}
    again = run(words_of(job, out, workers, again=True))
    if again.code not in job.ends:
        wrong.append(f"run again: {again.code}, {again.err[-300:]!r}")
    if content(out) != whole:
        wrong.append("run again: the result is another one")
    wrong += [f"run again: '{name}' was done again" for name in finished.intersection(again.written)]
    wrong += [f"run again: '{name}' is left behind" for name in left_behind(out)]
    return wrong


def _judge_end(job: Job, fault: str, ended: Ended) -> list[str]:
    wrong = []
    codes = job.ends if CODES[fault] == (0,) else CODES[fault]
    if ended.code not in codes:
        wrong.append(f"exit code {ended.code}, {ended.err[-300:]!r}")
    lines = 0 if ended.code in job.ends or ended.code < 0 else 1
    said = [line for line in ended.err.splitlines() if not line.startswith("goodnet: note: ")]
    if len(said) != lines or not all(line.startswith("goodnet: ") for line in said):
        wrong.append(f"it said {ended.err[-300:]!r}")
    return wrong


def moments(steps: int, count: int) -> list[int]:
    """Return `count` steps from the first to the last; all of them where `count` is 0."""
    if count == 0 or steps <= count:
        return list(range(1, steps + 1))
    return sorted({1 + round(place * (steps - 1) / (count - 1)) for place in range(count)})


def measure(job: Job, faults: list[str], count: int, place: Place, values: Path) -> None:
    for workers in (1, 2):
        done = read_done(values)
        mine = [name for name in faults if (name == "worker lost") == (workers == 2) and (job.verb, name) not in done]
        if not mine or (workers == 2 and not job.spread):
            continue
        place.empty()
        ended = run(words_of(job, place.path, workers))
        assert ended.code in job.ends, ended
        whole = content(place.path)
        for fault in mine:
            steps = [0] if fault == "read-only output" else moments(ended.steps, count)
            started, wrong = time.monotonic(), {}
            for step in steps:
                wrong[step] = try_fault(job, fault, step, place, whole, workers)
            wrong = {step: what for step, what in wrong.items() if what}
            note(values, job.verb, fault, len(steps), ended.steps, wrong, time.monotonic() - started)


def read_done(values: Path) -> set[tuple[str, str]]:
    return {(record["verb"], record["fault"]) for record in map(json.loads, values.read_text().splitlines())}


def note(values: Path, verb: str, fault: str, count: int, of: int, wrong: dict[int, list[str]], seconds: float) -> None:
    record = {
        "verb": verb,
        "fault": fault,
        "moments": count,
        "of": of,
        "wrong": wrong,
        "seconds": round(seconds, 1),
    }
    with values.open("a") as stream:
        stream.write(json.dumps(record) + "\n")
    print(json.dumps(record), flush=True)


def lose_ray_node(job: Job, place: Place, scratch: Path, values: Path) -> None:
    """Run a command on two Ray nodes and kill one when the first work has begun."""
    from tests.test_execution import Cluster

    place.empty()
    alone = run(words_of(job, place.path, 1))
    assert alone.code in job.ends, alone
    whole = content(place.path)
    place.empty()
    (scratch / "ray").mkdir(parents=True, exist_ok=True)
    cluster, started = Cluster(scratch / "ray"), time.monotonic()
    cluster.environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    try:
        cluster.start()
        command = [*job.words, "--cluster", cluster.address, "--out", str(place.path)]
        environment = cluster.environment | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        child = subprocess.Popen(
            [sys.executable, "-m", "goodnet", *command],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        begun = re.compile(r"/(unfinished/\w+\.pt|cells/|pairs/\w+/)")
        while child.poll() is None and not any(begun.search(str(path)) for path in place.path.rglob("*")):
            time.sleep(0.05)
        early = child.poll() is None
        cluster.kill_second_node()
        _, said = child.communicate(timeout=300)
    finally:
        cluster.stop()
        shutil.rmtree(scratch, ignore_errors=True)
    wrong = [] if child.returncode in job.ends else [f"exit code {child.returncode}, {said[-300:]!r}"]
    wrong += [] if early else ["it had ended before the node was killed"]
    wrong += [] if content(place.path) == whole else ["the result is another one"]
    note(values, job.verb, "Ray node lost", 1, 1, {1: wrong} if wrong else {}, time.monotonic() - started)


def table(values: Path) -> str:
    records = {(r["verb"], r["fault"]): r for r in map(json.loads, values.read_text().splitlines())}
    verbs = list(dict.fromkeys(verb for verb, _ in records))
    lines = ["| fault | " + " | ".join(verbs) + " |", "|---" * (len(verbs) + 1) + "|"]
    for fault in CODES:
        cells = []
        for verb in verbs:
            record = records.get((verb, fault))
            cells.append("" if record is None else f"{record['moments'] - len(record['wrong'])} of {record['moments']}")
        lines.append(f"| {fault} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verbs", default="")
    parser.add_argument("--faults", default="")
    parser.add_argument("--moments", type=int, default=4)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--values", type=Path, default=VALUES)
    given = parser.parse_args()
    given.values.touch()
    if not given.table:
        os.environ.setdefault("KERAS_BACKEND", "torch")
        import goodnet.api
        import goodnet.cli.verbs  # noqa: F401  # children have it at once

        with tempfile.TemporaryDirectory(prefix="goodnet-faults-") as name:
            try_all(Path(name), given)
    print(table(given.values))


def try_all(folder: Path, given: argparse.Namespace) -> None:
    listed = jobs(folder)
    verbs = given.verbs.split(",") if given.verbs else list(listed)
    faults = given.faults.split(",") if given.faults else [name for name in CODES if name != "Ray node lost"]
    make_inputs(folder, verbs)
    place = Place(folder / "out")
    try:
        for job in (listed[verb] for verb in verbs):
            if not given.ray:
                measure(job, faults, given.moments, place, given.values)
            elif job.spread and (job.verb, "Ray node lost") not in read_done(given.values):
                lose_ray_node(job, place, Path("/tmp") / f"gn-{os.getpid()}-{job.verb[:3]}", given.values)
    finally:
        place.close()


if __name__ == "__main__":
    main()
