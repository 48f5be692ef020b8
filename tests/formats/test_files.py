"""Writing only what is whole, and only where one may."""

import hashlib
import os
from pathlib import Path

import pytest

from goodnet.core.errors import UnreadableData, UnreadableModel, UnwritableOutput
from goodnet.formats.files import (
    output_folder,
    remove,
    replacing,
    replacing_folder,
    require_file,
    sha256,
    write_bytes,
    write_text,
)


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "a.txt"
    write_text(path, "old")
    with replacing(path) as temporary:
        assert temporary != path
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [item.name for item in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_file_and_nothing_else(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail_half_way() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(error):
        fail_half_way()
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_an_unwritable_output(tmp_path: Path) -> None:
    def fail() -> None:
        with replacing(tmp_path / "a.txt"):
            raise OSError(28, "No space left on device")

    with pytest.raises(UnwritableOutput, match="No space left on device") as caught:
        fail()
    assert str(caught.value).startswith(f"{tmp_path / 'a.txt'}: ")
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    for path in (
        tmp_path / "file" / "a.txt",
        tmp_path / "file" / "b" / "a.txt",
        tmp_path / "folder",
        tmp_path / ("n" * 300),
    ):
        with pytest.raises(UnwritableOutput) as caught:
            write_text(path, "text")
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(UnwritableOutput, match="choose another output folder"):
        output_folder(tmp_path / "file" / "out")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["file", "folder"]


def test_a_name_may_be_as_long_as_the_file_system_lets_it(tmp_path: Path) -> None:
    assert write_text(tmp_path / ("n" * 250), "text").read_text() == "text"


@pytest.mark.parametrize("kind", [UnreadableData, UnreadableModel])
def test_only_files_that_exist_are_read(kind: type[UnreadableData], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert require_file(str(tmp_path / "file"), kind) == tmp_path / "file"
    with pytest.raises(kind, match=r"absent: no such file; check the path"):
        require_file(tmp_path / "absent", kind)
    with pytest.raises(kind, match="expected a file, found a folder"):
        require_file(tmp_path, kind)


def test_sha256(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    large = bytes(range(256)) * 5000
    path.write_bytes(large)
    assert sha256(path) == hashlib.sha256(large).hexdigest()


def test_sha256_of_a_folder_depends_on_names_and_bytes(tmp_path: Path) -> None:
    def folder(name: str, **files: str) -> str:
        for key, text in files.items():
            (tmp_path / name / key).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / key).write_text(text)
        return sha256(tmp_path / name)

    first = folder("one", a="1", b="2")
    assert first == folder("two", b="2", a="1")
    assert len({first, folder("three", a="1", c="2"), folder("four", a="1", b="3"), folder("five", a="1")}) == 4


def test_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    assert write_bytes(tmp_path / "a.bin", memoryview(b"\r\n\0")).read_bytes() == b"\r\n\0"


def test_what_a_killed_run_left_is_removed_and_what_another_writes_is_not(tmp_path: Path) -> None:
    left = tmp_path / ".goodnet.killed"
    left.mkdir()
    (left / "half.pt").write_text("half of the n")
    (tmp_path / "mine.txt").write_text("x")
    with replacing(tmp_path / "a.txt") as temporary:
        output_folder(tmp_path)
        assert sorted(item.name for item in tmp_path.iterdir()) == [temporary.parent.name, "mine.txt"]
        temporary.write_text("whole")
    assert (tmp_path / "a.txt").read_text() == "whole"


def write_folder(path: Path, text: str) -> None:
    with replacing_folder(path) as temporary:
        assert not list(temporary.iterdir())
        (temporary / "a.txt").write_text(text)


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    write_folder(tmp_path / "net", "old")
    (tmp_path / "net" / "b.txt").write_text("of the old one")
    write_folder(tmp_path / "net", "new")
    assert [(path.name, path.read_text()) for path in (tmp_path / "net").iterdir()] == [("a.txt", "new")]
    assert [item.name for item in tmp_path.iterdir()] == ["net"]


@pytest.mark.parametrize("step", [1, 2])
def test_a_folder_that_cannot_be_replaced_stays(step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "net", "old")
    replace, steps = os.replace, []

    def fail_once(source: Path, target: Path) -> None:
        steps.append(target)
        if len(steps) == step:
            raise OSError(30, "Read-only file system")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_once)
    with pytest.raises(UnwritableOutput, match=r"net: cannot be written \(Read-only file system\)"):
        write_folder(tmp_path / "net", "new")
    assert (tmp_path / "net" / "a.txt").read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["net"]


def test_the_error_names_the_folder_and_not_its_temporary_name(tmp_path: Path) -> None:
    def fail() -> None:
        with replacing_folder(tmp_path / "net") as folder, replacing(folder / "card.json"):
            raise OSError(28, "No space left on device")

    with pytest.raises(UnwritableOutput) as caught:
        fail()
    assert str(caught.value).startswith(
        f"{tmp_path / 'net' / 'card.json'}: cannot be written (No space left on device)"
    )


def test_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "net", "x")
    (tmp_path / "link").symlink_to(tmp_path / "net")
    remove(tmp_path / "link")
    assert [item.name for item in tmp_path.iterdir()] == ["net"]
    remove(tmp_path / "net")
    remove(tmp_path / "net")
    assert not list(tmp_path.iterdir())

    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", fail)
    with pytest.raises(UnwritableOutput, match=r"run\.json: cannot be removed \(Permission denied\)"):
        remove(tmp_path / "run.json")
