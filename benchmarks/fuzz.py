"""Damaged files for every reader: how many were refused, taken, and what went wrong.

    python benchmarks/fuzz.py all --count 2000
    python benchmarks/fuzz.py torch --count 200000 --first 0

A crash is whatever is not an error of goodnet's own: another exception, more than five seconds, memory beyond 512 MiB, the
end of the process. Each is printed with the number of its input; `--show NUMBER` writes that input to a file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ["KERAS_BACKEND"] = "torch"

from tests.hostile.fuzzing import READERS, Reader, chain, make_input, refusals

#: Inputs that one process reads; seconds and bytes that one input may take.
CHUNK, SECONDS, BYTES = 250, 5.0, 512 << 20


class TooSlow(BaseException):
    """An input took longer than it may."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reader", choices=[*READERS, "all"])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=1_000_000, help="number of the first input")
    parser.add_argument("--seconds", type=float, help="begin no further inputs of a reader after so long")
    parser.add_argument("--show", type=int, metavar="NUMBER", help="write this input to standard output and end")
    given = parser.parse_args()
    if given.show is not None:
        sys.stdout.buffer.write(make_input(READERS[given.reader], given.show))
        return
    print(
        "| reader | inputs | refused | taken | crashes | slowest | seconds |\n|---|---|---|---|---|---|---|", flush=True
    )
    for name in READERS if given.reader == "all" else [given.reader]:
        print(_row(name, given.first, given.count, given.seconds), flush=True)


def _row(name: str, first: int, count: int, seconds: float | None) -> str:
    started, done, counts, slowest = time.perf_counter(), 0, Counter(), 0.0
    make_input(READERS[name], 0)  # the sound files are made once, before the forks
    while done < count and (seconds is None or time.perf_counter() - started < seconds):
        numbers = range(first + done, first + min(done + CHUNK, count))
        found, longest = _run_chunk(name, READERS[name], numbers)
        counts.update(found)
        slowest, done = max(slowest, longest), done + len(numbers)
    took = time.perf_counter() - started
    ends = " | ".join(f"{counts[end]:,}" for end in ("refused", "taken", "crash"))
    return f"| {name} | {done:,} | {ends} | {slowest:.2f} s | {took:.0f} |"


def _run_chunk(name: str, reader: Reader, numbers: range) -> tuple[Counter[str], float]:
    """Read inputs in a process of their own; one that ends the process is a crash, and the next process goes on after it."""
    counts, slowest, place = Counter(), 0.0, 0
    while place < len(numbers):
        answers = _fork(reader, numbers[place:])
        for answer in answers:
            counts[answer["end"]] += 1
            slowest = max(slowest, answer["seconds"])
            if answer["end"] == "crash":
                print(f"{name} {answer['number']}: {answer['what']}", file=sys.stderr, flush=True)
        place += len(answers)
        if place < len(numbers):
            print(f"{name} {numbers[place]}: the process ended", file=sys.stderr, flush=True)
            counts["crash"] += 1
            place += 1
    return counts, slowest


def _fork(reader: Reader, numbers: range) -> list[dict]:
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.close(read_end)
        with os.fdopen(write_end, "w") as stream, tempfile.TemporaryDirectory() as folder:
            _read_all(reader, numbers, Path(folder), stream)
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as stream:
        answers = [json.loads(line) for line in stream if line.endswith("\n")]
    os.waitpid(child, 0)
    return answers


def _read_all(reader: Reader, numbers: range, folder: Path, stream) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_kilobytes("VmSize") * 1024 + (9 << 30),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _stop)
    for number in numbers:
        place = folder / "input"
        place.mkdir()
        stream.write(json.dumps({"number": number} | read_one(reader, number, place)) + "\n")
        stream.flush()
        shutil.rmtree(place)


def read_one(reader: Reader, number: int, folder: Path) -> dict:
    content, before = make_input(reader, number), _kilobytes("VmRSS")
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    started, end, what = time.perf_counter(), "taken", ""
    signal.setitimer(signal.ITIMER_REAL, 4 * SECONDS)
    try:
        reader.read(content, folder)
    except refusals() as error:
        end = "refused"
        if any(isinstance(item, MemoryError) for item in chain(error)):
            end, what = "crash", f"memory was asked for: {error}"
    except TooSlow:
        end, what = "crash", "more than 20 s"
    except BaseException:
        end, what = "crash", traceback.format_exc()[-1500:]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    seconds, taken = time.perf_counter() - started, (_kilobytes("VmHWM") - before) * 1024
    if end != "crash" and (seconds > SECONDS or taken > BYTES):
        end, what = "crash", f"{seconds:.1f} s, {taken >> 20} MiB"
    return {"end": end, "what": what, "seconds": seconds}


def _stop(*_) -> None:
    raise TooSlow


def _kilobytes(key: str) -> int:
    return next(
        int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)
    )


if __name__ == "__main__":
    main()
