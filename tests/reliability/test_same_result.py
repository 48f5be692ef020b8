"""The same network, images, options and seed leave the same bytes: on two runs, and with one worker and with two.

With another number of threads the last digits of sums in training differ. So a record says the number, and `verify` takes it.
What else a record says of a run, when it began and how long it took, is left out.
"""

import json

import numpy as np
import pytest
import torch

from goodnet import api
from goodnet.core.backdoor import Backdoor
from goodnet.core.reading import Reading
from goodnet.execution import Execution
from goodnet.formats.arrays import write_hdf5

ARCHITECTURE = "tests.data.twin_network:build"


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
    assert record["threads"] == torch.get_num_threads()
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
def test_two_runs(verb, planted, tmp_path):
    verb(planted, tmp_path / "first")
    verb(planted, tmp_path / "again")
    assert len(content(tmp_path / "first")) > 2
    assert content(tmp_path / "first") == content(tmp_path / "again")


@pytest.mark.parametrize("verb", [scan, guard])
def test_one_thread_and_two(verb, planted, threads, tmp_path):
    """Nothing is trained here."""
    found = []
    for count in (1, 2):
        threads(count)
        verb(planted, tmp_path / str(count))
        found.append(content(tmp_path / str(count)))
        assert found[-1]["run.json"].pop("threads") == count
    assert found[0] == found[1]


@pytest.mark.slow
def test_a_repair_with_two_threads_is_verified_where_torch_has_one(planted, threads, tmp_path):
    planted.classifier.save(tmp_path / "planted.safetensors")
    write_hdf5(tmp_path / "clean.h5", planted.clean)
    threads(2)
    api.repair(
        *(tmp_path / "planted.safetensors", tmp_path / "clean.h5"),
        method="fine_tuning",
        reading=Reading(architecture=ARCHITECTURE),
        out=tmp_path / "repair",
    )
    threads(1)
    found = api.verify(tmp_path / "repair", architecture=ARCHITECTURE)
    assert found.equal, found
    assert torch.get_num_threads() == 1
    record = json.loads((tmp_path / "repair" / "run.json").read_text())
    (tmp_path / "repair" / "run.json").write_text(json.dumps(record | {"threads": 1}))
    assert not api.verify(tmp_path / "repair", architecture=ARCHITECTURE).equal


def test_a_scan_with_two_workers_and_in_another_order(planted, threads, tmp_path):
    scan(planted, tmp_path / "one", where=Execution(workers=1))
    scan(planted, tmp_path / "two", where=Execution(workers=2))
    order = np.random.default_rng(0).permutation(len(planted.clean))
    shuffled = planted._replace(clean=planted.clean.subset(order))
    scan(shuffled, tmp_path / "shuffled")
    assert content(tmp_path / "one") == content(tmp_path / "two") == content(tmp_path / "shuffled")
