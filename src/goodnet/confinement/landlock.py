"""Landlock, the Linux kernel's lock for a process that wants to reach less: no file, no TCP port, nobody else's process.

Linux has it since 5.13, for programs without any privilege. Three system calls do all; no library for them is kept well
enough to be worth a dependency. Numbers and structures: Documentation/userspace-api/landlock.rst of the kernel.
"""

from __future__ import annotations

import ctypes
import sys

#: System calls; they have these numbers on every architecture.
_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_GET_VERSION = 1
_NO_NEW_PRIVILEGES = 38
#: Versions of the interface, and all rights over files and folders that each knows: reading, writing, running, making, ...
_FILE_RIGHTS = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 5: 0xFFFF}
#: Since which version ports (bind, connect), and signals and abstract sockets of others, can be locked too.
_PORTS_SINCE, _OTHERS_SINCE = 4, 6


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("ports", ctypes.c_uint64), ("others", ctypes.c_uint64))


def landlock_version() -> int:
    """Return the version of Landlock that this kernel offers, 0 for none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, int(_libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _GET_VERSION)))


def forbid_files(version: int) -> bool:
    """Forbid this thread, for ever, every file that it has not open yet; return whether the kernel has done so.

    Args:
        version: what `landlock_version` says; not 0.
    """
    libc = _libc()
    rights = _FILE_RIGHTS[max(known for known in _FILE_RIGHTS if known <= version)]
    rules = _Ruleset(rights, 3 if version >= _PORTS_SINCE else 0, 3 if version >= _OTHERS_SINCE else 0)
    size = 8 + 8 * (version >= _PORTS_SINCE) + 8 * (version >= _OTHERS_SINCE)
    # A set of rules that allows nothing.
    ruleset = int(libc.syscall(_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(size), 0))
    return (
        ruleset >= 0
        and libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
        and libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    )


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
