"""Runs are found where verbs left them."""

import shutil

import pytest

from goodnet.core.errors import MethodFailed, UnreadableData
from goodnet.reports.run_folders import find_runs
from goodnet.reports.runs import Recorder


def test_a_folder_of_folders(runs):
    found = {run.name: run for run in find_runs([runs.folder])}
    assert set(found) == {"scan", "repair", "evaluation", "inspect", "failed"}
    assert {name: run.run.verb for name, run in found.items() if run.run} == {
        "scan": "scan",
        "repair": "repair",
        "evaluation": "evaluate",
        "failed": "repair",
    }
    assert [path.name for path in found["inspect"].pictures] == ["class_distribution.png", "samples.png"]
    assert found["scan"].model == "bd_net.h5"
    assert found["inspect"].model == "the network"


def test_a_run_given_twice_counts_once(runs):
    found = find_runs([runs.folder / "repair", runs.folder, runs.folder / "scan" / ".." / "scan"])
    assert found[0].name == "repair"
    assert len(found) == 5


def test_links_are_not_followed(runs, tmp_path):
    Recorder("scan", {}).run(error=MethodFailed("no")).save(tmp_path)
    (tmp_path / "elsewhere").symlink_to(runs.folder)
    (tmp_path / "round").symlink_to(tmp_path)
    assert len(find_runs([tmp_path])) == 1


def test_what_is_no_run(runs, tmp_path):
    with pytest.raises(UnreadableData, match="expected the folder of a run, found nothing"):
        find_runs([tmp_path / "gone"])
    with pytest.raises(UnreadableData, match="found a file"):
        find_runs([runs.folder / "scan" / "run.json"])
    with pytest.raises(UnreadableData, match="no run in this folder"):
        find_runs([tmp_path])


@pytest.mark.parametrize("damage", [b"{", b"[]", b"{}", b"\xff\xfe", b'{"verb": 1}'])
def test_a_damaged_record(damage, runs, tmp_path):
    shutil.copytree(runs.folder / "scan", tmp_path / "scan")
    (tmp_path / "scan" / "run.json").write_bytes(damage)
    with pytest.raises(UnreadableData, match="expected the record of a run") as caught:
        find_runs([tmp_path])
    assert str(tmp_path / "scan" / "run.json") in str(caught.value)
