"""Makes a fault happen at a chosen step of a `goodnet` command, in a forked child, and tells how the command ended.

A step is a moment at which a command begins to write a file or puts it under its name, or has the outcome of a task. The
process that calls `run` must not have computed anything with torch before: its children inherit its locks.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

#: How much memory a process that is "out of memory" may still take.
_SPARE = 1 << 20


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (negative: the signal), what it said, its steps, and what it put in place."""

    code: int
    err: str
    steps: int
    written: tuple[str, ...]


def run(arguments: list[str], fault: str | None = None, step: int = 0, out: Path | None = None) -> Ended:
    """Run `goodnet ARGUMENTS`; at its step number `step` (from 1) the fault happens, which concerns the folder `out`."""
    with tempfile.TemporaryFile() as said, tempfile.NamedTemporaryFile() as log:
        child = os.fork()
        if child == 0:
            _be_command(arguments, _Injection(fault, step, out, log.name), said.fileno())
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        lines = Path(log.name).read_text().splitlines()
        written = tuple(line.removeprefix("= ") for line in lines if line.startswith("= "))
        return Ended(code, said.read().decode(errors="replace"), lines.count("step"), written)


def _be_command(arguments: list[str], injection: _Injection, said: int) -> None:
    """Be the command in this process, which ends with it."""
    code = 70
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(said, 2)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        give_up_privileges()
        injection.install()
        from goodnet.cli import main

        sys.argv = ["goodnet", *arguments]
        main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        for worker in multiprocessing.active_children():
            worker.kill()
        sys.stderr.flush()
        os._exit(code)


def give_up_privileges() -> None:
    """Let permissions of files hold for root too."""
    if os.geteuid() == 0:
        header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        if ctypes.CDLL(None, use_errno=True).capset(header, none) != 0:
            raise OSError(ctypes.get_errno(), "capset")


@dataclass
class _Injection:
    """Counts steps and lets the fault happen at one of them."""

    fault: str | None
    step: int
    out: Path | None
    log: str
    count: int = 0

    def install(self) -> None:
        """Be called at each step of this process, and of the workers that it makes by forking."""
        from goodnet.evaluation import bench, zoo

        mkdtemp, replace, note = tempfile.mkdtemp, os.replace, zoo.note_failure

        def counting_mkdtemp(*args: object, **kwargs: object) -> str:
            self.reach()
            return mkdtemp(*args, **kwargs)  # type: ignore[call-overload, no-any-return]

        def counting_replace(source: str, target: str) -> None:
            self.reach()
            replace(source, target)
            self.tell(f"= {os.fsdecode(target)}")

        def counting_note(*args: object) -> None:
            self.reach()
            note(*args)  # type: ignore[arg-type]

        tempfile.mkdtemp, os.replace = counting_mkdtemp, counting_replace  # type: ignore[assignment]
        zoo.note_failure = bench.note_failure = counting_note  # type: ignore[assignment]

    def tell(self, line: str) -> None:
        with open(self.log, "a") as stream:
            stream.write(line + "\n")

    def reach(self) -> None:
        self.count += 1
        self.tell("step")
        if self.fault is not None and self.count == self.step:
            FAULTS[self.fault](self.out or Path())


def _fill_disk(out: Path) -> None:
    """Leave no room on the file system of `out`; a limit to the size of files where it is not one of our own."""
    if not os.path.ismount(out):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        return
    ballast = os.open(out / "ballast", os.O_WRONLY | os.O_CREAT)
    for size in (1 << 16, 512, 1):
        try:
            while os.write(ballast, bytes(size)):
                pass
        except OSError:
            continue
    os.close(ballast)


def _lose_permission(out: Path) -> None:
    for folder in [out, *(path for path in out.rglob("*") if path.is_dir())]:
        folder.chmod(0o555)


def _lose_worker(_: Path) -> None:
    workers = multiprocessing.active_children()
    if workers:
        os.kill(workers[0].pid or 0, signal.SIGKILL)


def _lose_memory(_: Path) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _SPARE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _set_clock_back(_: Path) -> None:
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() - 86_400  # type: ignore[assignment]
    time.time_ns = lambda: now_ns() - 86_400 * 10**9  # type: ignore[assignment]


def _signal(number: int) -> Callable[[Path], None]:
    return lambda _: os.kill(os.getpid(), number)


#: What can happen; each takes the output folder.
FAULTS: dict[str, Callable[[Path], None]] = {
    "full disk": _fill_disk,
    "permission lost": _lose_permission,
    "kill -9": _signal(signal.SIGKILL),
    "SIGTERM": _signal(signal.SIGTERM),
    "Ctrl-C": _signal(signal.SIGINT),
    "out of memory": _lose_memory,
    "worker lost": _lose_worker,
    "clock set back": _set_clock_back,
}
