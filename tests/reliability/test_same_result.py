"""The same network, images, options and seed leave the same bytes: on two runs, with one worker and thread and with two.

What else a record says of a run, when it began and how long it took, is left out.
"""

import json

import numpy as np
import pytest
import torch

from goodnet import api
from goodnet.core.backdoor import Backdoor
from goodnet.core.dataset import Dataset
from goodnet.execution import Execution


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def content(folder):
    """Return the bytes of all files in a folder, of a record without its times."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    record = json.loads(found.pop("run.json"))
    assert record.pop("seconds") > 0
    assert record.pop("started")
    return found | {"run.json": record}


def scan(twin, out, **options):
    api.scan(twin.classifier, twin.clean, method="neural_cleanse", steps=30, out=out, **options)


def repair(twin, out, method="unlearning"):
    suspected = [Backdoor(twin.backdoor.trigger, 7)]
    api.repair(twin.classifier, twin.clean, method=method, suspected=suspected, out=out)


def guard(twin, out):
    suspected = [Backdoor(twin.backdoor.trigger, 7)]
    api.guard(
        twin.classifier,
        twin.clean,
        method="disagreement",
        repaired=twin.classifier.copy(),
        suspected=suspected,
        out=out,
    )


@pytest.mark.parametrize("verb", [scan, repair, guard])
def test_two_runs_and_two_threads(verb, planted, threads, tmp_path):
    for name, count in (("first", 1), ("again", 1), ("two", 2)):
        threads(count)
        verb(planted, tmp_path / name)
    assert len(content(tmp_path / "first")) > 2
    assert content(tmp_path / "first") == content(tmp_path / "again") == content(tmp_path / "two")


def test_a_scan_with_two_workers_and_in_another_order(planted, threads, tmp_path):
    scan(planted, tmp_path / "one", where=Execution(1))
    scan(planted, tmp_path / "two", where=Execution(2))
    order = np.random.default_rng(0).permutation(len(planted.clean))
    pixels, labels = planted.clean.source.read(planted.clean.positions), planted.clean.targets
    shuffled = Dataset.from_arrays(pixels[order], labels[order], name=planted.clean.name)
    scan(planted._replace(clean=shuffled), tmp_path / "shuffled")
    assert content(tmp_path / "one") == content(tmp_path / "two") == content(tmp_path / "shuffled")
