"""`goodnet report`, and the exit codes of a scan in a pipeline."""

import json

import pytest

from goodnet import api
from goodnet.core.errors import MethodFailed
from tests.reports.conftest import make_detection


def test_a_report_on_a_repair(goodnet, repaired_badnet, tmp_path):
    out = tmp_path / "new" / "report.html"
    done = goodnet("report", repaired_badnet, "--out", out)
    assert (done.code, done.err) == (0, "")
    assert str(out) in done.out
    text = out.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert "was not scanned" in text


def test_no_run_is_bad_input_and_nothing_is_written(goodnet, tmp_path):
    done = goodnet("report", tmp_path, "--out", tmp_path / "report.html")
    assert done.code == 2
    assert done.err.startswith(f"goodnet: {tmp_path}: no run in this folder")
    assert list(tmp_path.iterdir()) == []


CLEAN = make_detection(verdict="clean", suspected=())
DOUBTFUL = make_detection(verdict="inconclusive", suspected=())


@pytest.fixture
def scan(goodnet, monkeypatch, tmp_path):
    """Run `goodnet scan` in a folder with two small files; what the scan finds is given."""
    monkeypatch.chdir(tmp_path)
    for name in ("net.h5", "clean.h5"):
        (tmp_path / name).write_bytes(b"bytes")

    def run(found, *arguments, policy=None):
        def answer(*_, **__):
            if isinstance(found, Exception):
                raise found
            return found

        monkeypatch.setattr(api, "scan", answer)
        if policy is not None:
            (tmp_path / "policy.toml").write_text(policy)
            arguments = (*arguments, "--policy", "policy.toml")
        return goodnet("scan", "net.h5", "--clean", "clean.h5", *arguments)

    return run


@pytest.mark.parametrize(
    ("found", "policy", "code"),
    [
        (CLEAN, None, 0),
        (make_detection(), None, 1),
        (DOUBTFUL, None, 3),
        (MethodFailed("no"), None, 3),
        (CLEAN, "", 0),
        (make_detection(), "", 1),
        (DOUBTFUL, "", 1),
        (make_detection(), "fail_on_backdoored = false", 0),
        (DOUBTFUL, "fail_on_inconclusive = false", 0),
        (CLEAN, "least_clean_accuracy = 0.96", 1),
        (CLEAN, "least_clean_accuracy = 0.95", 0),
        (MethodFailed("no"), "", 3),
        (CLEAN, "fail_on_all = true", 2),
        (make_detection(clean_accuracy=None), "least_clean_accuracy = 0.5", 2),
    ],
)
def test_exit_codes(scan, found, policy, code, tmp_path):
    done = scan(found, "--sarif", "out.sarif", policy=policy)
    assert done.code == code
    if policy != "fail_on_all = true":
        (run,) = json.loads((tmp_path / "out.sarif").read_text())["runs"]
        assert run["invocations"][0]["exitCode"] == code
        assert run["invocations"][0]["executionSuccessful"] == (code != 2 and not isinstance(found, Exception))


def test_what_the_policy_forbids_is_said_on_standard_error(scan):
    done = scan(make_detection(), "--json", policy="")
    assert done.err == "goodnet: policy fail_on_backdoored: the scan suspects a backdoor, target 0\n"
    assert json.loads(done.out)["verdict"] == "backdoored"


def test_a_misspelt_policy_ends_before_the_scan(scan):
    done = scan(AssertionError("the scan ran"), policy="fail_on_inconclusiv = true")
    assert done.code == 2
    assert "unknown key 'fail_on_inconclusiv'; is it misspelt?" in done.err


def test_a_result_is_shown_before_a_policy_that_cannot_be_judged(scan):
    done = scan(make_detection(clean_accuracy=None), policy="least_clean_accuracy = 0.5")
    assert "verdict: backdoored, target 0" in done.out
    assert "no labels that the network knows" in done.err
