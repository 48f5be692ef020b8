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
    """Make the folder `path` if need be and return it.

    Raises:
        UnwritableOutput: it cannot be made or written to.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UnwritableOutput(
            f"{show_path(path)}: cannot write here ({error.strerror}); choose another output folder"
        ) from error
    return path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path of the same ending beside `path`; on success it takes `path`'s place in one step.

    A killed run leaves the old file or the whole new one, never half of one.

    Raises:
        UnwritableOutput: the folder cannot be written to.
    """
    path = Path(path)
    output_folder(path.parent)
    folder = Path(tempfile.mkdtemp(prefix=".goodnet.", dir=path.parent))
    try:
        temporary = folder / path.name
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise UnwritableOutput(
            f"{show_path(path)}: cannot be written ({error.strerror or error}); check the disk and the path"
        ) from error
    finally:
        with suppress(OSError):
            shutil.rmtree(folder)


def write_text(path: str | Path, text: str) -> Path:
    """Write `text` to `path` in one step and return the path."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


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
    output_folder(path.parent)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            shutil.rmtree(temporary)
