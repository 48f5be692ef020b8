"""What a child may use up: memory, computing time, open files, processes, bytes written. The kernel holds it to that."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass
from pathlib import Path

try:
    import resource
except ImportError:  # no such module on Windows
    resource = None  # type: ignore[assignment]

_MIB = 1 << 20
#: Files that a child may have open at once: its five, and a few that a library opens on the way.
_OPEN_FILES = 16
#: Seconds between the two limits of computing time.
_GRACE = 5


@dataclass(frozen=True)
class Limits:
    """How much reading a file may cost.

    Args:
        memory: bytes of address space, beyond what the child has when it begins to read.
        seconds: of computing, likewise.
        written: the largest file that it may write, in bytes.
    """

    memory: int
    seconds: int
    written: int

    @classmethod
    def for_file(cls, size: int) -> Limits:
        """Return the limits for a file of `size` bytes: a library may hold a few copies of it, and no more."""
        return cls(
            memory=256 * _MIB + 3 * size,
            seconds=5 + math.ceil(size / (20 * _MIB)),
            written=256 * _MIB + 3 * size,
        )

    @property
    def patience(self) -> int:
        """Seconds by the clock after which nobody waits any more; other programs may take most of the machine."""
        return 60 + 10 * self.seconds

    def apply(self) -> list[str]:
        """Hold this process to the limits, for ever, and return those that this system does not have, in words."""
        missing = []
        if (in_use := _address_space()) is None or not _set("RLIMIT_AS", in_use + self.memory):
            missing.append("no limit of memory")
        # The kernel ends it at the first limit by a signal that tells which limit it was, at the second by one that does not.
        seconds = math.ceil(time.process_time()) + self.seconds
        if not _set("RLIMIT_CPU", seconds, seconds + _GRACE):
            missing.append("no limit of time but by the clock")
        if not (_set("RLIMIT_NOFILE", _OPEN_FILES) and _set("RLIMIT_FSIZE", self.written) and _set("RLIMIT_NPROC", 0)):
            missing.append("no limit of files and processes")
        _set("RLIMIT_CORE", 0)
        return missing


def _set(name: str, value: int, hard: int | None = None) -> bool:
    with contextlib.suppress(AttributeError, OSError, ValueError):
        resource.setrlimit(getattr(resource, name), (value, hard or value))
        return True
    return False


def _address_space() -> int | None:
    """Return how many bytes this process has mapped; None where the system does not say."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    except OSError:
        return None
    return int(pages) * resource.getpagesize()
