import json

import pytest

from goodnet import api
from goodnet.api.suspects import read_suspects
from goodnet.core.results import Detection
from goodnet.formats.arrays import write_hdf5

WEIGHTS = ("--architecture", "tests.data.twin_network:build")


@pytest.fixture
def twin_files(planted, clean_twin, tmp_path):
    for twin, name in ((planted, "planted"), (clean_twin, "clean_twin")):
        twin.classifier.save(tmp_path / f"{name}{twin.classifier.suffix}")
    write_hdf5(tmp_path / "clean.h5", planted.clean)
    return tmp_path


@pytest.mark.slow
def test_guilty_is_exit_code_1_with_the_target_first_in_the_json(goodnet, twin_files):
    (model,) = twin_files.glob("planted.*")
    out = twin_files / "scan"
    result = goodnet("scan", str(model), *WEIGHTS, "--clean", str(twin_files / "clean.h5"), "--out", str(out), "--json")
    assert result.code == 1
    content = json.loads(result.out)
    assert list(content)[:2] == ["verdict", "suspected"]
    assert (content["verdict"], [item["target"] for item in content["suspected"]]) == ("backdoored", [7])
    assert len(content["scores"]) == 10
    assert json.loads((out / "scan.json").read_text()) == content
    assert (out / "trigger_class_7.png").read_bytes()[:4] == b"\x89PNG"
    assert len((out / "scores.csv").read_text().splitlines()) == 11


@pytest.mark.slow
def test_an_all_to_all_backdoor_is_one_finding_for_a_person(goodnet, all_to_all, twin_files):
    model, out = twin_files / f"all{all_to_all.suffix}", twin_files / "scan"
    all_to_all.save(model)
    result = goodnet("scan", str(model), *WEIGHTS, "--clean", str(twin_files / "clean.h5"), "--out", str(out))
    assert result.code == 1
    assert "verdict: backdoored, all to all: each of 10 classes is the target of another\n" in result.out
    words = " ".join(result.out.split())
    assert "all to all has the lowest p-value, " in words
    assert " alpha is 0.01 all to all: one small trigger sends every class to another" in words
    assert [path.name for path in out.glob("trigger*.png")] == ["trigger_classes_all.png"]


@pytest.mark.slow
def test_clean_is_exit_code_0_and_says_what_it_rests_on(goodnet, twin_files):
    (model,) = twin_files.glob("clean_twin.*")
    result = goodnet("scan", str(model), *WEIGHTS, "--clean", str(twin_files / "clean.h5"))
    assert result.code == 0
    assert "verdict: clean" in result.out
    assert ": clean networks look like this\nalpha is 0.01\n" in result.out
    assert "\ntriggers that work on one of these classes alone were not looked for: " in result.out
    assert "\nthe smallest trigger found for three of four images covers " in result.out


def test_labels_that_the_network_does_not_know_are_no_verdict(goodnet, twin_files, planted):
    from dataclasses import replace

    (model,) = twin_files.glob("planted.*")
    foreign = replace(planted.clean, labels=(planted.clean.labels + 3) % 10)
    write_hdf5(twin_files / "foreign.h5", foreign)
    result = goodnet("scan", str(model), *WEIGHTS, "--clean", str(twin_files / "foreign.h5"), "--json")
    content = json.loads(result.out)
    assert (result.code, content["verdict"], content["suspected"]) == (3, "inconclusive", [])
    assert content["reason"].startswith("it does not do its task (accuracy 0.0")
    assert content["scores"] == [None] * 10


def test_unknown_scanner(goodnet, twin_files):
    result = goodnet("scan", "net.pt", "--clean", "data.h5", "--method", "guessing")
    assert result.code == 2
    assert (
        "unknown method 'guessing' among the scanners; known: adversarial_patch, class_pairs, clean_student, ensemble"
        in result.err
    )


@pytest.mark.slow
def test_an_interrupted_scan_goes_on_where_it_was(goodnet, twin_files, monkeypatch):
    (model,) = twin_files.glob("planted.*")
    arguments = ["scan", str(model), *WEIGHTS, "--clean", str(twin_files / "clean.h5"), "--json"]
    whole = json.loads(goodnet(*arguments, "--out", str(twin_files / "whole")).out)
    out = twin_files / "broken"
    # The time is up at once: the first stage is kept, nothing else is done.
    stopped = goodnet(*arguments, "--out", str(out), "--budget", "0.000001")
    assert stopped.code == 3
    assert "the time was up" in json.loads(stopped.out)["reason"]
    resumed = goodnet(*arguments, "--out", str(out), "--resume")
    assert json.loads(resumed.out) == whole
    assert not (out / "unfinished").exists()


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("soon", "expected a time such as 90s"),
        ("-3", "expected a time such as 90s"),
        ("0", "a budget above 0 s, got 0"),
    ],
)
def test_a_budget_that_is_no_time_is_refused(goodnet, twin_files, budget, message):
    result = goodnet("scan", "net.pt", "--clean", "data.h5", "--budget", budget)
    assert (result.code, message in result.err) == (2, True)


def test_resume_needs_the_folder(goodnet, twin_files):
    (model,) = twin_files.glob("planted.*")
    result = goodnet("scan", str(model), *WEIGHTS, "--clean", str(twin_files / "clean.h5"), "--resume")
    assert (result.code, "expected the folder" in result.err) == (2, True)


def test_one_record_serves_all_files_and_every_input_is_hashed_once(goodnet, twin_files, monkeypatch):
    (model,) = twin_files.glob("planted.*")
    out, sarif, hashed = twin_files / "scan", twin_files / "scan.sarif", []
    monkeypatch.setattr("goodnet.formats.seen_files.sha256", lambda path: hashed.append(path) or "0" * 64)
    options = ("--method", "last_layer", "--seed", "3", "--out", str(out), "--sarif", str(sarif))
    goodnet("scan", str(model), *WEIGHTS, "--clean", str(twin_files / "clean.h5"), *options)
    # The network's hash is that of the bytes that the confined process has read.
    assert hashed == [twin_files / "clean.h5"]
    run = json.loads((out / "run.json").read_text())
    (told,) = json.loads(sarif.read_text())["runs"][0]["invocations"]
    assert told["properties"] == {name: run[name] for name in ("method", "options", "seed", "inputs")}
    assert run["result_file"] == "scan.json"


def test_a_detection_comes_back_from_its_folder(planted, tmp_path):
    found = api.scan(planted.classifier, planted.clean, method="neural_cleanse", steps=60, out=tmp_path / "scan")
    assert found.suspected[0].trigger is not None
    assert Detection.load(tmp_path / "scan") == found
    found.save(tmp_path / "again")
    assert {path.name for path in (tmp_path / "again").iterdir()} == {"scan.json", "suspected.npz"}
    assert read_suspects(tmp_path / "again", planted.classifier) == found.suspected
