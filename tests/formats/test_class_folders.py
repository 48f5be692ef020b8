"""What is a class, what is a picture, and what is left out and named."""

from pathlib import Path

import pytest

from goodnet.core.errors import UnreadableData
from goodnet.formats.class_folders import find_folders, list_class_folders, note_paths


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


SYSTEM = (
    "__MACOSX",
    "@eaDir",
    "$RECYCLE.BIN",
    "$Recycle.Bin",
    "System Volume Information",
    ".ipynb_checkpoints",
    ".git",
)


@pytest.mark.parametrize("system", [*SYSTEM, "#recycle", "lost+found"])
def test_folders_of_systems_are_no_classes(system: str, tmp_path: Path) -> None:
    touch(tmp_path, "cat/a.png", "dog/a.png", f"{system}/x.png", f"cat/{system}/y.png")
    found = list_class_folders(tmp_path)
    assert found.numbers == {"cat": 0, "dog": 1}
    assert found.pictures == (tmp_path / "cat/a.png", tmp_path / "dog/a.png")
    assert found.notes == (f"left out, hidden or the system's: 2 ({system}, cat/{system})",)
    assert find_folders(tmp_path) == [tmp_path / "cat", tmp_path / "dog"]


@pytest.mark.parametrize("system", ["._0007.png", ".DS_Store", "Thumbs.db", "desktop.ini", ".hidden.jpg"])
def test_files_of_systems_are_no_pictures(system: str, tmp_path: Path) -> None:
    touch(tmp_path, system, "3/a.png", f"3/{system}")
    found = list_class_folders(tmp_path)
    assert found.numbers == {"3": 3}
    assert found.pictures == (tmp_path / "3/a.png",)
    assert found.notes == (f"left out, hidden or the system's: 2 ({system}, 3/{system})",)


def test_what_is_no_picture_is_counted_and_named(tmp_path: Path) -> None:
    touch(
        tmp_path, "README.md", "cat/a.png", "cat/b.txt", "cat/c.psd", "cat/d", "cat/more/x.png", "cat/folder.png/x.png"
    )
    found = list_class_folders(tmp_path)
    assert found.pictures == (tmp_path / "cat/a.png",)
    assert found.notes == ("left out, no pictures of a class: 6 (README.md, cat/b.txt, cat/c.psd, and 3 more)",)


def test_nothing_left_out_nothing_said(tmp_path: Path) -> None:
    assert list_class_folders(touch(tmp_path, "cat/a.png", "cat/B.TIFF", "cat/c.webp")).notes == ()
    assert list(note_paths("left out", [])) == []
    assert list(note_paths("left out", [Path("a"), Path("b"), Path("c")])) == ["left out: 3 (a, b, c)"]
    assert list(note_paths("left out", [Path("a")] * 1003)) == ["left out: 1,003 (a, a, a, and 1,000 more)"]


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (["2", "10", "1"], {"1": 1, "2": 2, "10": 10}),
        (["00010", "00002"], {"00002": 2, "00010": 10}),
        # Two folders of one number, a mixture, numbers that no classifier has classes for: words.
        (["1", "01", "2"], {"01": 0, "1": 1, "2": 2}),
        (["10", "9", "b"], {"10": 0, "9": 1, "b": 2}),
        (["20240131", "9"], {"20240131": 0, "9": 1}),
        (["9" * 200, "1"], {"1": 0, "9" * 200: 1}),
    ],
)
def test_the_class_of_each_folder(names: list[str], numbers: dict[str, int], tmp_path: Path) -> None:
    found = list_class_folders(touch(tmp_path, *(f"{name}/a.png" for name in names)))
    assert found.numbers == numbers
    assert list(found.numbers) == list(numbers)
    assert [path.parent.name for path in found.pictures] == list(numbers)
    assert {name: found.class_names[number] for name, number in numbers.items()} == {name: name for name in numbers}
    assert sum(map(bool, found.class_names)) == len(numbers)


@pytest.mark.parametrize("name", ["absent", "file"])
def test_a_folder_that_cannot_be_listed(name: str, tmp_path: Path) -> None:
    touch(tmp_path, "file")
    with pytest.raises(UnreadableData, match=f"{name}: expected a folder of class folders, .*; check the path"):
        list_class_folders(tmp_path / name)
