"""The verb `guard` as a function: what is scanned, repaired and given, and what the outcome says."""

import json
import time

import numpy as np
import pytest
import torch

from goodnet import api
from goodnet.core.backdoor import Backdoor
from goodnet.core.errors import InvalidOption, MethodFailed, UnknownMethod, UnreadableData
from goodnet.core.reading import Reading
from goodnet.core.repairs import Change, Repair, RepairedNetwork, Trace
from goodnet.core.results import Detection, Rate, Run
from goodnet.execution import Execution
from goodnet.formats.data import read_data
from goodnet.guards.calibration import score_all
from goodnet.guards.mahalanobis import Mahalanobis
from goodnet.pair.goodnet import GoodNet
from goodnet.pipelines.auto_repair import AutoRepair
from goodnet.pipelines.guard_outcome import TargetRefusals
from goodnet.pipelines.scan_ensemble import ScanEnsemble
from goodnet.repairers.pruning import Pruning
from goodnet.repairers.unlearning import Unlearning
from tests.suspects import recover


@pytest.fixture
def calls(monkeypatch):
    """Notes the scans and repairs that run."""
    made: list[str] = []
    for kind, name in ((ScanEnsemble, "scan"), (AutoRepair, "repair"), (Pruning, "repair")):
        original = getattr(kind, name)

        def noted(self, *args, _original=original, _kind=kind, **kwargs):
            made.append(_kind.__name__)
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(kind, name, noted)
    return made


def repair_by_hand(twin):
    return Unlearning().repair(twin.classifier, twin.clean, suspected=(recover(twin),), seed=0).classifier


def test_what_is_given_is_neither_scanned_nor_repaired_again(planted, calls):
    repaired = repair_by_hand(planted)
    calls.clear()
    outcome = api.guard(planted.classifier, planted.clean, repaired=repaired, suspected=[recover(planted)])
    assert calls == []
    assert outcome.targets == (7,)
    assert outcome.goodnet.targets == (7,)
    assert (score_all(outcome.guard, planted.triggered) > outcome.guard.threshold).mean() > 0.95


def test_a_guard_that_is_not_fitted_in_time_is_none(planted, monkeypatch, tmp_path):
    def fit(self, *_, **__):
        while True:
            time.sleep(0.01)

    monkeypatch.setattr(Mahalanobis, "fit", fit)
    out = tmp_path / "guard"
    with pytest.raises(MethodFailed, match=r"the budget of 0\.5 s ended before the guard was fitted"):
        api.guard(planted.classifier, planted.clean, method="mahalanobis", out=out, where=Execution(budget=0.5))
    assert Run.load(out).error.kind == "BudgetSpent"


def test_a_guard_says_that_its_scan_is_inconclusive(planted, monkeypatch, tmp_path):
    doubt = Detection("inconclusive", (), 5.0, reason="the time was up with 4 classes not done")
    monkeypatch.setattr("goodnet.api.guarding.look_for_suspects", lambda *_, **__: doubt)
    out = tmp_path / "guard"
    outcome = api.guard(planted.classifier, planted.clean, method="disagreement", out=out)
    words = "the scan is inconclusive, and no target is taken from it: the time was up with 4 classes not done"
    assert outcome.warnings == (words,)
    assert json.loads((out / "guard.json").read_text())["warnings"] == [words]


def test_a_guard_says_what_its_repair_had_no_time_for(planted, monkeypatch):
    def repair(self, classifier, clean, **_):
        assert 0 < self._seconds <= 750
        network = RepairedNetwork("same", classifier.copy(), Rate.of(1, 1), Change())
        return Repair((network,), Rate.of(1, 1), Trace(out_of_time="late"))

    monkeypatch.setattr(AutoRepair, "repair", repair)
    suspected = [Backdoor(None, 7)]
    where = Execution(budget=1000.0)
    outcome = api.guard(planted.classifier, planted.clean, method="disagreement", suspected=suspected, where=where)
    assert outcome.warnings == ("late",)


def test_a_method_that_needs_neither_gets_neither(planted, calls):
    outcome = api.guard(planted.classifier, planted.clean, method="mahalanobis")
    assert calls == []
    assert (outcome.method, outcome.suspected, outcome.goodnet, outcome.surrogates) == ("mahalanobis", (), None, ())
    assert outcome.false_refusals == outcome.guard.calibration


def test_what_is_missing_is_made(badnet, calls):
    outcome = api.guard(badnet.model, badnet.validation, method="disagreement", suspected=[])
    assert calls == ["Pruning"]
    assert isinstance(outcome.guard, GoodNet)
    assert outcome.false_refusals is None
    calls.clear()
    api.guard(badnet.model, badnet.validation, suspected=[])
    assert calls == ["Pruning"]


def test_with_nothing_given_it_scans_and_repairs(badnet, calls):
    outcome = api.guard(badnet.model, badnet.validation)
    assert calls[0] == "ScanEnsemble"
    assert len(calls) == 2
    assert outcome.goodnet.targets == (outcome.targets or None)


def test_the_rates_are_those_of_the_clean_images_and_of_the_surrogates(planted):
    repaired = repair_by_hand(planted)
    outcome = api.guard(planted.classifier, planted.clean, repaired=repaired, suspected=[recover(planted)])
    refused = score_all(outcome.guard, planted.clean) > outcome.guard.threshold
    assert outcome.refused_clean == Rate.of(int(refused.sum()), len(planted.clean))
    pair = GoodNet(planted.classifier, repaired, targets=[7]).predict_all(planted.clean)
    assert outcome.goodnet_refused == Rate.of(int(pair.refused.sum()), len(planted.clean))
    own = planted.clean.targets == 7
    assert outcome.of_targets == (TargetRefusals(target=7, refused=Rate.of(int(refused[own].sum()), int(own.sum()))),)
    assert outcome.goodnet_of_targets[0].refused == Rate.of(int(pair.refused[own].sum()), int(own.sum()))
    first, pair_first = outcome.surrogates[0], outcome.goodnet_surrogates[0]
    assert (first.target, first.surrogate, first.success) == (7, "as recovered", pair_first.success)
    assert first.refused.value > 0.95
    stamped = recover(planted).trigger(planted.clean.images())
    predictions = planted.classifier(planted.clean.images()).argmax(1)
    hit = (predictions != 7) & (planted.classifier(stamped).argmax(1) == 7)
    scores = outcome.goodnet.scores(stamped[hit]).detach().numpy()
    assert pair_first.refused == Rate.of(int((scores > 0).sum()), len(scores))


def test_the_folders_of_a_scan_and_a_repair(badnet, repaired_badnet, tmp_path):
    api.scan(badnet.model, badnet.validation, out=tmp_path / "scan")
    found = api.scan(badnet.model, badnet.validation)
    outcome = api.guard(badnet.model, badnet.validation, repaired=repaired_badnet, suspected=tmp_path / "scan")
    assert outcome.targets == tuple(sorted(backdoor.target for backdoor in found.suspected))
    weights = api.load_classifier(repaired_badnet / "repaired_50_percent.h5").network.state_dict()
    used = outcome.goodnet.repaired.network.state_dict()
    assert all(torch.equal(used[name], value) for name, value in weights.items())


def test_what_is_written_is_read_back(badnet, repaired_badnet, tmp_path):
    outcome = api.guard(
        badnet.model, badnet.validation, repaired=repaired_badnet, suspected=[Backdoor(None, 0)], out=tmp_path
    )
    assert {path.name for path in tmp_path.iterdir()} == {"goodnet", "guard.json", "run.json"}
    record, run = (json.loads((tmp_path / name).read_text()) for name in ("guard.json", "run.json"))
    assert (run["result_file"], "result" in run) == ("guard.json", False), "the result is written once"
    assert Run.load(tmp_path).result.model_dump(mode="json") == record
    assert (run["verb"], run["method"], run["error"]) == ("guard", "ensemble", None)
    assert record["threshold"] == outcome.guard.threshold
    assert record["false_refusals"].keys() == {"n", "expected", "bound"}
    assert record["goodnet"]["targets"] == [0]
    saved = GoodNet.load(tmp_path)
    assert saved.targets == (0,)
    pixels = api.load_dataset(badnet.poisoned).images()
    assert torch.equal(saved.scores(pixels), outcome.goodnet.scores(pixels))
    # A guard without a repaired network leaves none of the earlier one.
    api.guard(badnet.model, badnet.validation, method="strip", out=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"guard.json", "run.json"}


def test_a_failure_is_recorded_and_nothing_else_left(planted, tmp_path):
    api.guard(planted.classifier, planted.clean, method="mahalanobis", out=tmp_path)
    with pytest.raises(MethodFailed, match="scan first"):
        api.guard(planted.classifier, planted.clean, method="trigger_match", suspected=[], out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert json.loads((tmp_path / "run.json").read_text())["error"]["kind"] == "MethodFailed"


def test_labels_are_not_needed(badnet):
    images = api.load_dataset(badnet.validation).images()
    outcome = api.guard(badnet.model, images, method="mahalanobis", reading=Reading(input_range="0..1"))
    labelled = api.guard(badnet.model, badnet.validation, method="mahalanobis", reading=Reading(input_range="0..1"))
    assert outcome.guard.threshold == labelled.guard.threshold


def test_without_labels_and_suspects_a_network_pruned_by_its_own_answers_is_the_second_opinion(badnet, calls):
    clean = read_data(badnet.validation)
    outcome = api.guard(badnet.model, clean.source.read(clean.positions), method="disagreement", suspected=[])
    assert calls == ["Pruning"]
    assert isinstance(outcome.guard, GoodNet)


def test_bad_input_is_an_error_before_anything_is_written(badnet, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UnknownMethod, match="unknown method 'wall' among the guards"):
        api.guard(badnet.model, badnet.validation, method="wall", out=out)
    with pytest.raises(InvalidOption, match="strip: option 'false_refusals'"):
        api.guard(badnet.model, badnet.validation, method="strip", false_refusals=2, out=out)
    with pytest.raises(UnreadableData, match=r"suspected\.npz"):
        api.guard(badnet.model, badnet.validation, suspected=tmp_path, out=out)
    np.savez(tmp_path / "suspected.npz", targets=[0], mask_0=np.zeros((1, 2, 2), np.float32))
    with pytest.raises(UnreadableData, match="the file is damaged"):
        api.guard(badnet.model, badnet.validation, suspected=tmp_path, out=out)
    assert not out.exists()
