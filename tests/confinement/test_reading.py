"""What a reader behind the walls may do, and what becomes of one that tries more."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from goodnet.confinement.landlock import landlock_version
from goodnet.confinement.limits import Limits
from goodnet.confinement.reading import read_file
from goodnet.confinement.system_calls import filter_known
from goodnet.core.errors import UnreadableModel

READERS = "tests.confinement.hostile_readers"
WALLED = pytest.mark.skipif(not (landlock_version() and filter_known()), reason="this kernel has not all of the walls")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "net.pt").write_bytes(b"abc" * 1000)
    return tmp_path / "net.pt"


def stopped(reader: str, path: Path) -> str:
    with pytest.raises(UnreadableModel) as caught:
        read_file(f"{READERS}:{reader}", path)
    message = str(caught.value)
    assert message.startswith(f"{path}: refused, the reading of it was stopped: ")
    assert "\n" not in message
    return message


def test_the_reader_of_models_waits_for_no_framework() -> None:
    code = "import sys, goodnet.formats.confined_reader; sys.exit(bool({'torch', 'keras'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_a_reader_finds_comes_back_as_it_was(path: Path) -> None:
    found = read_file(f"{READERS}:harmless", path)
    assert found.record == {"name": str(path), "size": 3000}
    assert found.tensors["content"].numpy().tobytes() == path.read_bytes()


@WALLED
def test_this_kernel_has_all_walls(path: Path) -> None:
    assert read_file(f"{READERS}:harmless", path).missing == ()


@pytest.mark.parametrize(
    ("reader", "words"),
    [
        ("open_a_file", "it tried to open a file ('/etc/passwd')"),
        ("open_a_file_and_say_nothing", "it tried to open a file ('/etc/passwd')"),
        ("open_a_socket", "it tried to look up an address ('127.0.0.1')"),
        ("start_a_program", "it tried to start a program ('/bin/true')"),
        ("fork", "it tried to start a process"),
        ("take_memory", "it asked for more than 256 MiB of memory"),
        ("fill_the_disk", "File too large"),
        ("answer_too_much", "its content cannot be handed back ([Errno 27] File too large)"),
        ("crash", "the reading process was ended by SIGSEGV, as by a fault in a library"),
        ("answer_as_somebody_else", "the reading process gave no answer that makes sense"),
    ],
)
def test_what_a_reader_must_not_do_is_stopped_and_said(reader: str, words: str, path: Path) -> None:
    assert words in stopped(reader, path)


@pytest.mark.slow
def test_a_reader_that_computes_for_ever_is_stopped(path: Path) -> None:
    assert "it computed for more than 6 s" in stopped("compute_for_ever", path)


def test_a_reader_that_waits_for_ever_is_stopped(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "patience", 3)
    begun = time.monotonic()
    assert "it was not done after 3 s" in stopped("sleep_for_ever", path)
    assert time.monotonic() - begun < 60


@WALLED
def test_the_kernel_refuses_what_native_code_tries(path: Path) -> None:
    """A library that was taken over does not ask Python; every call of it ends with "not permitted" (errno 1)."""
    found = read_file(f"{READERS}:as_native_code", path).record
    assert found == {name: [-1, 1] for name in ("open", "socket", "fork", "execve", "kill", "unlink")}


def test_the_child_sees_neither_passwords_nor_the_folder_that_one_works_in(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOODNET_TEST_PASSWORD", "secret")
    (path.parent / "json.py").write_text("raise SystemExit('the module of a stranger ran')")
    monkeypatch.chdir(path.parent)
    found = read_file(f"{READERS}:tell_environment", path).record
    assert "secret" not in str(found["environment"])
    assert str(path.parent) not in found["folders"]


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnreadableModel, match="expected a file, found a pipe"):
        read_file(f"{READERS}:harmless", tmp_path / "pipe")


def test_walls_that_a_system_does_not_have_are_named_and_what_is_left_holds(path: Path) -> None:
    found = read_file("tests.confinement.readers_without_walls:harmless", path)
    assert found.missing == ("no Landlock", "no filter of system calls")
    with pytest.raises(UnreadableModel, match="it tried to open a file"):
        read_file("tests.confinement.readers_without_walls:open_a_file", path)
