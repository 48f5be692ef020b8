"""What the table of docs/reliability.md says, on the quickest verb; and what each verb keeps when it is stopped."""

import importlib
import json
import os
import subprocess
import sys

import pytest

from goodnet import api
from goodnet.core.backdoor import Backdoor
from goodnet.core.errors import UnwritableOutput
from goodnet.evaluation import zoo
from goodnet.execution import Execution
from tests.micro_zoo import ZOO


@pytest.mark.slow
def test_a_guard_at_the_first_and_the_last_step(repository, tmp_path):
    """In a process of its own, which is forked before it computes."""
    values = tmp_path / "faults.jsonl"
    faults = "full disk,permission lost,kill -9,SIGTERM"
    command = [sys.executable, str(repository / "benchmarks" / "faults.py"), "--verbs", "guard", "--faults", faults]
    folders = [str(repository / "src"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--moments", "2", "--values", str(values)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in values.read_text().splitlines()]
    assert {record["fault"]: record["wrong"] for record in records} == {fault: {} for fault in faults.split(",")}
    assert [record["moments"] for record in records] == [2, 2, 2, 2]


def stop_after(monkeypatch, files):
    """Let Ctrl-C come after so many files are put under their names; what a scan remembers on the way does not count."""
    replace, steps = os.replace, []

    def counting(source, target):
        replace(source, target)
        if "unfinished" not in str(target):
            steps.append(target)
        if len(steps) == files:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", counting)


def record_of(folder):
    return [path.name for path in folder.iterdir() if path.name in ("run.json", "backdoor.json")]


@pytest.mark.parametrize("verb", ["scan", "repair", "guard", "evaluate"])
def test_no_record_lies_beside_files_of_another_run(verb, planted, monkeypatch, tmp_path):
    suspected = [Backdoor(planted.backdoor.trigger, 7)]
    run = {
        "scan": lambda seed: api.scan(
            planted.classifier, planted.clean, method="neural_cleanse", steps=5, seed=seed, out=tmp_path
        ),
        "repair": lambda seed: api.repair(
            planted.classifier, planted.clean, method="pruning", suspected=suspected, seed=seed, out=tmp_path
        ),
        "guard": lambda seed: api.guard(
            *(planted.classifier, planted.clean), method="strip", suspected=suspected, seed=seed, out=tmp_path
        ),
        "evaluate": lambda _: api.evaluate(planted.classifier, planted.test, [planted.triggered], out=tmp_path),
    }[verb]
    run(0)
    assert record_of(tmp_path) == ["run.json"]
    stop_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        run(1)
    assert record_of(tmp_path) == []


def test_an_attack_that_cannot_be_written_is_not_trained_again(monkeypatch, tmp_path):
    how = {"data": "digits:8", "out": tmp_path, "training": {"epochs": 3}, "options": {"target": 3}}
    steps = []
    with monkeypatch.context() as patch:
        stop_after(patch, 3)  # The checkpoints of three epochs.
        with pytest.raises(KeyboardInterrupt):
            api.attack(**how)
    assert [path.name[:11] for path in tmp_path.iterdir()] == ["checkpoint_"]
    made = api.attack(**how, progress=lambda *step: steps.append(step))
    assert not steps
    assert not list(tmp_path.glob("checkpoint*"))
    whole = api.attack(**(how | {"out": tmp_path / "whole"}))
    assert made.metrics == whole.metrics
    assert (tmp_path / "network.pt").read_bytes() == (tmp_path / "whole" / "network.pt").read_bytes()


def test_a_zoo_on_a_full_disk_ends_at_once_and_keeps_what_was_trained(monkeypatch, tmp_path):
    (tmp_path / "micro.toml").write_text(ZOO)
    out, tried = tmp_path / "zoo", []

    def fail(folder, *_):
        tried.append(folder)
        raise UnwritableOutput(f"{folder}: cannot be written (No space left on device)")

    with monkeypatch.context() as patch:
        patch.setattr(zoo, "write_planted", fail)
        with pytest.raises(UnwritableOutput, match="No space left on device"):
            api.build_zoo(tmp_path / "micro.toml", out=out, where=Execution(workers=1))
    assert len(tried) == 1
    assert len(list((out / "checkpoints").iterdir())) == 1
    assert not (out / "manifest.json").exists()
    steps = []
    train = zoo.plant

    def counting(*args, **kwargs):
        steps.append(0)
        return train(*args, **kwargs, progress=lambda *_: steps.__setitem__(-1, steps[-1] + 1))

    monkeypatch.setattr(zoo, "plant", counting)
    api.build_zoo(tmp_path / "micro.toml", out=out, where=Execution(workers=1))
    assert len(steps) == 4
    assert [count == 0 for count in steps] == [True, False, False, False]
    assert not (out / "checkpoints").exists()


def test_the_page_has_the_table_of_the_recorded_values(repository):
    """Where this fails: python benchmarks/faults.py --table"""
    faults = importlib.import_module("benchmarks.faults")
    assert faults.table(faults.VALUES) in (repository / "docs" / "reliability.md").read_text(encoding="utf-8")
