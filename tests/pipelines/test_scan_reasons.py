"""What a scan says of its verdict."""

import math

import numpy as np
import pytest
import torch

from goodnet.core.backdoor import Backdoor
from goodnet.evidence.judgement import ALL_TO_ALL, BLEND, MARGIN, SIZE, TOGETHER, Evidence, Judgement
from goodnet.pipelines.scan_reasons import describe_leader, describe_p, describe_reach, weigh_kinds
from goodnet.triggers.inversion import Inversions

LEAST = -math.log(0.01)


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (0.5, "0.61: clean networks look like this"),
        (-0.1, "1.00: clean networks look like this"),
        (3.0, "0.05: one clean network in 20 looks like this"),
        (9.0, "0.00012: one clean network in 8,100 looks like this"),
        (30.0, "below 0.0001: fewer than one clean network in 10,000 looks like this"),
    ],
)
def test_a_p_value_in_words(score, words):
    assert describe_p(score) == words


def test_the_leader_is_named_with_its_p_value():
    scores = np.array([0.1, 6.0, 0.3])
    assert describe_leader(Judgement({}, scores, ()), 0.01) == (
        "class 1 has the lowest p-value, 0.0025: one clean network in 400 looks like this; alpha is 0.01"
    )
    of_all = Judgement({ALL_TO_ALL: np.full(3, 7.0)}, np.full(3, 6.0), ())
    assert describe_leader(of_all, 0.01).startswith("all to all has the lowest p-value, 0.0025")


def test_each_kind_speaks_for_a_class_or_does_not():
    kinds = {
        SIZE: np.array([0.0, -math.log(0.0004)]),
        MARGIN: np.array([5.0, -math.log(0.04)]),
        BLEND: np.array([5.0, -math.log(0.06)]),
        "small patch": np.array([1.0, np.nan]),
        TOGETHER: np.array([0.0, 9.0]),
        ALL_TO_ALL: np.array([9.0, 9.0]),
    }
    judgement = Judgement(kinds, np.zeros(2), ())
    assert weigh_kinds(judgement, Backdoor(None, 1)) == (
        "class 1: trigger size (p 0.0004) and maximum margin (p 0.04) speak for it, universal blend does not"
    )
    assert weigh_kinds(judgement, Backdoor(None, 0)).startswith(
        "class 0: maximum margin (p 0.007) and universal blend (p 0.007) speak for it,"
    )
    quiet = Judgement({SIZE: np.ones(2), TOGETHER: np.full(2, 9.0)}, np.zeros(2), ())
    assert "no kind of evidence is sure by itself" in weigh_kinds(quiet, Backdoor(None, 1))
    assert weigh_kinds(quiet, Backdoor(None, 1, (4,))).startswith("class 1 from class 4: no kind of evidence")
    unheard_of = Judgement({SIZE: np.array([0.0, 30.0])}, np.zeros(2), ())
    assert weigh_kinds(unheard_of, Backdoor(None, 1)) == "class 1: trigger size (p below 0.0001) speaks for it"


def evidence_of(sizes, **others):
    found = Evidence(len(sizes), {kind: np.array(values) for kind, values in others.items()})
    empty = torch.zeros(len(sizes), 1, 4, 4)
    inversions = Inversions(
        tuple(range(len(sizes))), empty, empty, torch.tensor(sizes), torch.ones(len(sizes), dtype=torch.bool)
    )
    found.add_triggers(range(len(sizes)), inversions)
    return found


def test_the_reach_is_where_the_rule_begins_to_accuse():
    sizes = [20.0, 22.0, 23.0, 25.0, 26.0, 30.0, 31.0, 33.0, 34.0, 36.0]
    words = describe_reach(evidence_of(sizes), LEAST)
    assert words.startswith("the smallest trigger found for three of four images covers 20.0 pixels (class 0), below ")
    reach = float(words.split("below ")[1].split()[0])
    assert 0.5 < reach < 20
    accused = [evidence_of([size, *sizes[1:]]).judge(LEAST).suspected for size in (0.95 * reach, 1.05 * reach)]
    assert [[item.target for item in some] for some in accused] == [[0], []]


def test_where_no_size_would_be_enough_that_is_said():
    values = np.zeros(4)
    found = evidence_of([1.0, 4.0, 15.0, 60.0])
    found.values[MARGIN] = found.values[BLEND] = values
    words = describe_reach(found, 40.0)
    assert "no size of a trigger alone would have been suspected" in words


def test_without_a_trigger_nothing_is_said_of_its_size():
    assert describe_reach(Evidence(10), LEAST) is None
    found = evidence_of([20.0, 22.0])
    found.triggers.worked[:] = False
    assert describe_reach(found, LEAST) is None


def test_a_trigger_that_was_accused_and_refuted_has_no_reach():
    sizes = [0.6, 22.0, 23.0, 25.0, 26.0, 30.0, 31.0, 33.0, 34.0, 36.0]
    assert [item.target for item in evidence_of(sizes).judge(LEAST).suspected] == [0]
    assert describe_reach(evidence_of(sizes), LEAST) is None
