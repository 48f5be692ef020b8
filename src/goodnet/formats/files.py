"""Reading only what exists, writing only what is whole."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from goodnet.core.errors import InputError, UnreadableData, UnwritableOutput
from goodnet.core.one_line import describe_error, one_line
from goodnet.formats.shown_paths import show_path

try:
    import fcntl
except ImportError:  # Windows has no such locks.
    fcntl = None  # type: ignore[assignment]


def require_file(path: str | Path, kind: type[InputError] = UnreadableData) -> Path:
    """Return `path` if it is a readable file.

    Raises:
        InputError: (of `kind`) there is no such file, or it is a folder, or it may not be read.
    """
    path = Path(path)
    try:
        if not path.exists():
            raise kind(f"{show_path(path)}: no such file; check the path")
    except (OSError, ValueError) as error:  # a name that is too long, a null in it, links in a circle
        raise kind(f"{one_line(show_path(path))}: no file can have this path ({describe_error(error)})") from error
    if not path.is_file():
        found = "a folder" if path.is_dir() else "a pipe, a socket or a device"
        raise kind(f"{show_path(path)}: expected a file, found {found}")
    if not os.access(path, os.R_OK):
        raise kind(f"{show_path(path)}: the file may not be read; check its permissions")
    return path


def leads_outside(path: Path, folder: Path) -> bool:
    """Whether `path`, which lies in a folder that may be a stranger's, is a link to what lies elsewhere."""
    try:
        return path.is_symlink() and not path.resolve().is_relative_to(folder.resolve())
    except RuntimeError:  # links that lead to one another in a circle
        return True
    except (OSError, ValueError):  # no file can have this name
        return False


def require_inside(path: Path, folder: Path, kind: type[InputError] = UnreadableData) -> Path:
    """Return `path`, a file in a folder that may be a stranger's, if it is a readable file that lies there.

    Raises:
        InputError: (of `kind`) it is none, see `require_file`, or a link out of the folder.
    """
    if leads_outside(path, folder):
        raise kind(f"{show_path(path)}: refused, it is a link that leads out of its folder; copy the file there")
    return require_file(path, kind)


def output_folder(path: str | Path) -> Path:
    """Make the folder `path` if need be, remove what killed runs left half written in it, and return it.

    Raises:
        UnwritableOutput: it cannot be made or written to.
    """
    path = _writable_folder(Path(path))
    for left in path.glob(f"{_TEMPORARY}*"):
        lock = _lock(left)
        if lock is not None:  # Who had it is gone.
            shutil.rmtree(left, ignore_errors=True)
            os.close(lock)
    return path


def _writable_folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UnwritableOutput(
            f"{show_path(path)}: cannot write here ({error.strerror}); choose another output folder"
        ) from error
    return path


#: How the names of temporary folders begin.
_TEMPORARY = ".goodnet."


@contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    """Give a folder that is removed in the end; it is locked as long as this process lives, however that ends."""
    folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=_writable_folder(parent)))
    lock = _lock(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """Lock a folder; None where another process has done so, or where it cannot be locked (Windows, some network drives)."""
    if fcntl is None:
        return None
    try:
        number = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(number)
        return None
    return number


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path of the same ending beside `path`; on success it takes `path`'s place in one step.

    A killed run leaves the old file or the whole new one, never half of one.

    Raises:
        UnwritableOutput: the folder cannot be written to.
    """
    path = Path(path)
    with _saying_what_is_full(path), _temporary_folder(path.parent) as folder:
        temporary = folder / path.name
        yield temporary
        os.replace(temporary, path)


@contextmanager
def _saying_what_is_full(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = one_line(os.strerror(error.errno) if error.errno else str(error))
        raise UnwritableOutput(f"{show_path(path)}: cannot be written ({why}); check the disk and the path") from error


def write_text(path: str | Path, text: str) -> Path:
    """Write `text` to `path` in one step and return the path."""
    return write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | Path, content: bytes | memoryview) -> Path:
    """Write `content` to `path` in one step and return the path.

    Torch and safetensors write into memory and this writes to the disk: where that is full, torch ends the whole process.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return Path(path)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, if it is there.

    Raises:
        UnwritableOutput: it cannot be removed.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UnwritableOutput(
            f"{show_path(path)}: cannot be removed ({error.strerror}); check the permissions of its folder"
        ) from error


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, or of the names and bytes of all files in a folder."""
    digest = hashlib.sha256()
    path = Path(path)
    files = [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file())
    for item in files:
        if item != path:
            digest.update(os.fsencode(item.relative_to(path)))
        with item.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """Give an empty temporary folder beside `path`; on success it takes the place of the folder `path`.

    Raises:
        UnwritableOutput: the folder above cannot be written to, or `path` is a file.
    """
    path = Path(path)
    if path.is_file():
        raise UnwritableOutput(
            f"{show_path(path)}: expected a folder to write to, found a file; choose another output folder"
        )
    with _saying_what_is_full(path), _temporary_folder(path.parent) as folder:
        temporary, previous = folder / path.name, folder / f"{path.name}.previous"
        temporary.mkdir()
        try:
            yield temporary
        except UnwritableOutput as error:  # It names what nobody will find.
            raise UnwritableOutput(str(error).replace(show_path(temporary), show_path(path))) from error
        # The previous folder goes only when the new one is in place.
        with suppress(FileNotFoundError):
            os.replace(path, previous)
        try:
            os.replace(temporary, path)
        except OSError:
            with suppress(OSError):
                os.replace(previous, path)
            raise
