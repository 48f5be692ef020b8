"""What is a class, what is a picture, and what is left out and named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnreadableData
from goodnet.formats.class_folders import find_folders, list_class_folders, note_paths
from goodnet.formats.data import read_data
from goodnet.formats.images import other_order, read_class_folders


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


def save(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), (value, value, value)).save(path)


def test_named_class_folders_are_numbered_in_order_of_name(tmp_path: Path) -> None:
    for value, name in enumerate(["dog/b.png", "cat/z.png", "cat/a.png", "eel/x.bmp", ".cache/x.png"]):
        save(tmp_path / name, value)
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    (tmp_path / "README.md").write_text("no class")
    data = read_data(tmp_path)
    assert data.class_names == ("cat", "dog", "eel")
    assert data.targets.tolist() == [0, 0, 1, 2]
    assert (data.images()[:, 0, 0, 0] * 255).round().tolist() == [2, 1, 0, 3]
    assert [len(batch.images) for batch in data.batches(3)] == [3, 1]
    assert (data.subset([3, 1]).images()[:, 0, 0, 0] * 255).round().tolist() == [3, 1]


def test_numbered_class_folders_keep_their_numbers(tmp_path: Path) -> None:
    for value, name in enumerate(["10/a.png", "9/a.png", "00002/a.png"]):
        save(tmp_path / name, value)
    data = read_data(tmp_path)
    assert data.class_names == ("", "", "00002", "", "", "", "", "", "", "9", "10")
    assert data.targets.tolist() == [2, 9, 10]
    assert (data.images()[:, 0, 0, 0] * 255).round().tolist() == [2, 1, 0]


def numbered(folder: Path, names: list[str]) -> Dataset:
    for value, name in enumerate(names):
        save(folder / name / "a.png", value)
    return read_class_folders(folder)


@pytest.mark.parametrize(
    ("names", "numbers", "words"),
    [
        (["1", "10", "11", "2"], [1, 2, 10, 11], [0, 3, 1, 2]),
        (["0", "1", "10", "2", "3"], [0, 1, 2, 3, 10], [0, 1, 3, 4, 2]),
        (["1", "2", "3"], [1, 2, 3], [0, 1, 2]),
        (["001", "002", "010"], [1, 2, 10], [0, 1, 2]),
    ],
)
def test_the_order_of_names_is_the_other_reading(
    names: list[str], numbers: list[int], words: list[int], tmp_path: Path
) -> None:
    data = numbered(tmp_path, names)
    other = other_order(data)
    assert other is not None
    assert (data.targets.tolist(), other.targets.tolist()) == (numbers, words)
    assert other.class_names == tuple(names)
    assert np.array_equal(other.source.read(other.positions), data.source.read(data.positions))
    in_memory = other_order(data.subset([2, 0]).in_memory())
    assert in_memory is not None
    assert in_memory.targets.tolist() == [words[2], words[0]]
    assert other_order(other) is None


def test_an_empty_folder_counts_in_both_readings(tmp_path: Path) -> None:
    (tmp_path / "10").mkdir()
    data = numbered(tmp_path, ["1", "2"])
    other = other_order(data)
    assert other is not None
    assert (data.targets.tolist(), other.targets.tolist()) == ([1, 2], [0, 2])
    assert data.notes == ("class folders without a picture: 1 (10)",)


@pytest.mark.parametrize("names", [["0", "1", "2"], ["cat", "dog"], ["1", "x"], ["00", "01"]])
def test_there_is_no_other_reading_where_both_are_the_same(names: list[str], tmp_path: Path) -> None:
    data = numbered(tmp_path, names)
    assert data.targets.tolist() == list(range(len(names)))
    assert other_order(data) is None
    assert other_order(Dataset.from_arrays(data.source.read(data.positions), data.targets)) is None
