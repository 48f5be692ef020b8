"""The audit log: what is written, who may read it, and what happens where it cannot be written."""

import asyncio
import hashlib
import json
import resource
import stat

import pytest

from goodnet.core.errors import InvalidOption, UnwritableOutput
from goodnet.serve.answers import Answer, Opinions
from goodnet.serve.audit import AuditLog
from goodnet.serve.options import ServeOptions
from tests.serve.conftest import serving
from tests.serve.telling_network import CLASSES, SPOILT, picture


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_refusal_is_one_line(telling, tmp_path):
    path = tmp_path / "audit.jsonl"
    with serving(telling, audit=str(path)) as site:
        site.predict(picture(5))
        first = site.predict(picture(0, 17)).json["request_id"]
        second = site.predict_form([picture(1), picture(2, 3), picture(4, 5)]).json["request_id"]
    found = records(path)
    assert [(r["request_id"], r["picture"]) for r in found] == [(first, 0), (second, 1), (second, 2)]
    assert found[0]["sha256"] == hashlib.sha256(picture(0, 17)).hexdigest()
    assert found[0]["model"] == telling.sha256
    assert found[0]["class"] == CLASSES
    assert found[0]["opinions"] == {"original": 0, "repaired": 17}
    assert found[0]["reason"] == "original says 0; repaired says 17"
    assert found[0]["scores"][0] == {"class": CLASSES, "name": None, "score": 0.75}
    assert found[0]["time"].endswith("+00:00")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in tmp_path.iterdir()] == ["audit.jsonl"]


def test_the_pictures_are_kept_only_where_asked_for(telling, tmp_path):
    path = tmp_path / "audit.jsonl"
    with serving(telling, audit=str(path), audit_images=True) as site:
        for body in (picture(5), picture(0, 17), picture(0, 17)):
            site.predict(body)
    kept = list((tmp_path / "audit.jsonl.images").iterdir())
    assert [item.name for item in kept] == [records(path)[0]["sha256"]]
    assert kept[0].read_bytes() == picture(0, 17)
    assert len(records(path)) == 2


def test_an_unguarded_answer_is_recorded_too(telling, tmp_path):
    path = tmp_path / "audit.jsonl"
    with serving(telling, audit=str(path), fail="open") as site:
        site.predict(picture(6, mark=SPOILT))
    assert [(r["class"], r["guarded"]) for r in records(path)] == [(6, False)]


@pytest.mark.parametrize("fail", ["closed", "open"])
def test_a_log_that_cannot_be_written(fail, telling, tmp_path):
    path = tmp_path / "logs" / "audit.jsonl"
    path.parent.mkdir()
    with serving(telling, audit=str(path), fail=fail) as site:
        path.unlink()
        path.parent.rmdir()
        refusal, clean, health = site.predict(picture(0, 1)), site.predict(picture(5)), site.request("GET", "/health")
        lost = site.metric("goodnet_unrecorded_total")
        path.parent.mkdir()
        again, health_again = site.predict(picture(0, 1)), site.request("GET", "/health")
    assert clean.image["class"] == 5
    assert again.image["refused"]
    assert lost == 1
    assert health_again.status == 200
    assert len(records(path)) == 1
    if fail == "closed":
        assert refusal.status == 503
        assert "audit log cannot be written: No such file" in refusal.json["reason"]
        assert (health.status, health.json["reasons"]) == (
            503,
            ["the audit log cannot be written: No such file or directory"],
        )
    else:
        assert refusal.image["refused"]
        assert health.status == 200


def test_a_log_that_is_moved_away_begins_anew(telling, tmp_path):
    path = tmp_path / "audit.jsonl"
    with serving(telling, audit=str(path)) as site:
        site.predict(picture(0, 1))
        path.rename(tmp_path / "old.jsonl")
        site.predict(picture(0, 2))
    assert len(records(tmp_path / "old.jsonl")) == len(records(path)) == 1


def test_half_a_line_is_taken_back(tmp_path):
    """A disk that runs full in the middle of a record leaves the lines before it whole."""
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, "0" * 64)
    answer = Answer(
        label=1,
        class_name=None,
        refused=True,
        guard="disagreement",
        reason="told",
        scores=[],
        opinions=Opinions(original=0, repaired=1),
        guarded=True,
    )
    assert asyncio.run(log.record("a", [b"one"], [answer]))
    whole = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, hard))
    try:
        written = asyncio.run(log.record("b", [b"two"], [answer]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not written
    assert log.trouble == "the audit log cannot be written: No space left on device"
    assert path.read_bytes() == whole
    assert asyncio.run(log.record("c", [b"three"], [answer]))
    assert [record["request_id"] for record in records(path)] == ["a", "c"]


def test_options_and_paths_that_cannot_work(tmp_path):
    with pytest.raises(InvalidOption, match="audit_images needs audit"):
        ServeOptions.from_options(audit_images=True)
    with pytest.raises(UnwritableOutput, match="audit log cannot be written"):
        AuditLog(tmp_path / "nowhere" / "audit.jsonl", "0" * 64)
