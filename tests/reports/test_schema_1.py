"""Records that goodnet wrote before its results were typed still open; the files are of `make_twins`' networks."""

import json
from pathlib import Path

import pytest

from goodnet.core.repairs import RepairRecord
from goodnet.core.results import Detection, Evaluation, Run
from goodnet.reports.html import make_page
from goodnet.reports.records import GuardRecord
from goodnet.reports.run_folders import find_runs

FOLDER = Path(__file__).parents[1] / "data" / "schema_1"


def old(name):
    """Return the result as it was written, and the run as it is read today."""
    return json.loads((FOLDER / name / "run.json").read_text())["result"], Run.load(FOLDER / name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("scan_planted", Detection), ("guard_ensemble", GuardRecord), ("evaluate", Evaluation)]
    + [(f"repair_{name}", RepairRecord) for name in ("auto", "auto_clean", "pruning", "fine_pruning", "ulrl")],
)
def test_an_old_record_is_read_by_the_class_of_its_verb_and_can_be_written_anew(name, kind, tmp_path):
    _, run = old(name)
    assert (run.schema_version, type(run.result)) == (2, kind)
    run.save(tmp_path)
    assert Run.load(tmp_path) == run


def test_an_old_scan():
    before, run = old("scan_planted")
    assert json.loads(run.result.to_json()) == before | {"suspected": [before["suspected"][0] | {"trigger_size": None}]}


@pytest.mark.parametrize("name", ["guard_ensemble", "evaluate"])
def test_old_guards_and_evaluations_hold_the_same_as_ever(name):
    before, run = old(name)
    # What was not measured then has its default.
    assert run.result.model_dump(mode="json", exclude_unset=True) == before


@pytest.mark.parametrize("name", ["pruning", "fine_pruning"])
def test_an_old_pruning_sweep(name):
    before, run = old(f"repair_{name}")
    sweep = run.result.trace.sweep.model_dump(mode="json")
    assert {key: value for key, value in before["trace"].items() if key in sweep} == sweep
    assert [item.changes.model_dump(mode="json") for item in run.result.networks] == [
        item["changes"] for item in before["networks"]
    ]


def test_an_old_automatic_repair():
    before, run = old("repair_auto")
    trace = run.result.trace
    assert [row.after for row in trace.diff.per_class] == [row["after"] for row in before["trace"]["diff"]["per_class"]]
    assert [row.label for row in trace.diff.per_class] == list(range(10))
    assert [scan.targets for scan in trace.scans] == [(7,), ()]
    assert trace.candidates == before["trace"]["candidates"]
    assert run.result.chosen.changes.why is None
    _, untouched = old("repair_auto_clean")
    assert untouched.result.chosen.changes.model_dump() == {"why": "nothing is suspected, so nothing was changed"}


def test_a_page_about_old_runs():
    page = make_page(find_runs([FOLDER]))
    assert [len(kind) for kind in (page.scans, page.repairs, page.guards, page.evaluations)] == [1, 5, 1, 1]
    sentences = [repair.sentence for repair in page.repairs]
    assert any("was not repaired and is as it was: nothing is suspected" in sentence for sentence in sentences)
    assert sum(len(repair.charts) for repair in page.repairs) == 4, "two sweeps, two differences by class"
