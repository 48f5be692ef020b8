"""A file that changes while it is in use: the record never names a hash of other bytes than were read."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from goodnet.core.errors import MethodFailed, UnreadableData
from goodnet.formats.seen_files import look_at
from goodnet.reports.runs import Recorder
from goodnet.serve.network import ServedNetwork
from tests.serve.telling_network import write_telling


def replace(path: Path) -> None:
    path.with_name("other").write_bytes(path.read_bytes())
    os.replace(path.with_name("other"), path)


def rewrite(path: Path) -> None:
    """Write other bytes of the same number, and set the time back."""
    before = path.stat()
    path.write_bytes(b"x" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [replace, rewrite])
def test_a_file_that_changed_is_refused(change, tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    path.write_bytes(b"network")
    assert list(Recorder("scan", {"model": path}).run().inputs.values()) == [hashlib.sha256(b"network").hexdigest()]
    recorder = Recorder("scan", {"model": path})
    change(path)
    with pytest.raises(UnreadableData, match="changed or replaced while it was in use"):
        recorder.run(result_file="scan.json", out=tmp_path / "out")


def test_a_file_that_is_gone_has_no_hash(tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    path.write_bytes(b"network")
    recorder = Recorder("scan", {"model": path})
    remove(path)
    assert recorder.run().inputs == {}


def test_an_error_is_recorded_without_the_hash_of_what_changed(tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    path.write_bytes(b"network")
    recorder = Recorder("scan", {"model": path})
    rewrite(path)
    run = recorder.run(error=MethodFailed("no gradient"))
    assert (run.inputs, run.error.message) == ({}, "no gradient")


def test_a_picture_that_changed_in_a_folder_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").write_bytes(b"picture")
    seen = look_at(tmp_path)
    assert seen.sha256() == look_at(tmp_path).sha256()
    (tmp_path / "a" / "1.png").write_bytes(b"another")
    with pytest.raises(UnreadableData, match="changed or replaced"):
        seen.sha256()


def test_what_a_run_writes_into_the_folder_that_it_read_is_no_change(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    recorder = Recorder("repair", {"suspected": tmp_path})
    (tmp_path / "new").write_text("x")
    assert recorder.run(out=tmp_path).save(tmp_path).exists()


@pytest.mark.parametrize("confine", [True, False])
def test_a_served_network_has_the_hash_of_the_bytes_that_run(
    confine: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_telling(tmp_path)
    content, opened = path.read_bytes(), []
    monkeypatch.setattr(Path, "read_bytes", lambda self: opened.append(self) or content)
    network = ServedNetwork(path, threads=1, confine=confine)
    path.write_bytes(b"another")
    assert network.sha256 == hashlib.sha256(content).hexdigest()
    # The confined process has read it; there is no second reading by path.
    assert opened == ([] if confine else [path])
