"""Seconds until `goodnet scan` says something on a terminal, and until `goodnet scan --help` has ended; five runs of each.

    python benchmarks/first_message.py MODEL CLEAN    # nothing beside it

The scan runs on a pseudo-terminal and is ended after its first bytes. Bars: 2 s, and 0.3 s.
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time

RUNS = 5


def time_first_bytes(command: list[str]) -> float:
    """Return the seconds from the start of a command to its first output on a terminal."""
    started = time.perf_counter()
    child, terminal = pty.fork()
    if child == 0:
        os.execv(command[0], command)
    os.read(terminal, 1)
    seconds = time.perf_counter() - started
    os.kill(child, 9)
    os.waitpid(child, 0)
    os.close(terminal)
    return seconds


def time_help() -> float:
    """Return the seconds that the help of the scan takes."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "goodnet", "scan", "--help"], check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    model, clean = sys.argv[1:]
    scan = [sys.executable, "-m", "goodnet", "scan", model, "--clean", clean]
    for name, run in (("first message", lambda: time_first_bytes(scan)), ("help", time_help)):
        print(name, ", ".join(f"{seconds:.2f}" for seconds in sorted(run() for _ in range(RUNS))))


if __name__ == "__main__":
    main()
