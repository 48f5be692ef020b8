import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from goodnet import api, catalog, scanners
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import InputError, InvalidOption, UnknownMethod
from goodnet.core.results import Failure, Metrics, Rate
from goodnet.evaluation.bench_cells import rate_defence
from goodnet.evaluation.bench_spec import MethodSpec
from goodnet.execution import Execution
from goodnet.guards.disagreement import Disagreement
from goodnet.pair.goodnet import GoodNet
from goodnet.pipelines.guard_ensemble import GuardEnsemble
from goodnet.pipelines.scan_ensemble import ScanEnsemble
from tests.killing import run_with_kills
from tests.micro_zoo import BENCH

TABLES = ("repair.csv", "repair_cells.csv", "guards.csv", "guards_cells.csv", "cells.json")
ONE_SEED = BENCH.replace("[0, 1, 2]", "[0]")


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def done(micro_zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    api.bench(write(folder / "spec.toml", BENCH), out=folder / "out", zoo=micro_zoo, where=Execution(workers=1))
    return folder / "out"


def test_every_cell_is_there_with_n_and_interval(done: Path) -> None:
    cells = json.loads((done / "cells.json").read_text())["cells"]
    assert len(cells) == 4 * 2 * 3
    assert all(cell["error"] is None for cell in cells)
    repair = next(cell for cell in cells if cell["family"] == "repairers" and cell["backdoored"])["result"]
    before, after = (repair[when]["clean_accuracy"] for when in ("before", "after"))
    assert before["n"] == after["n"] > 300
    assert before["low"] < before["value"] < before["high"]
    assert 0 <= repair["defence_effectiveness"] <= 1
    header, first = (line.split(",") for line in (done / "guards.csv").read_text().splitlines()[:2])
    row = dict(zip(header, first, strict=True))
    assert (row["method"], row["attack"], row["cells"], row["failed"]) == ("disagreement", "all", "12", "0")
    assert row["AUROC n"] == "6"
    assert float(row["AUROC low"]) <= float(row["AUROC"]) <= float(row["AUROC high"])


def test_a_cell_that_takes_too_long_has_failed_and_is_run_again(micro_zoo: Path, tmp_path: Path) -> None:
    limited = ONE_SEED.replace("clean_images = 100", "clean_images = 100\ncell_seconds = 0.02")
    ended = api.bench(
        write(tmp_path / "limited.toml", limited), out=tmp_path / "out", zoo=micro_zoo, where=Execution(workers=1)
    )
    kinds = {record.family: record.error.kind for record in ended.records}
    assert kinds == {"repairers": "OutOfTime", "guards": "MethodFailed"}
    assert not list((tmp_path / "out" / "cells").glob(".*")), "what was begun is left behind"
    again = api.bench(
        write(tmp_path / "spec.toml", ONE_SEED), out=tmp_path / "out", zoo=micro_zoo, where=Execution(workers=1)
    )
    assert all(record.error is None for record in again.records)


def test_four_processes_give_the_same_tables(done: Path, micro_zoo: Path, tmp_path: Path) -> None:
    api.bench(write(tmp_path / "spec.toml", BENCH), out=tmp_path / "out", zoo=micro_zoo, where=Execution(workers=4))
    assert_same_tables(tmp_path / "out", done)


def test_cells_run_on_the_device_that_is_asked_for(micro_zoo: Path, tmp_path: Path, monkeypatch) -> None:
    spec, moves, move = write(tmp_path / "spec.toml", ONE_SEED), [], Classifier.to
    monkeypatch.setattr(Classifier, "to", lambda self, device: moves.append(str(device)) or move(self, device))
    where = Execution("cpu:0", workers=1)
    result = api.bench(spec, out=tmp_path / "out", zoo=micro_zoo, where=where)
    assert all(record.error is None for record in result.records)
    # Each cell's networks there and back; what a repairer made is written from the processor.
    assert moves.count("cpu:0") >= len(result.records)
    assert set(moves) == {"cpu:0", "cpu"}
    with pytest.raises(InvalidOption, match="device 'abacus' is not to be had here"):
        api.bench(spec, out=tmp_path / "none", zoo=micro_zoo, where=Execution("abacus"))
    assert not (tmp_path / "none").exists()


def assert_same_tables(found: Path, expected: Path) -> None:
    for name in TABLES:
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name


@pytest.mark.slow
def test_a_bench_that_is_killed_goes_on_where_it_was(done: Path, micro_zoo: Path, tmp_path: Path) -> None:
    spec, out = write(tmp_path / "spec.toml", BENCH), tmp_path / "out"
    arguments = ["bench", str(spec), "--zoo", str(micro_zoo), "--out", str(out), "--workers", "1"]
    assert run_with_kills(arguments, out, seconds=2.0) > 0
    assert_same_tables(out, done)
    assert not list(out.glob("cells/.*"))


def test_what_is_done_is_not_run_again(done: Path, micro_zoo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(done, out)
    before = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/cell.json")}
    wider = BENCH + '\n[[repairers]]\nmethod = "pruning"\nlabel = "random"\noptions = { order = "random" }\n'
    told: list[int] = []
    api.bench(
        write(tmp_path / "spec.toml", wider),
        out=out,
        zoo=micro_zoo,
        where=Execution(workers=1),
        progress=lambda done, _: told.append(done),
    )
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert len(told) == 12


STUB = '''
"""A scanner that knows, for tests."""

from goodnet.core.errors import MethodFailed
from goodnet.core.method import Scanner
from goodnet.core.results import Detection


class Stub(Scanner):
    """Says backdoored of the networks it is told; fails on one kind. Source: none. Needs: nothing."""

    def examine(self, classifier, clean, *, seed, **_):
        if classifier.name.endswith(".safetensors"):
            raise MethodFailed("no answer for safetensors")
        mean = float(next(classifier.network.parameters()).detach().abs().mean())
        return Detection("backdoored", (mean, 0.0), 0.5)
'''


def test_a_failed_scan_is_a_cell_and_a_miss(micro_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "stub.py", STUB)
    monkeypatch.setattr(scanners, "__path__", [*scanners.__path__, str(tmp_path)])
    catalog.names.cache_clear()
    try:
        spec = write(tmp_path / "spec.toml", 'name = "scan"\n[[scanners]]\nmethod = "stub"\n')
        result = api.bench(spec, out=tmp_path / "out", zoo=micro_zoo, where=Execution(workers=1))
    finally:
        catalog.names.cache_clear()
    errors = [cell.error for cell in result.records]
    assert [error is None for error in errors] == [True, True, False, False]
    assert errors[2] == Failure(kind="MethodFailed", message="no answer for safetensors")
    header, first = (line.split(",") for line in (tmp_path / "out" / "detection.csv").read_text().splitlines()[:2])
    row = dict(zip(header, first, strict=True))
    assert {key: row[key] for key in ("cells", "failed", "TPR", "TPR n", "FPR", "FPR n")} == {
        "cells": "4",
        "failed": "2",
        "TPR": "0.5",
        "TPR n": "2",
        "FPR": "0.5",
        "FPR n": "2",
    }


def test_a_guard_whose_repair_failed_is_a_failed_cell(micro_zoo: Path, tmp_path: Path) -> None:
    text = ONE_SEED.replace('method = "pruning"\n', 'method = "pruning"\noptions = { layer = "nowhere" }\n', 1)
    result = api.bench(
        write(tmp_path / "spec.toml", text), out=tmp_path / "out", zoo=micro_zoo, where=Execution(workers=1)
    )
    assert [cell.error.kind for cell in result.records] == ["UnknownMethod"] * 4 + ["MethodFailed"] * 4
    assert "that failed" in result.records[-1].error.message
    assert "UnknownMethod" in (tmp_path / "out" / "repair_cells.csv").read_text()


def test_a_guard_gets_what_a_scan_suspects_and_a_repair_made(
    micro_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[set[int], bool]] = []
    fit = Disagreement.fit

    def remember(self: Disagreement, classifier: Classifier, clean: Dataset, **more: Any) -> GoodNet:
        repaired = more["repaired"]
        differs = any(not torch.equal(a, b) for a, b in zip(*map(weights, (classifier, repaired)), strict=True))
        given.append(({backdoor.target for backdoor in more["suspected"]}, differs))
        return fit(self, classifier, clean, **more)

    monkeypatch.setattr(Disagreement, "fit", remember)
    scanner = '\n[[scanners]]\nmethod = "max_margin"\noptions = { threshold = 0.01 }\n'
    text = ONE_SEED.replace('repaired_by = "pruning"', 'repaired_by = "pruning"\nsuspected_by = "max_margin"') + scanner
    result = api.bench(
        write(tmp_path / "spec.toml", text), out=tmp_path / "out", zoo=micro_zoo, where=Execution(workers=1)
    )
    scans = [cell.result.suspected_targets for cell in result.of("scanners")]
    assert given == [(set(targets), True) for targets in scans]
    assert any(targets for targets, _ in given)


def test_a_repair_that_no_file_can_hold_is_measured_and_a_guard_says_that_the_file_is_missing(
    micro_zoo: Path, tmp_path: Path
) -> None:
    text = ONE_SEED.replace('method = "pruning"', 'method = "activation_bounds"\noptions = { steps = 2 }')
    text = text.replace('repaired_by = "pruning"', 'repaired_by = "activation_bounds"')
    result = api.bench(
        write(tmp_path / "spec.toml", text), out=tmp_path / "out", zoo=micro_zoo, where=Execution(workers=1)
    )
    repairs = result.of("repairers")
    assert [cell.error for cell in repairs] == [None] * 4
    assert all(0 < cell.result.after.clean_accuracy.value <= 1 for cell in repairs)
    assert all("no such file" in cell.error.message for cell in result.of("guards"))


def test_ensemble_is_the_pipeline_of_its_family() -> None:
    ensemble = MethodSpec(method="ensemble")
    assert (ensemble.kind("scanners"), ensemble.kind("guards")) == (ScanEnsemble, GuardEnsemble)
    assert ensemble.module("guards") == "goodnet.pipelines.guard_ensemble"
    with pytest.raises(UnknownMethod):
        ensemble.kind("attacks")


def weights(classifier: Classifier) -> list[torch.Tensor]:
    return list(classifier.network.state_dict().values())


def test_networks_can_be_listed(micro_zoo: Path, tmp_path: Path) -> None:
    pair, data = micro_zoo / "pairs/000_digits_badnets/poisoned", micro_zoo / "data/digits"
    models = f"""
[[models]]
name = "mine"
model = "{pair / "network.pt"}"
architecture = "small_cnn"
clean = "{data / "clean_validation_data.h5"}"
test = "{data / "clean_test_data.h5"}"
triggered = {{ patch = "{pair / "badnets_poisoned_data.h5"}" }}
"""
    result = api.bench(
        write(tmp_path / "spec.toml", ONE_SEED + models), out=tmp_path / "out", where=Execution(workers=1)
    )
    assert [(cell.network, cell.backdoored, cell.error) for cell in result.records] == [("mine", True, None)] * 2
    assert set(result.records[1].result.triggers) == {"patch"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('method = "pruning"', 'methods = "pruning"', "unknown key 'repairers.0.methods'"),
        ('method = "pruning"', 'label = "pruning"\nmethod = "prunning"', "unknown method 'prunning'"),
        ('method = "pruning"', 'method = "pruning"\noptions = { ordr = "random" }', "ordr"),
        ('repaired_by = "pruning"', 'repaired_by = "training"', "repaired_by names 'training'"),
        ('repaired_by = "pruning"', "", "disagreement: this guard needs 'repaired_by', the label of a repairer"),
        (
            'method = "disagreement"',
            'method = "trigger_match"',
            "this guard needs 'suspected_by', the label of a scanner",
        ),
        ('repaired_by = "pruning"', 'suspected_by = "training"', "suspected_by names 'training'"),
        ("seeds = [0, 1, 2]", "seeds = []", "seeds"),
        ("clean_images = 100", "clean_images = 0", "clean_images"),
        ("clean_images = 100", "cell_seconds = 0", "cell_seconds"),
    ],
)
def test_a_bad_spec_is_a_clear_error_before_any_work(
    micro_zoo: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in BENCH
    with pytest.raises(InputError) as caught:
        api.bench(write(tmp_path / "spec.toml", BENCH.replace(old, new, 1)), out=tmp_path / "out", zoo=micro_zoo)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("zoo", ["missing", None])
def test_a_bench_needs_networks(tmp_path: Path, zoo: str | None) -> None:
    with pytest.raises(InputError):
        api.bench(write(tmp_path / "spec.toml", BENCH), out=tmp_path / "out", zoo=zoo)


def metrics(accuracy: int, success: int) -> Metrics:
    return Metrics(clean_accuracy=Rate.of(accuracy, 100), attack_success_rate={"patch": Rate.of(success, 100)})


@pytest.mark.parametrize(
    ("before", "after", "rating"),
    [((90, 100), (90, 0), 1.0), ((90, 100), (80, 50), 0.7), ((90, 50), (95, 60), 0.5), ((90, 100), (40, 100), 0.25)],
)
def test_the_defence_effectiveness_rating(before: tuple[int, int], after: tuple[int, int], rating: float) -> None:
    assert rate_defence(metrics(*before), metrics(*after)) == pytest.approx(rating)
