"""All walls around a child: what the kernel offers, and Python's own notice of what a reader tries."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path
from typing import Any

from goodnet.confinement.landlock import forbid_files, landlock_version
from goodnet.confinement.limits import Limits
from goodnet.confinement.system_calls import filter_known, forbid_system_calls

#: What Python tells its watchers of, and what it is in words.
_ATTEMPTS = {
    "open": "open a file",
    "os.listdir": "list a folder",
    "os.scandir": "list a folder",
    "os.remove": "remove a file",
    "os.rename": "rename a file",
    "os.mkdir": "make a folder",
    "os.symlink": "make a link",
    "socket.__new__": "open a socket",
    "socket.getaddrinfo": "look up an address",
    "subprocess.Popen": "start a program",
    "os.system": "start a program",
    "os.exec": "start a program",
    "os.posix_spawn": "start a program",
    "os.fork": "start a process",
    "os.forkpty": "start a process",
    "ctypes.dlopen": "load a library",
}
#: Events whose first argument is a path or a name.
_NAMED = ("open", "os.", "subprocess.Popen", "ctypes.dlopen", "socket.getaddrinfo")
_DIE_WITH_PARENT, _SIGKILL = 1, 9


class Watch:
    """Notes and refuses what code in this process tries through Python. What native code tries, the kernel refuses."""

    def __init__(self) -> None:
        self.attempts: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Refuse an event; `sys.addaudithook` wants it so.

        Raises:
            PermissionError: it is an attempt to reach something outside.
        """
        what = _ATTEMPTS.get(event)
        # A file by its number is one that is open already.
        if what is None or (event == "open" and isinstance(arguments[0], int)):
            return
        named = f" ({str(arguments[0])[:80]!r})" if event.startswith(_NAMED) and arguments else ""
        self.attempts.append(f"it tried to {what}{named}")
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def close_walls(limits: Limits) -> tuple[Watch, list[str]]:
    """Confine this process, for ever, and return its watch, and in words which walls this system does not have."""
    missing = limits.apply()
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, _SIGKILL, 0, 0, 0)
    # Landlock binds the thread that asks for it.
    alone = _count_threads() == 1
    version = landlock_version()
    locked = alone and version > 0 and forbid_files(version)
    filtered = filter_known() and forbid_system_calls()
    if not locked:
        missing.append("no Landlock")
    if not filtered:
        missing.append("no filter of system calls")
    watch = Watch()
    sys.addaudithook(watch)
    return watch, missing


def _count_threads() -> int:
    try:
        return len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        return 1
