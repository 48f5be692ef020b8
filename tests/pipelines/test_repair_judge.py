import numpy as np
import pytest
import torch

from goodnet.core.backdoor import Backdoor
from goodnet.inference.predictions import predict_classes
from goodnet.pipelines.auto_repair import split
from goodnet.pipelines.repair_judge import Candidate, Judge, Loss, Share, choose
from goodnet.triggers.trigger_search import TriggerSearch


@pytest.mark.parametrize(
    ("gentle", "strong", "chosen"),
    [
        ((32, 3), (3, 4), "strong"),  # it holds: 0.04 of damage against 0.53
        ((32, 3), (3, 53), "gentle"),  # it holds, and costs as much as the trigger does
        ((5, 3), (3, 10), "strong"),  # it holds: 0.10 against 0.108
        (
            (56, 7),
            (51, 10),
            "strong",
        ),  # 0.90 against 0.945, and 5 of 64 fewer is more than a standard error: 0.076 > 0.066
        ((56, 7), (51, 20), "gentle"),  # the same, and it costs more than that is worth
        ((56, 7), (52, 8), "gentle"),  # 4 fewer is chance, so that cost counts: 0.061 < 0.065
        ((56, 7), (52, 6), "strong"),
        ((53, 7), (56, 7), "gentle"),  # as dear, and its triggers work better
        ((64, 5), (64, 5), "gentle"),
        ((64, 5), (63, 6), "gentle"),
        ((38, 0), (51, 0), "gentle"),  # it does more, beyond chance
    ],
)
def test_a_stronger_repair_is_chosen_where_it_leaves_less_or_costs_less(gentle, strong, chosen):
    candidates = [
        Candidate(name, None, Share(moved, 64), Loss(lost, 0, 100), {})
        for name, (moved, lost) in (("gentle", gentle), ("strong", strong))
    ]
    assert choose(candidates).name == chosen


def test_shares_differ_by_standard_errors():
    # (10 + 1) / (62 + 2) against (2 + 1) / (62 + 2): 0.125 apart, variances 0.002224 and 0.000698.
    assert Share(10, 62).errors_above(Share(2, 62)) == pytest.approx(0.125 / 0.054055, rel=1e-3)
    assert Share(2, 62).errors_above(Share(10, 62)) == pytest.approx(-0.125 / 0.054055, rel=1e-3)
    assert Share(0, 0).value == Share(0, 0).errors_above(Share(0, 0)) == 0


def test_nothing_is_chosen_of_nothing():
    assert choose([]) is None


@pytest.mark.parametrize(
    ("lost", "gained", "images", "too_much"),
    [
        (3, 0, 12, False),  # 3 < 0.05 * 12 + 1.64 * sqrt(3)
        (4, 0, 12, True),
        (11, 0, 125, False),  # 11 < 6.25 + 1.64 * sqrt(11)
        (12, 0, 125, True),
        (14, 2, 125, False),  # 12 < 6.25 + 1.64 * sqrt(16)
        (0, 5, 20, False),
    ],
)
def test_a_loss_counts_against_the_budget_where_chance_does_not_explain_it(lost, gained, images, too_much):
    assert Loss(lost, gained, images).exceeds(0.05) is too_much
    assert Candidate("any", None, Share(0, 64), Loss(lost, gained, images), {}).costs_more_than(0.05, 1.0) is too_much


def test_a_class_that_is_lost_costs_too_much_though_the_accuracy_stays():
    classes = {0: Loss(0, 9, 50), 1: Loss(30, 0, 50)}  # 30 > 0.2 * 50 + 1.64 * sqrt(30)
    candidate = Candidate("any", None, Share(0, 64), Loss(1, 1, 100), classes)
    assert candidate.costs_more_than(0.05, 0.2)
    assert not candidate.costs_more_than(0.05, 0.5)
    assert (candidate.record().worst_class, candidate.record().worst_class_lost) == (1, 0.6)


def test_what_a_target_loses_is_a_cost_and_what_others_lose_is_not():
    classes = {0: Loss(12, 2, 50), 1: Loss(30, 0, 50)}
    told = [
        Candidate("any", None, Share(0, 64), Loss(2, 1, 100), classes, targets) for targets in ((), (0,), (0, 1), (7,))
    ]
    assert [item.cost for item in told] == [0.01, pytest.approx(0.21), pytest.approx(0.61), 0.01]
    # It holds, and loses a fifth of the target; the stronger one leaves 0.1 of the images, and loses nothing.
    stronger = Candidate("strong", None, Share(6, 60), Loss(2, 1, 100), {0: Loss(0, 0, 50)}, (0,))
    assert choose([told[1], stronger]) is stronger


def test_what_changes_sides_is_counted():
    before, after = np.array([True, True, True, False, False]), np.array([True, False, False, True, False])
    assert Loss.of(before, after) == Loss(lost=2, gained=1, images=5)
    assert Loss.of(before, after).share == 0.2


def test_the_loss_of_each_class_is_that_of_all_clean_images(planted):
    _, held_out = split(planted.clean, 0)
    judge = Judge.make(planted.classifier, planted.clean, held_out, [Backdoor(None, planted.backdoor.target)], 0)
    ruined = planted.classifier.copy()
    with torch.no_grad():
        for parameter in ruined.network.parameters():
            parameter.zero_()  # All logits are equal: every image is a 0.
    found = judge.judge("ruined", ruined)
    right = predict_classes(planted.classifier, planted.clean) == planted.clean.targets
    for label, loss in found.classes.items():
        rows = planted.clean.targets == label
        assert loss.images == rows.sum()
        assert loss.lost == (0 if label == 0 else right[rows].sum())
    assert found.held_out.images == len(held_out)
    assert (
        found.held_out.lost
        == (right & (planted.clean.targets != 0))[np.isin(planted.clean.positions, held_out.positions)].sum()
    )


def test_what_a_target_gains_makes_up_for_no_loss():
    assert Candidate("any", None, Share(0, 64), Loss(11, 1, 100), {0: Loss(0, 9, 50)}, (0,)).cost == pytest.approx(0.1)


@pytest.mark.parametrize(("images", "counts", "moved"), [(20, [3], 3), (19, [3, 6], 4.5)])
def test_few_images_are_judged_by_a_second_set_of_triggers(planted, monkeypatch, images, counts, moved):
    held_out = planted.clean.subset(np.arange(images))
    judge = Judge.make(planted.classifier, planted.clean, held_out, [Backdoor(None, planted.backdoor.target)], 0)
    assert len(judge.searches) == len(counts)
    first, *further = (search.families[0].variables[0] for search in judge.searches)
    assert not any(torch.equal(first, variables) for variables in further)
    left = iter(counts)
    monkeypatch.setattr(TriggerSearch, "measure", lambda *_: (next(left), images))
    assert judge.judge("same", planted.classifier).moved == Share(moved, images)
