"""A filter of system calls (seccomp): what a process may still ask of the Linux kernel.

It may read and write what it has open, take and give back memory, look at clocks, and end. Everything else, opening a file,
a socket, a process, fails as forbidden. The filter is a program of a few instructions that the kernel runs before each call
(Documentation/userspace-api/seccomp_filter.rst). The Python bindings of libseccomp are not kept any more.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import sys

#: What is allowed, by its number on x86_64.
_ALLOWED = {
    **{"read": 0, "write": 1, "close": 3, "fstat": 5, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12},
    **{"rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "pread64": 17, "pwrite64": 18, "readv": 19},
    **{"writev": 20, "sched_yield": 24, "mremap": 25, "madvise": 28, "dup": 32, "nanosleep": 35, "getpid": 39},
    **{"exit": 60, "ftruncate": 77, "gettimeofday": 96, "getrusage": 98, "sysinfo": 99, "sigaltstack": 131},
    **{"gettid": 186, "futex": 202, "sched_getaffinity": 204, "clock_gettime": 228, "clock_nanosleep": 230},
    # Of a file that is open, too; of others it tells size and dates, and opens nothing.
    **{"exit_group": 231, "newfstatat": 262, "set_robust_list": 273, "getrandom": 318, "statx": 332, "rseq": 334},
}
_X86_64 = 0xC000003E
_SECCOMP, _SET_FILTER, _ALL_THREADS = 317, 1, 1
_NO_NEW_PRIVILEGES = 38
# Instructions of the filter: load a word of the call, compare and jump, return.
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("yes", ctypes.c_ubyte), ("no", ctypes.c_ubyte), ("value", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_Instruction)))


def filter_known() -> bool:
    """Whether the numbers of this system's calls are known here."""
    return sys.platform.startswith("linux") and platform.machine() == "x86_64" and sys.maxsize > 1 << 32


def forbid_system_calls() -> bool:
    """Forbid this process, for ever, all but the allowed calls; return whether the kernel has done so."""
    lines = _lines()
    program = _Program(len(lines), (_Instruction * len(lines))(*(_Instruction(*line) for line in lines)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return False
    return int(libc.syscall(_SECCOMP, _SET_FILTER, _ALL_THREADS, ctypes.byref(program))) == 0


def _lines() -> list[tuple[int, int, int, int]]:
    allowed = sorted(_ALLOWED.values())
    compare = [(_JUMP_IF_EQUAL, len(allowed) - place, 0, number) for place, number in enumerate(allowed)]
    return [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_IF_EQUAL, 1, 0, _X86_64),  # The same number means another call in 32-bit programs.
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        *compare,
        (_RETURN, 0, 0, _FAIL | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
