"""How a command ends, whatever happens: one line for each error, and an exit code that says of which kind it was.

Exit code 1 is an answer, "backdoored", and it is also Python's own for an exception that nobody caught. So nothing here
ends in 1 by accident, and what is imported here is there wherever Python is.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from goodnet.core.errors import GoodnetError, InputError
from goodnet.core.one_line import is_out_of_memory
from goodnet.formats.shown_paths import show_path

#: Exit codes that shells and sysexits.h know: a fault of the program, Ctrl-C, a reader that went away, SIGTERM.
_FAULT, _INTERRUPTED, _READER_GONE, _TERMINATED = 70, 130, 141, 143
#: What a disk says that takes no more.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


class Terminated(KeyboardInterrupt):
    """SIGTERM came: the command ends as after Ctrl-C, and removes what is half written."""


def finish(program: str, work: Callable[[], int], *, debug: bool) -> NoReturn:
    """Do the work of a command and end the process with its exit code; an error is one line on standard error.

    Args:
        program: the command's name, which each line begins with.
        work: does everything, imports too, and returns the exit code.
        debug: print the traceback of an error that nobody expected.
    """
    _accept_any_name()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = work()
        if sys.stdout is not None:
            sys.stdout.flush()  # A disk that is full or a reader that is gone shows here, not while Python ends.
    except BaseException as error:  # Also MemoryError, Ctrl-C and a library that calls `sys.exit`.
        code = exit_code(error)
        _tell(program, error, code, debug=debug)
    _leave_no_output()
    sys.exit(code)


def exit_code(error: BaseException) -> int:
    """Return the exit code of a command that ends with `error`; it is never 0 or 1."""
    if isinstance(error, GoodnetError):
        return 2 if isinstance(error, InputError) else 3
    if isinstance(error, KeyboardInterrupt):
        return _TERMINATED if isinstance(error, Terminated) else _INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return _READER_GONE
    if _lacks(error) is not None:
        return 3 if is_out_of_memory(error) else 2
    # 0 and 1 are answers, clean and backdoored, and a library that calls `sys.exit` has none to give.
    if isinstance(error, SystemExit) and isinstance(error.code, int) and error.code > 1:
        return error.code
    return _FAULT


def _terminate(*_: object) -> NoReturn:
    raise Terminated


def _lacks(error: BaseException) -> str | None:
    """Return what this machine had too little of, and what to do; None where that is not what the error says."""
    if isinstance(error, OSError) and error.errno in _DISK:
        return f"the output cannot be written ({os.strerror(error.errno)}); check the disk"
    if is_out_of_memory(error):
        return "out of memory; run it where there is more, or with fewer images"
    return None


def say(program: str, message: str) -> None:
    """Print one line on standard error, whatever the message holds: line ends become spaces, the rest is escaped as in names."""
    joined = " ".join(part.strip() for part in message.splitlines() if part.strip())
    _write_error(f"{program}: {show_path(joined)}\n")


def _tell(program: str, error: BaseException, code: int, *, debug: bool) -> None:
    if isinstance(error, GoodnetError):
        say(program, str(error))
    elif isinstance(error, KeyboardInterrupt):
        how = "SIGTERM" if isinstance(error, Terminated) else "Ctrl-C"
        say(program, f"stopped by {how}; no file is half written; run it again to go on (a scan: with --resume)")
    elif (lacks := _lacks(error)) is not None:
        say(program, lacks)
    elif code == _FAULT and debug:
        _write_error("".join(traceback.format_exception(error)))
    elif code == _FAULT:
        what = "".join(traceback.format_exception_only(error)).strip()
        say(
            program,
            f"unexpected error: {what}; this is a fault of goodnet: please report it to the project, "
            f"with what `{program} --debug ...` prints",
        )


def _write_error(text: str) -> None:
    try:
        if sys.stderr is not None:
            sys.stderr.write(text)
            sys.stderr.flush()
    except (OSError, ValueError):  # Nobody listens, or the stream is closed: the exit code still tells.
        pass


def _accept_any_name() -> None:
    """Let both streams print every text: a file's name may be no UTF-8, and a terminal may know less than Unicode."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _leave_no_output() -> None:
    """Point standard output nowhere if what it still holds cannot be written: Python would try again and complain."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
