"""Whether `goodnet serve` stands what strangers send: fuzzed requests, then what the server says of itself.

    .venv/bin/python benchmarks/serve_faults.py [--requests 10000] [--seed 0]

The requests are those of tests/serve/fuzzing.py: sound ones, damaged pictures, forms, heads and bytes on the wire, lying
sizes, oversized bodies. The network tells in its answer which picture it was given. Every sound request must get its own
answer, every other one a 4xx with a reason (or a 200, where the damage left a picture whole; 0 counts those that got
nothing, as an empty one does), and the server must be ready afterwards, with no 5xx on the way.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.serve_load import resident, running_server
from tests.serve.fuzzing import make_case
from tests.serve.telling_network import write_telling

CLIENTS = 16
LIMITS = ("--max-body-bytes=200000", "--max-pixels=1000000", "--max-images=8", "--body-seconds=2", "--threads=1")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--requests", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        network = write_telling(Path(folder))
        with running_server(network, *LIMITS) as (port, process):
            fuzz(port, 500, given.seed + 1)  # warm
            before = resident(process.pid)
            statuses = fuzz(port, given.requests, given.seed)
            alive = process.poll() is None
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as reply:
                health = json.load(reply)
            after = resident(process.pid)
    for status, count in sorted(statuses.items(), key=lambda item: str(item[0])):
        print(f"{status}: {count}")
    failures = sum(count for status, count in statuses.items() if isinstance(status, str) or status >= 500)
    print(f"{sum(statuses.values())} requests, {failures} of them wrong; alive {alive}, ready {health['ready']}")
    print(f"memory of the server: {before:.0f} MiB before, {after:.0f} MiB after")
    sys.exit(bool(failures) or not alive or not health["ready"])


def fuzz(port: int, requests: int, seed: int) -> Counter[int | str]:
    """Return how many requests got each status; what is wrong is counted by what was wrong."""
    rng = random.Random(seed)
    cases = (make_case(rng) for _ in range(requests))
    with ThreadPoolExecutor(CLIENTS) as pool:
        return Counter(pool.map(lambda case: send(case, port), cases))


def send(case: object, port: int) -> int | str:
    try:
        return case.send(port)  # type: ignore[attr-defined,no-any-return]
    except Exception as error:  # whatever it is, it is counted as a failure
        return f"wrong: {error!r}, {case.wire[:300]!r}"


if __name__ == "__main__":
    main()
