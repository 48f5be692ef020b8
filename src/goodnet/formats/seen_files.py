"""Files as they were when they were first looked at: what is hashed later must be what was read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from goodnet.core.errors import UnreadableData
from goodnet.formats.files import sha256
from goodnet.formats.shown_paths import show_path

#: What changes with a file's content: device and number of the file, its size, when it was last written to, and when its
#: entry last changed, which only who sets the clock can set back.
Identity = tuple[tuple[str, int, int, int, int, int], ...]


@dataclass(frozen=True)
class SeenFile:
    """A file, or a folder with all files in it, as it was before it was read."""

    path: Path
    identity: Identity

    def sha256(self) -> str:
        """Return the SHA-256 of its bytes, see `goodnet.formats.files.sha256`.

        Raises:
            UnreadableData: it is not what it was, so that nobody can say which bytes were read.
        """
        digest = sha256(self.path)
        if _identify(self.path) != self.identity:
            raise UnreadableData(
                f"{show_path(self.path)}: it was changed or replaced while it was in use, so that the record cannot say what was "
                "read; leave it alone and run this again"
            )
        return digest


def look_at(path: str | Path) -> SeenFile:
    """Take note of what a file or folder is. Called before it is read; a missing one is noted as such."""
    return SeenFile(Path(path), _identify(Path(path)))


def _identify(path: Path) -> Identity:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return tuple(_identify_all(files))


def _identify_all(files: list[Path]) -> Iterator[tuple[str, int, int, int, int, int]]:
    for file in files:
        try:
            found = os.stat(file)
        except OSError:
            continue  # Missing, or a link that leads nowhere.
        if not file.is_dir():
            yield str(file), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
