"""`repair` on files."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from goodnet import api
from goodnet.api import repairing
from goodnet.core.backdoor import Backdoor
from goodnet.core.dataset import Dataset
from goodnet.core.errors import (
    BudgetSpent,
    InvalidOption,
    MethodFailed,
    UnknownMethod,
    UnreadableData,
    UnreadableModel,
    UnwritableOutput,
    WrongShape,
)
from goodnet.core.reading import Reading
from goodnet.core.repairs import Change, Repair, RepairedNetwork, ScanSummary, Trace, UnlabelledUse
from goodnet.core.results import Detection, Rate
from goodnet.execution import Execution
from goodnet.formats.arrays import write_hdf5
from goodnet.formats.data import read_data
from goodnet.formats.networks import read_network
from goodnet.inference.input_range import choose_input_range
from goodnet.inference.predictions import predict_classes
from goodnet.pair.goodnet import GoodNet
from goodnet.pipelines.auto_repair import AutoRepair, Unlearned
from tests.api.plain_keras import plain_classes
from tests.conftest import make_quadrants


def test_repair_writes_what_it_returns(badnet, tmp_path):
    out = tmp_path / "run"
    repair = api.repair(
        *(str(badnet.model), str(badnet.validation)),
        method="pruning",
        out=str(out),
        order="random",
        thresholds=(0.1,),
        seed=4,
    )
    record = json.loads((out / "run.json").read_text())
    assert record["verb"] == "repair"
    expected = {"layer": None, "order": "random", "thresholds": [0.1], "input_range": "auto", "architecture": None}
    expected |= {"keep_all": False, "key": None, "confine": True, "image_shape": None, "resize": None, "strict": False}
    expected |= {"live": [], "budget": None}
    assert record["options"] == expected
    assert record["seed"] == 4
    assert set(record["inputs"]) == {f"model: {badnet.model}", f"clean: {badnet.validation}"}
    assert record["result"]["networks"][0]["changes"] == repair.recommended.changes.model_dump(mode="json")
    expected = plain_classes(out / "repaired.h5", badnet.validation) == read_data(badnet.validation).targets
    assert repair.recommended.accuracy.value == expected.mean()
    assert record["result"]["trace"]["sweep"]["channels"] == list(np.random.default_rng(4).permutation(12))
    assert GoodNet.load(out).classes == 4


def test_repair_without_a_folder_writes_nothing(badnet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    repair = api.repair(read_network(badnet.model), read_data(badnet.validation), method="pruning")
    assert len(repair.networks) == 3
    assert list(tmp_path.iterdir()) == []


def test_a_repair_that_failed_says_so_in_its_record(tiny_classifier, tiny_data, tmp_path):
    with torch.no_grad():
        tiny_classifier.layer("output").module.bias[0] += 1e6
    data = tiny_data.subset(np.flatnonzero(tiny_data.targets == 0))
    with pytest.raises(MethodFailed, match="never falls"):
        api.repair(tiny_classifier, data, method="pruning", out=tmp_path / "run", reading=Reading(input_range="0..1"))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["result"] is None
    assert record["error"]["kind"] == "MethodFailed"
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


def test_bad_input_is_noticed_before_anything_is_written(badnet, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(UnknownMethod, match=r"unknown method 'prayer' among the repairers; known: .*pruning"):
        api.repair(badnet.model, badnet.validation, method="prayer", out=out)
    with pytest.raises(InvalidOption, match="thresholds"):
        api.repair(badnet.model, badnet.validation, method="pruning", thresholds=(2,), out=out)
    with pytest.raises(UnreadableModel):
        api.repair(tmp_path / "none.h5", badnet.validation, out=out)
    with pytest.raises(UnreadableData):
        api.repair(badnet.model, tmp_path / "none.h5", out=out)
    assert not out.exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(UnwritableOutput):
        api.repair(badnet.model, badnet.validation, out=tmp_path / "file" / "run")


def test_without_labels_the_network_s_own_answers_stand_for_them(badnet, tmp_path):
    clean = read_data(badnet.validation)
    pixels = clean.source.read(clean.positions)
    repair = api.repair(badnet.model, pixels, method="fine_tuning", out=tmp_path)
    assert repair.accuracy_before.value == 1.0
    assert "own predictions" in json.loads((tmp_path / "run.json").read_text())["result"]["trace"]["labels"]
    assert api.repair(badnet.model, badnet.validation, method="fine_tuning").trace.labels is None


def test_what_cannot_work_on_a_network_is_refused_before_a_scan(monkeypatch, tmp_path):
    monkeypatch.setattr("goodnet.api.repairing.look_for_suspects", lambda *_, **__: pytest.fail("it scanned"))
    pool = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), *pool)
    data = make_quadrants(8, 0)
    for method in ("quarantine", "ulrl"):
        with pytest.raises(UnknownMethod, match="does not end in a linear layer"):
            api.repair(
                module,
                data,
                method=method,
                reading=Reading(input_range="0..1", image_shape=(3, 12, 12)),
                out=tmp_path / "out",
            )
    assert not (tmp_path / "out").exists()


def test_data_on_which_neither_range_works(badnet):
    data = read_data(badnet.validation)
    shuffled = replace(data, labels=(data.targets + 1) % 4, name="wrong.h5")
    with pytest.raises(UnreadableData, match=r"wrong\.h5: no usual input range gives bd_net\.h5 a plausible accuracy"):
        api.repair(badnet.model, shuffled, method="pruning")


def test_unlabelled_images_are_repaired_with_and_recorded(badnet, tmp_path):
    poisoned = read_data(badnet.poisoned)
    stamped = poisoned.source.read(poisoned.positions)
    more = Dataset.from_arrays(np.concatenate([make_quadrants(100, 21).source.pixels, stamped]))
    clean = read_data(badnet.validation)
    predictions = predict_classes(choose_input_range(api.load_classifier(badnet.model), clean).classifier, more)
    out = tmp_path / "run"
    write_hdf5(tmp_path / "more.h5", replace(more, labels=np.full(180, 99)))
    repair = api.repair(
        *(badnet.model, badnet.validation),
        method="fine_tuning",
        unlabelled=tmp_path / "more.h5",
        suspected=(Backdoor(None, 0),),
        out=out,
    )
    counts = repair.trace.unlabelled
    assert counts == UnlabelledUse(used=int((predictions != 0).sum()), left_out=int((predictions == 0).sum()))
    assert counts.left_out >= 80
    assert repair.recommended.changes.images == len(clean) + counts.used
    assert repair.accuracy_before.n == repair.recommended.accuracy.n == len(clean)
    record = json.loads((out / "run.json").read_text())
    assert record["result"]["trace"]["unlabelled"] == counts.model_dump()
    assert f"unlabelled: {tmp_path / 'more.h5'}" in record["inputs"]


def test_without_suspects_unlabelled_images_wait_for_a_scan(badnet, monkeypatch):
    found = Detection("backdoored", (), 5.0, (Backdoor(None, 0),))
    monkeypatch.setattr("goodnet.api.repairing.look_for_suspects", lambda *_, **__: found)
    more = make_quadrants(40, 22).source.pixels
    repair = api.repair(badnet.model, badnet.validation, method="pruning", unlabelled=more)
    assert repair.trace.unlabelled.left_out > 0
    alone = api.repair(badnet.model, badnet.validation, method="pruning")
    assert repair.trace.sweep.accuracy == alone.trace.sweep.accuracy, "pruning goes by labels alone"


def test_unlabelled_images_that_do_not_fit(badnet, tmp_path):
    small, out = np.zeros((5, 3, 8, 8), np.uint8), tmp_path / "run"
    with pytest.raises(WrongShape, match=r"unlabelled: bd_net\.h5 takes images of shape"):
        api.repair(badnet.model, badnet.validation, unlabelled=small, out=out)
    with pytest.raises(UnreadableData, match=r"none\.h5"):
        api.repair(badnet.model, badnet.validation, unlabelled=tmp_path / "none.h5", out=out)
    assert not out.exists()
    with pytest.raises(UnreadableData, match="does not send to a suspected target"):
        api.repair(badnet.model, badnet.validation, unlabelled=badnet.test, suspected=every_class(), out=out)
    assert list(out.iterdir()) == []


def every_class() -> tuple[Backdoor, ...]:
    return tuple(Backdoor(None, label) for label in range(4))


@pytest.fixture
def scans(monkeypatch):
    """Scans one after another suspect these targets; returns the networks that were scanned."""

    def prepare(*targets):
        scanned, found = [], iter(targets)

        def find(classifier, clean, **_):
            scanned.append(classifier)
            suspected = tuple(Backdoor(None, target) for target in next(found))
            return Detection("backdoored" if suspected else "clean", (), 5.0, suspected, reason="told")

        monkeypatch.setattr("goodnet.api.repairing.look_for_suspects", find)
        return scanned

    return prepare


@pytest.mark.slow
def test_auto_scans_the_repaired_network_and_unlearns_what_hid(planted, tmp_path, scans):
    scanned = scans([7], [2, 7], [7])
    out = tmp_path / "run"
    repair = api.repair(planted.classifier, planted.clean, out=out)
    assert [scan.targets for scan in repair.trace.scans] == [(7,), (2, 7), (7,)]
    assert len({id(classifier) for classifier in scanned}) == 3
    result = json.loads((out / "run.json").read_text())["result"]
    assert result["targets"] == [2, 7]
    assert result["trace"]["scans"] == [scan.model_dump(mode="json") for scan in repair.trace.scans]
    assert result["trace"]["scans"][0] == {"verdict": "backdoored", "targets": [7], "reason": "told"}


@pytest.mark.slow
@pytest.mark.parametrize("failing", [False, True])
def test_a_further_repair_that_is_rolled_back_or_fails_leaves_the_first(planted, monkeypatch, scans, failing, tmp_path):
    scans([7], [2], [])
    whole = AutoRepair.repair

    def repair(self, classifier, clean, *, suspected, **how):
        if failing and len(suspected) > 1:
            raise MethodFailed("no")
        return whole(self, classifier, clean, suspected=suspected if len(suspected) == 1 else (), **how)

    monkeypatch.setattr(AutoRepair, "repair", repair)
    result = api.repair(planted.classifier, planted.clean, out=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["result"]["targets"] == [2, 7]
    assert result.recommended.changes.method.startswith("anchored_unlearning")
    assert [scan.targets for scan in result.trace.scans] == [(7,), (2,)]
    assert result.trace.found_and_left == (2,)


@pytest.fixture
def quick(monkeypatch):
    """Repairs that change nothing, in no time; returns the seconds that each had."""
    had = []

    def repair(self, classifier, clean, **_):
        had.append(self._seconds)
        return Repair((RepairedNetwork("same", classifier.copy(), Rate.of(1, 1), Change()),), Rate.of(1, 1))

    monkeypatch.setattr(AutoRepair, "repair", repair)
    return had


def test_a_budget_is_shared_by_scan_and_repair(planted, scans, quick, monkeypatch):
    scans([7], [])
    given = []
    find = repairing.look_for_suspects
    monkeypatch.setattr(
        repairing, "look_for_suspects", lambda *a, where, **k: given.append(where.budget) or find(*a, **k)
    )
    result = api.repair(planted.classifier, planted.clean, where=Execution(budget=1000.0))
    assert len(quick) == 1
    assert 450 < given[0] <= 500
    assert 900 < quick[0] <= 1000
    assert (len(result.trace.scans), result.trace.out_of_time) == (2, None)
    api.repair(planted.classifier, planted.clean, suspected=[Backdoor(None, 7)])
    assert quick[1:] == [None]


def test_without_time_the_repaired_network_is_not_scanned(planted, scans, quick):
    scanned = scans([7])
    result = api.repair(planted.classifier, planted.clean, where=Execution(budget=1e-6))
    assert len(scanned) == 1
    assert (
        result.trace.out_of_time == "the time was up before the repaired network could be scanned for further targets"
    )


@pytest.mark.parametrize(("late", "words"), [("spent", "no time"), ("cut", "late")])
def test_a_further_repair_that_has_too_little_time_leaves_the_first(planted, scans, monkeypatch, late, words):
    scans([7], [2])

    def repair(self, classifier, clean, *, suspected, **_):
        whole = len(suspected) == 1
        if not whole and late == "spent":
            raise BudgetSpent("no time")
        changes = Unlearned(method="m", fresh_triggers_work_on=0.0, holds=whole)
        network = RepairedNetwork("first" if whole else "second", classifier.copy(), Rate.of(1, 1), changes)
        return Repair((network,), Rate.of(1, 1), Trace(out_of_time=None if whole else "late"))

    monkeypatch.setattr(AutoRepair, "repair", repair)
    result = api.repair(planted.classifier, planted.clean, where=Execution(budget=1000.0))
    assert result.recommended.name == "first"
    assert (result.trace.found_and_left, result.trace.out_of_time) == ((2,), words)


def test_a_budget_that_a_method_cannot_keep_is_refused(planted):
    with pytest.raises(InvalidOption, match="--budget works only with --method auto, pruning cannot end early"):
        api.repair(planted.classifier, planted.clean, method="pruning", where=Execution(budget=60.0))


@pytest.mark.slow
def test_where_nothing_is_suspected_or_the_user_says_what_there_is_one_scan_or_none(planted, clean_twin, scans):
    once = scans([])
    assert api.repair(clean_twin.classifier, clean_twin.clean).trace.scans == (
        ScanSummary(verdict="clean", targets=(), reason="told"),
    )
    assert len(once) == 1
    scanned = scans()
    repair = api.repair(planted.classifier, planted.clean, suspected=[Backdoor(None, 7)])
    assert scanned == []
    assert repair.trace.scans is None
