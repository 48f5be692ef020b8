"""Limits grow with the file, and the kernel holds a process to them."""

import subprocess
import sys

import pytest

from goodnet.confinement.limits import Limits

MIB = 1 << 20


@pytest.mark.parametrize(
    ("size", "memory", "seconds", "written"), [(0, 256, 5, 256), (100, 556, 10, 556), (1000, 3256, 55, 3256)]
)
def test_a_file_may_cost_a_few_times_its_size(size: int, memory: int, seconds: int, written: int) -> None:
    assert Limits.for_file(size * MIB) == Limits(memory * MIB, seconds, written * MIB)


def test_a_process_is_held_to_its_limits() -> None:
    code = f"""
from goodnet.confinement.limits import Limits
import resource
missing = Limits(memory=64 << 20, seconds=7, written=1 << 20).apply()
try:
    bytearray(256 << 20)
except MemoryError:
    print("no memory")
print(missing, resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_FSIZE)[0] == {MIB})
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "no memory\n[] (16, 16) True\n"
