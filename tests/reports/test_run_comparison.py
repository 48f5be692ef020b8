"""Two folders of runs, written by hand, compared."""

import json

import pytest

from goodnet.core.errors import UnreadableData
from goodnet.core.results import Run
from goodnet.core.verification import Comparison, Verification
from goodnet.reports.run_comparison import compare_runs, compare_versions, other_files

RESULT = {"verdict": "clean", "scores": [1.0, None, 3.0], "rate": {"value": 0.5, "n": 4}, "notes": ["read from /a"]}


def write(folder, result=RESULT, **content):
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"verb": "scan", "seconds": 1.0, "result": result} | content))
    (folder / "scores.csv").write_text("class,score\n")
    return folder


def differences(*folders):
    return {item.what: item.difference for item in compare_runs(*folders) if item.difference is not None}


def test_equal_runs_may_differ_in_times_and_notes(tmp_path):
    first = write(tmp_path / "first")
    again = write(tmp_path / "again", RESULT | {"notes": ["read from /b"]}, seconds=2.0)
    assert compare_runs(first, again) == tuple(
        Comparison(what=what) for what in ("verdict", "scores", "rate", "table scores.csv")
    )


@pytest.mark.parametrize(
    ("result", "found"),
    [
        (RESULT | {"scores": [1.0, None, 3.5]}, {"scores": "scores[2] is 3.0 in the record, 3.5 now"}),
        (RESULT | {"scores": [1.0, 2.0, 3.0]}, {"scores": "scores[1] is None in the record, 2.0 now"}),
        (RESULT | {"scores": [1, None, 3.0]}, {"scores": "scores[0] is 1.0 in the record, 1 now"}),
        (RESULT | {"rate": {"value": 0.5, "n": 5}}, {"rate": "rate.n is 4 in the record, 5 now"}),
        (RESULT | {"verdict": "backdoored"}, {"verdict": "verdict is 'clean' in the record, 'backdoored' now"}),
        (RESULT | {"more": 1}, {"more": "missing in the record"}),
        ({"verdict": "clean", "scores": [1.0, None, 3.0]}, {"rate": "missing in the repetition"}),
    ],
)
def test_what_differs_is_said_with_both_values(tmp_path, result, found):
    assert differences(write(tmp_path / "first"), write(tmp_path / "again", result)) == found


def test_a_result_in_a_file_of_its_own_is_compared_field_by_field(tmp_path):
    folders = [write(tmp_path / name, None, result_file="scan.json") for name in ("first", "again")]
    for folder, verdict in zip(folders, ("clean", "backdoored"), strict=True):
        (folder / "scan.json").write_text(json.dumps({"verdict": verdict}))
    assert list(differences(*folders)) == ["verdict"]


def test_files_are_compared_by_their_bytes(tmp_path):
    first, again = write(tmp_path / "first"), write(tmp_path / "again")
    (again / "goodnet").mkdir()
    (again / "goodnet" / "goodnet.json").write_text("{}")
    (first / "scores.csv").write_text("class,score,more\n")
    (first / "mine").write_text("")
    assert differences(first, again) == {
        "table scores.csv": "its bytes differ",
        "record goodnet/goodnet.json": "missing in the folder of the run",
    }
    assert other_files(first, again) == "no part of the run, not compared: mine"
    assert other_files(again, again) is None


def test_an_error_and_a_result_differ(tmp_path):
    failed = write(tmp_path / "failed", None, error={"kind": "MethodFailed", "message": "no"})
    assert differences(failed, failed) == {}
    assert differences(failed, write(tmp_path / "again"))["error"] == "missing in the repetition"


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1, "a": 2}', '{"result": null}'])
def test_a_damaged_record_is_refused(tmp_path, text):
    first = write(tmp_path / "first")
    (first / "run.json").write_text(text)
    with pytest.raises(UnreadableData, match=r"run\.json: expected "):
        compare_runs(first, write(tmp_path / "again"))


def test_other_versions_are_notes():
    one, two = (
        Run(verb="scan", seconds=1, started="", inputs={}, versions={"torch": version, "numpy": "2.0"})
        for version in ("1", "2")
    )
    assert compare_versions(one, two) == ["torch 1 is recorded, this is 2"]
    assert compare_versions(one, one) == []


def test_a_verification_prints_what_was_compared():
    found = Verification(
        verb="scan",
        comparisons=(Comparison(what="verdict"), Comparison(what="scores", difference="scores[0] differs")),
        notes=("torch 1 is recorded, this is 2",),
    )
    assert not found.equal
    assert str(found).splitlines() == [
        "scan, run again: 1 of 2 things differ",
        "verdict  equal",
        "scores   scores[0] differs",
        "note: torch 1 is recorded, this is 2",
    ]
