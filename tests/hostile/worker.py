"""A process that reads hostile files for the tests: each in a fork of its own, watched and measured.

It imports goodnet once, then takes jobs as lines of JSON on standard input and answers each with a line. A fork has a limit of
time and of address space; what it opens and calls is noted by an audit hook.
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import sys
import sysconfig
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

#: Of the processor a file may take five seconds, which the test judges; the clock stops it after so many, busy or not.
_SECONDS = 20
#: Address space beyond what the worker has, bytes: a belt for the machine; the test judges what was really taken.
_MOST_SPACE = 6 << 30


def read(reader: str, path: Path, confine: bool) -> Any:
    """Read a file through the Python API, a model in a confined process or in this one."""
    from goodnet import api
    from goodnet.api.loading import open_goodnet
    from goodnet.core.reading import Reading
    from goodnet.execution import Execution
    from goodnet.formats.layouts import read_cifar10, read_gtsrb, read_mnist
    from goodnet.formats.triggers import read_backdoors
    from goodnet.reports.policy import Policy

    readers: dict[str, Callable[[], Any]] = {
        "model": lambda: api.load_classifier(path, reading=Reading(confine=confine)).layers(),
        "weights": lambda: api.load_classifier(
            path, reading=Reading(architecture=_TINY, image_shape=_SHAPE, confine=confine)
        ).layers(),
        "data": lambda: _all_images(api.load_dataset(path)),
        "goodnet": lambda: open_goodnet(path, reading=Reading(confine=confine)),
        "zoo spec": lambda: api.build_zoo(path, out=path.parent / "zoo", where=Execution(workers=1)),
        "bench spec": lambda: api.bench(path, zoo=path.parent, out=path.parent / "bench", where=Execution(workers=1)),
        "policy": lambda: Policy.read(path),
        "runs": lambda: api.report([path], out=path.parent / "report.html"),
        "backdoors": lambda: read_backdoors(path / "suspected.npz"),
        "cifar10": lambda: read_cifar10(path),
        "mnist": lambda: read_mnist(path),
        "gtsrb": lambda: read_gtsrb(path),
    }
    return readers[reader]()


_TINY, _SHAPE = "tests.small_networks:tiny", (3, 12, 12)


def _all_images(dataset: Any) -> None:
    for _ in dataset.batches():
        pass


def command_line(reader: str, path: Path, picture: Path) -> list[str] | None:
    """Return the arguments with which a file reaches goodnet's command line, None where it does not by itself."""
    out, none = str(path.parent / "out"), str(path.parent / "none")
    weights = ["--architecture", _TINY, "--image-shape", "3,12,12"]
    arguments = {
        "model": ["inspect", str(path), "--no-confine"],
        "weights": ["inspect", str(path), "--no-confine", *weights],
        "data": ["inspect", str(path), "--no-confine"],
        "goodnet": ["predict", str(path), str(picture), "--no-confine"],
        "zoo spec": ["zoo", "build", str(path), "--out", out, "--workers", "1"],
        "bench spec": ["bench", str(path), "--zoo", none, "--out", out],
        "policy": ["scan", none, "--clean", none, "--policy", str(path)],
        "runs": ["report", str(path), "--out", f"{out}.html"],
        "cifar10": ["attack", str(path), *_ATTACK, out],
        "mnist": ["attack", str(path), *_ATTACK, out],
        "gtsrb": ["attack", str(path), *_ATTACK, out],
    }
    return arguments.get(reader)


_ATTACK = ["--attack", "badnets", "--architecture", "small_cnn", "--out"]


def _serve(arguments: list[str]) -> tuple[int, str, str]:
    """Run a command line in this process and return (exit code, standard output, standard error)."""
    from goodnet.cli import main

    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["goodnet", *arguments]
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, out.getvalue(), err.getvalue()


def _note_opens(folder: Path, opened: list[str]) -> None:
    """Take note of every file that Python opens outside the folder, Python itself, goodnet and the tests."""
    here = Path(__file__).parents[2]
    allowed = tuple(
        map(
            str,
            (
                folder,
                here,
                tempfile.gettempdir() + "/goodnet-worker",
                sys.prefix,
                sys.base_prefix,
                "/proc/self",
                "/dev/null",
            ),
        )
    )
    allowed += (sysconfig.get_paths()["stdlib"], str(Path(sys.modules["torch"].__file__ or "").parents[2]))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes):
            path = os.path.abspath(os.fsdecode(arguments[0]))
            if not path.startswith(allowed):
                opened.append(path)
        elif event == "socket.connect":
            opened.append(f"address {arguments[1]}")

    sys.addaudithook(hook)


def _status(key: str) -> int:
    """Return a number of kB that the system knows of this process."""
    text = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith(key)))


def _try(job: dict[str, Any]) -> dict[str, Any]:
    """Read one file, in the fork, through the API and the command line."""
    folder, path, picture = Path(job["folder"]), Path(job["path"]), Path(job["picture"])
    opened: list[str] = []
    _note_opens(folder, opened)
    tempfile.tempdir = str(folder / "temporary")
    before = _status("VmRSS")
    started = time.process_time()
    report: dict[str, Any] = {"raised": None, "chain": []}
    try:
        read(job["reader"], path, job["confine"])
    except BaseException as error:
        report["raised"] = {"type": type(error).__name__, "message": str(error), "known": _known(error)}
        report["chain"] = _chain(error)
        report["traceback"] = traceback.format_exc()[-3000:]
    report["seconds"] = time.process_time() - started
    arguments = command_line(job["reader"], path, picture)
    if arguments is not None and not job["confine"]:
        started = time.process_time()
        report["code"], report["out"], report["err"] = _serve(arguments)
        report["seconds"] = max(report["seconds"], time.process_time() - started)
    return report | {"mebibytes": (_status("VmHWM") - before) / 1024, "opened": opened}


def _known(error: BaseException) -> bool:
    from goodnet.core.errors import InputError

    return isinstance(error, InputError)


def _chain(error: BaseException | None) -> list[str]:
    names = []
    while error is not None:
        names.append(type(error).__name__)
        error = error.__cause__ or error.__context__
    return names


def _fork(job: dict[str, Any]) -> dict[str, Any]:
    """Try a file in a fork and return what it says, or how it ended."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.close(read_end)
        Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
        resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") * 1024 + _MOST_SPACE,) * 2)
        signal.alarm(_SECONDS)
        try:
            answer = json.dumps(_try(job))
        except BaseException:
            answer = json.dumps({"fault": traceback.format_exc()[-3000:]})
        with os.fdopen(write_end, "w") as stream:
            stream.write(answer)
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as stream:
        answer = stream.read()
    _, status = os.waitpid(child, 0)
    if status or not answer:
        return {"ended": f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {status}"}
    return dict(json.loads(answer))


def main() -> None:
    """Take jobs until there are no more."""
    import h5py
    import keras
    import onnxruntime
    import torch

    from goodnet import api, catalog
    from goodnet.cli import inspect, predict
    from goodnet.evaluation import bench, zoo
    from goodnet.reports import html

    torch.set_num_threads(1)
    _ = (h5py, keras, onnxruntime, api.load_classifier, catalog, inspect, predict, bench, zoo, html)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    for line in sys.stdin:
        answers.write(json.dumps(_fork(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
