"""What lies in a folder of class folders: classes, pictures, and what is neither."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from goodnet.core.errors import UnreadableData
from goodnet.formats.files import leads_outside
from goodnet.formats.shown_paths import show_path

#: Endings of the files in a class folder that are taken for pictures; what they hold is decided by their bytes.
SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm"),
    *(".tif", ".tiff", ".webp", ".gif"),
)

#: What systems and programs leave in folders, in lower case; names that begin with a dot are theirs, too.
_SYSTEM = frozenset(
    (
        *("__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "lost+found", "__pycache__"),
        *("system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
    )
)
#: Classes of the largest networks, and room above; a larger number is a name (of a person, a year and day).
_MOST_CLASSES = 100_000
#: Names that a note lists; of the others it gives the number.
_LISTED = 3


@dataclass(frozen=True)
class ClassFolders:
    """The class folders in a folder.

    Args:
        numbers: the class of each folder, by the folder's name, in order of class.
        pictures: the files in them that are pictures by their ending, in order of class and name.
        notes: what is neither, counted and named, a line each.
    """

    numbers: dict[str, int]
    pictures: tuple[Path, ...]
    notes: tuple[str, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The folder of each class, as it is shown; empty for a number that no folder has."""
        names = {number: show_path(name) for name, number in self.numbers.items()}
        return tuple(names.get(number, "") for number in range(max(names, default=-1) + 1))


#: What folders of splits are called, those first that no network is trained on.
_SPLITS = ("val", "valid", "validation", "test", "testing", "eval", "train", "training")


def choose_split(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the split that is read of a folder of splits, with a note; a folder of anything else as it is.

    Raises:
        UnreadableData: a folder cannot be listed.
    """
    splits = {item.name.lower(): item for item in find_folders(folder)}
    names = [name for name in _SPLITS if name in splits]
    if len(splits) < 2 or len(names) < len(splits) or not find_folders(splits[names[0]]):
        return folder, ()
    chosen = splits[names[0]]
    others = ", ".join(show_path(splits[name].name) for name in names[1:])
    return chosen, (
        f"the folder has splits: {show_path(chosen.name)} is read, {others} not; give the one that is meant",
    )


def list_class_folders(folder: Path) -> ClassFolders:
    """Return the class folders in `folder` with their pictures; no file is opened, no link followed out of the folder.

    The classes are the folders in order of name. Folders called 0, 1, 2, ... (also 00012) are the class of that
    number, whichever are missing, unless two have the same number (1 and 01).

    Raises:
        UnreadableData: a folder cannot be listed.
    """
    hidden, own = _divide(folder)
    outside = [item for item in own if leads_outside(item, folder)]
    own = [item for item in own if item not in outside]
    numbers = _number([item.name for item in own if item.is_dir()])
    others = [item for item in own if not item.is_dir()]
    pictures: list[Path] = []
    for name in numbers:
        theirs, items = _divide(folder / name)
        hidden += theirs
        for item in items:
            if leads_outside(item, folder):
                outside.append(item)
                continue
            (pictures if item.suffix.lower() in SUFFIXES and item.is_file() else others).append(item)
    notes = (
        *note_paths("left out, hidden or the system's", [item.relative_to(folder) for item in hidden]),
        *note_paths("left out, no pictures of a class", [item.relative_to(folder) for item in others]),
        *note_paths("left out, links that lead out of the folder", [item.relative_to(folder) for item in outside]),
    )
    return ClassFolders(numbers, tuple(pictures), notes)


def find_folders(folder: Path) -> list[Path]:
    """Return the folders in `folder` in order of name, without hidden ones and those of systems.

    Raises:
        UnreadableData: it cannot be listed.
    """
    return [item for item in _divide(folder)[1] if item.is_dir()]


def note_paths(what: str, paths: Sequence[Path]) -> Iterator[str]:
    """Give "what: 5 (a/x, a/y, b/z, and 2 more)", nothing where there are no paths."""
    if paths:
        names = [show_path(path) for path in paths[:_LISTED]]
        more = [f"and {len(paths) - _LISTED:,} more"] if len(paths) > _LISTED else []
        yield f"{what}: {len(paths):,} ({', '.join([*names, *more])})"


def _divide(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return what lies in a folder in order of name: (hidden or the system's, all else)."""
    try:
        items = sorted(folder.iterdir())
    except OSError as error:
        raise UnreadableData(
            f"{show_path(folder)}: expected a folder of class folders, but it cannot be listed ({error.strerror}); check "
            "the path and its permissions"
        ) from error
    return [item for item in items if _is_system(item.name)], [item for item in items if not _is_system(item.name)]


def _is_system(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM


def _number(names: Sequence[str]) -> dict[str, int]:
    """Return the class of each folder, in order of class."""
    # A name of ten thousand digits is no number: int() would refuse it.
    numbered = all(name.isdecimal() and len(name) < 10 and int(name) < _MOST_CLASSES for name in names)
    numbers = {name: int(name) if numbered else index for index, name in enumerate(sorted(names))}
    if len(set(numbers.values())) < len(numbers):
        numbers = {name: index for index, name in enumerate(sorted(names))}
    return dict(sorted(numbers.items(), key=lambda item: item[1]))
