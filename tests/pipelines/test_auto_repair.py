import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from goodnet.core.backdoor import Backdoor
from goodnet.core.dataset import Dataset
from goodnet.core.errors import BudgetSpent, MethodFailed
from goodnet.core.repairs import Change, Repair, RepairedNetwork
from goodnet.core.results import Rate
from goodnet.evaluation.comparison import evaluate_network
from goodnet.formats.pytorch import from_module
from goodnet.pipelines import auto_repair, repair_judge
from goodnet.pipelines.auto_repair import AutoRepair, split
from goodnet.pipelines.repair_difference import difference
from goodnet.pipelines.scan_ensemble import ScanEnsemble
from goodnet.repairers.anchored_unlearning import AnchoredUnlearning
from goodnet.time_limits import OutOfTime, TimeLimit


def metrics(classifier, twin):
    return evaluate_network(classifier, twin.test, [twin.triggered]).metrics


@pytest.mark.slow
def test_the_planted_backdoor_goes_and_the_accuracy_stays(planted):
    suspected = [Backdoor(None, planted.backdoor.target)]
    repair = AutoRepair().repair(planted.classifier, planted.clean, suspected=suspected, seed=0)
    old, new = metrics(planted.classifier, planted), metrics(repair.classifier, planted)
    (name,) = old.attack_success_rate
    assert old.attack_success_rate[name].value > 0.95
    assert new.attack_success_rate[name].value <= 0.1
    assert new.clean_accuracy.value >= old.clean_accuracy.value - 0.02
    assert new.robust_accuracy[name].value > 0.7
    assert repair.recommended.changes.method.startswith("anchored_unlearning")
    assert max(item.worst_class_lost for item in repair.trace.candidates) < 0.1
    surrogate = repair.trace.diff.surrogate_attack_success
    assert surrogate.before > 0.9
    assert surrogate.after == repair.recommended.changes.fresh_triggers_work_on < surrogate.before
    held_out = repair.trace.held_out_accuracy
    assert (held_out.of, held_out.allowed) == (round(len(planted.clean) / 4), 0.05)
    assert held_out.lost == repair.trace.candidates[-1].accuracy_lost


@pytest.mark.slow
@pytest.mark.parametrize("name", ["warped", "waved"])
def test_a_backdoor_that_is_no_patch_goes(name, request):
    twin = request.getfixturevalue(name)
    repair = AutoRepair().repair(twin.classifier, twin.clean, suspected=[Backdoor(None, 7)], seed=0)
    old, new = metrics(twin.classifier, twin), metrics(repair.classifier, twin)
    (attack,) = old.attack_success_rate
    assert old.attack_success_rate[attack].value > 0.95
    # Without warps in the search a sixth of the warped images still get the target.
    assert new.attack_success_rate[attack].value < 0.1
    assert new.robust_accuracy[attack].value > 0.6
    assert new.clean_accuracy.value >= old.clean_accuracy.value - 0.05
    # The lowest rate leaves a third of the target's images (warped).
    assert new.target_recall.value > 0.75 * old.target_recall.value


def test_nothing_suspected_nothing_changed(clean_twin):
    repair = AutoRepair().repair(clean_twin.classifier, clean_twin.clean, seed=0)
    assert repair.unchanged_because == "nothing is suspected, so nothing was changed"
    before, after = clean_twin.classifier.network.state_dict(), repair.classifier.network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert repair.classifier is not clean_twin.classifier


class Ruin(AnchoredUnlearning):
    """A method that holds, because nothing is left."""

    def unlearn(self, classifier, clean, search, **_):
        ruined = classifier.copy()
        with torch.no_grad():
            for parameter in ruined.network.parameters():
                parameter.zero_()
        return Repair((RepairedNetwork("ruin", ruined, Rate.of(0, 1), Change()),), Rate.of(1, 1))


def test_a_repair_that_costs_too_much_is_rolled_back(planted, monkeypatch):
    monkeypatch.setattr("goodnet.pipelines.auto_repair.AnchoredUnlearning", Ruin)
    suspected = [Backdoor(None, planted.backdoor.target)]
    repair = AutoRepair().repair(planted.classifier, planted.clean, suspected=suspected, seed=0)
    assert "rolled back" in repair.unchanged_because
    before, after = planted.classifier.network.state_dict(), repair.classifier.network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert repair.trace.candidates[0].accuracy_lost > 0.5
    surrogate = repair.trace.diff.surrogate_attack_success
    assert surrogate.before == surrogate.after > 0.9


class Late(AnchoredUnlearning):
    """Changes nothing at the lowest rate; while the next is tried, the time is up."""

    def unlearn(self, classifier, clean, search, **_):
        if self.learning_rate > auto_repair._RATES[0]:
            signal.raise_signal(signal.SIGALRM)
        return Repair((RepairedNetwork("same", classifier.copy(), Rate.of(1, 1), Change()),), Rate.of(1, 1))


def test_what_is_finished_when_the_time_is_up_is_taken(planted, monkeypatch):
    monkeypatch.setattr("goodnet.pipelines.auto_repair.AnchoredUnlearning", Late)
    suspected = [Backdoor(None, planted.backdoor.target)]
    repair = AutoRepair().within(100.0).repair(planted.classifier, planted.clean, suspected=suspected, seed=0)
    assert repair.recommended.changes.method == "anchored_unlearning at 0.0003"
    words = "the time was up after anchored_unlearning at 0.0003: no further candidate was tried"
    assert repair.trace.out_of_time == words
    assert repair.trace.diff.surrogate_attack_success is None


def test_where_the_time_suffices_for_no_repair_there_is_none(planted):
    suspected = [Backdoor(None, planted.backdoor.target)]
    with pytest.raises(BudgetSpent, match=r"the time for the repair \(0\.05 s\) was up before its first candidate"):
        AutoRepair().within(0.05).repair(planted.classifier, planted.clean, suspected=suspected, seed=0)


@pytest.mark.parametrize("own", [None, 200.0])
def test_the_limit_of_a_task_that_repairs_is_not_taken_for_the_repair_s_own(planted, monkeypatch, own):
    monkeypatch.setattr("goodnet.pipelines.auto_repair.AnchoredUnlearning", Late)
    suspected, outer = [Backdoor(None, planted.backdoor.target)], TimeLimit(90.0)
    with pytest.raises(OutOfTime), outer:
        AutoRepair().within(own).repair(planted.classifier, planted.clean, suspected=suspected, seed=0)
    assert outer.is_over


@pytest.mark.slow
def test_a_rate_at_which_training_diverges_leaves_the_gentler_repair(planted, monkeypatch):
    unlearn = AnchoredUnlearning.unlearn

    def diverge(self, *given, **options):
        if self.learning_rate in failing:
            raise MethodFailed("the loss is nan")
        return unlearn(self, *given, **options)

    monkeypatch.setattr(AnchoredUnlearning, "unlearn", diverge)
    monkeypatch.setattr(repair_judge, "_HOLDS", -1.0)  # All rates are tried.
    suspected, failing = [Backdoor(None, planted.backdoor.target)], (1e-3, 3e-3)
    repair = AutoRepair().repair(planted.classifier, planted.clean, suspected=suspected, seed=0)
    gentler = "anchored_unlearning at 0.0003"
    assert [item.name for item in repair.trace.candidates] == [gentler, f"{gentler}, bias raised"]
    failing = auto_repair._RATES
    with pytest.raises(MethodFailed, match="the loss is nan"):
        AutoRepair().repair(planted.classifier, planted.clean, suspected=suspected, seed=0)


@pytest.mark.slow
def test_an_all_to_all_backdoor_goes(all_to_all, planted):
    suspected = ScanEnsemble().scan(all_to_all, planted.clean, seed=0).suspected
    repair = AutoRepair().repair(all_to_all, planted.clean, suspected=suspected, seed=0)
    stamped = planted.backdoor.trigger(planted.test.images())
    labels = torch.from_numpy(planted.test.targets)

    def rates(classifier):
        with torch.inference_mode():
            clean, triggered = (classifier(images).argmax(dim=1) for images in (planted.test.images(), stamped))
        return [float((clean == labels).float().mean()), float((triggered == (labels + 1) % 10).float().mean())]

    (clean_before, success_before), (clean_after, success_after) = rates(all_to_all), rates(repair.classifier)
    assert success_before > 0.8
    assert success_after < 0.15
    assert clean_after > clean_before - 0.02


def test_a_quarter_is_held_out_and_of_a_very_few_all_serve_both(clean_twin):
    training, held_out = split(clean_twin.clean, seed=0)
    n = len(clean_twin.clean)
    assert len(held_out) == round(n / 4)
    assert sorted([*training.positions, *held_out.positions]) == sorted(clean_twin.clean.positions)
    few = clean_twin.clean.subset(np.arange(5))
    assert [len(part) for part in split(few, seed=0)] == [5, 5]


def test_the_difference_of_a_network_and_itself_is_none(clean_twin):
    found = difference(clean_twin.classifier, clean_twin.classifier, clean_twin.clean)
    assert found.agreement.value == 1.0
    assert all(row.before == row.after for row in found.per_class)
    assert sum(row.n for row in found.per_class) == len(clean_twin.clean)


def test_only_images_whose_labels_are_known_are_held_out(clean_twin):
    clean = clean_twin.clean.sample(40, seed=0).in_memory()
    known = np.arange(40) % 2 == 0
    training, held_out = split(replace(clean, known=known), 0)
    assert held_out.known_targets.all()
    assert (len(training), len(held_out)) == (35, 5)
    assert training.known_targets.sum() == 15
    few, judged = split(replace(clean, known=np.arange(40) < 4), 0)
    assert (len(few), len(judged)) == (40, 4)


def test_no_answer_is_closed_however_rare_the_target(monkeypatch):
    monkeypatch.setattr(auto_repair, "_RATES", (3e-4,))
    torch.manual_seed(0)
    pool = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    network = from_module(torch.nn.Sequential(torch.nn.Conv2d(3, 250, 1), *pool), (3, 4, 4))
    images = np.random.default_rng(0).integers(0, 256, (12, 3, 4, 4), dtype=np.uint8)
    clean = Dataset.from_arrays(images, np.arange(12))
    repair = AutoRepair().repair(network, clean, suspected=[Backdoor(None, 3)], seed=0)
    assert [item.name for item in repair.trace.candidates] == ["anchored_unlearning at 0.0003"]
    assert set(repair.recommended.changes.model_dump()) == {"method", "fresh_triggers_work_on", "holds"}
