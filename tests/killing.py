"""Killing a run at random moments and starting it again, until it is through."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

#: How often each run is killed; set GOODNET_KILLS=10 for the full measurement.
KILLS = int(os.environ.get("GOODNET_KILLS", "2"))


def run_with_kills(arguments: list[str], out: Path, *, seconds: float, seed: int = 0) -> int:
    """Run `goodnet ARGUMENTS`, kill it KILLS times within `seconds` of its first file in `out`, let it end; return kills."""
    rng, killed = random.Random(seed), 0
    command = [sys.executable, "-m", "goodnet", *arguments]
    for _ in range(KILLS):
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started = time.monotonic()
        while run.poll() is None and not out.exists() and time.monotonic() < started + 60:
            time.sleep(0.005)
        # Later runs find the folder at once: imports take about as long as what is left to do.
        time.sleep(rng.uniform(0, seconds) + (2.0 if killed else 0.0))
        if run.poll() is None:
            run.send_signal(signal.SIGKILL)
            killed += 1
        run.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    return killed
