"""Reads an untrusted file through a sandboxed child process, and takes plain data from it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from goodnet.confinement.limits import Limits
from goodnet.core import errors
from goodnet.core.errors import InputError, UnreadableModel
from goodnet.core.one_line import one_line

if TYPE_CHECKING:
    from torch import Tensor

#: What of the environment a child gets: where its libraries lie, and its language. Passwords are not among it.
_ENVIRONMENT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "SYSTEMROOT")
#: One thread of each library that might start more.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_FOLDER = Path(__file__).parents[2]


@dataclass(frozen=True)
class Contents:
    """What was read: a record of plain values, and tensors by name, which lie in memory once.

    `missing` are the walls that this system did not have for the child, in words.
    """

    record: dict[str, Any]
    tensors: dict[str, Tensor]
    missing: tuple[str, ...]


def can_confine() -> bool:
    """Whether this system has processes that take limits and open files from their parent."""
    return os.name == "posix"


def read_file(reader: str, path: Path) -> Contents:
    """Read a file with `reader` in a confined child.

    Args:
        reader: `module:function`, see `goodnet.confinement.child.Reader`.
        path: the file.

    Raises:
        InputError: the reader has refused the file.
        UnreadableModel: the file cannot be opened, or the child was stopped; the message says at what.
    """
    with ExitStack() as files:
        source = files.enter_context(_open(path))
        copy, out = files.enter_context(_scratch()), files.enter_context(_scratch())
        _run_child(reader, path, source, copy, out)
        return _read_answer(path, out)


def _open(path: Path) -> BinaryIO:
    """Open a file, and nothing else: a pipe or a device in its place would keep us waiting.

    Raises:
        UnreadableModel: it is none, or cannot be opened.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        stream = os.fdopen(number, "rb")
    except OSError as error:
        raise UnreadableModel(
            f"{path}: the file cannot be read ({error.strerror}); check path and permissions"
        ) from error
    if not stat.S_ISREG(os.fstat(number).st_mode):
        stream.close()
        raise UnreadableModel(f"{path}: expected a file, found a pipe, a socket or a device")
    return stream


def _scratch() -> BinaryIO:
    """Return an empty file without a name: in memory where the system has such files."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("goodnet"), "w+b")
    return tempfile.TemporaryFile()


def _run_child(reader: str, path: Path, source: BinaryIO, copy: BinaryIO, out: BinaryIO) -> None:
    """Let a child answer into `out`.

    Raises:
        UnreadableModel: it was stopped before it could answer.
    """
    limits = Limits.for_file(os.fstat(source.fileno()).st_size)
    numbers = {"source": source.fileno(), "copy": copy.fileno(), "out": out.fileno()}
    request = {"reader": reader, "name": str(path), "limits": asdict(limits), **numbers}
    child = subprocess.Popen(
        # -P: the folder that one works in may be the stranger's, and hold modules of his.
        [sys.executable, "-P", "-m", "goodnet.confinement.child", json.dumps(request)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=_environment(),
        pass_fds=tuple(numbers.values()),
    )
    try:
        code = child.wait(limits.patience)
    except subprocess.TimeoutExpired:
        raise _stopped(path, f"it was not done after {limits.patience} s") from None
    finally:
        child.kill()
        child.wait()
    if code != 0:
        raise _stopped(path, _cause(code, limits))


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    folders = [str(_FOLDER), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return kept | _ONE_THREAD | {"PYTHONPATH": os.pathsep.join(folders)}


def _cause(code: int, limits: Limits) -> str:
    if code == -signal.SIGXCPU:
        return f"it computed for more than {limits.seconds} s"
    if code < 0:
        return f"the reading process was ended by {signal.Signals(-code).name}, as by a fault in a library"
    return f"the reading process ended with code {code}"


def _stopped(path: Path, why: str) -> UnreadableModel:
    return UnreadableModel(f"{path}: refused, the reading of it was stopped: {one_line(why)}; do not trust this file")


def _read_answer(path: Path, out: BinaryIO) -> Contents:
    """Read what the child wrote. A hostile file may control the child, so only text, numbers and tensors are accepted.

    Raises:
        InputError: the answer is an error, or none.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    place = f"/dev/fd/{out.fileno()}"
    try:
        with safe_open(place, "pt") as file:
            answer = json.loads(file.metadata()["record"])
        missing = tuple(one_line(str(wall)) for wall in answer.get("missing", ()))
        if "found" in answer:
            return Contents(dict(answer["found"]), load_file(place), missing)
        error, stopped = answer.get("error"), answer.get("stopped")
        if error is not None:
            raise _as_error(str(error["kind"]), str(error["message"]))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _stopped(path, "the reading process gave no answer that makes sense") from error
    raise _stopped(path, str(stopped))


def _as_error(kind: str, message: str) -> InputError:
    known = getattr(errors, kind, None)
    is_one = isinstance(known, type) and issubclass(known, InputError)
    return known(message) if is_one else UnreadableModel(message)  # type: ignore[misc]
