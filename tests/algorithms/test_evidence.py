import numpy as np
import pytest
import torch

from goodnet.algorithms.evidence import ALL_TO_ALL, ROWS, Evidence, Judgement, Measured, total_scores
from goodnet.algorithms.outliers import normal_surprise, tail_surprise
from goodnet.algorithms.patch_probe import Shares
from goodnet.algorithms.trigger_inversion import Inversions
from goodnet.core.backdoor import Patch


def inversions(labels, sizes):
    """Return triggers of 4 x 4 images that cover as many pixels as `sizes` say; 16: none worked."""
    sizes = torch.tensor(sizes)
    masks = (sizes / 16)[:, None, None, None].expand(-1, 1, 4, 4)
    return Inversions(tuple(labels), masks, torch.zeros(len(sizes), 3, 4, 4), sizes, sizes < 16)


def test_scores_sum_the_positive_evidence_each_kind_capped():
    kinds = {"one": np.array([40.0, 3.0, -2.0, np.nan]), "two": np.array([1.5, 2.5, 4.0, -1.0])}
    assert total_scores(kinds).tolist() == [11.5, 5.5, 4.0, 0.0]
    assert total_scores(kinds, cap=np.inf).tolist() == [41.5, 5.5, 4.0, 0.0]


def test_rows_of_the_last_layer_add_a_little_and_decide_nothing_alone():
    kinds = {"trigger size": np.array([4.0, 0.0, 9.0]), ROWS: np.array([2.0, 50.0, 50.0])}
    assert total_scores(kinds).tolist() == [6.0, 3.0, 12.0]
    assert total_scores(kinds, cap=np.inf).tolist() == [6.0, 3.0, 12.0]
    evidence = Evidence(30)
    evidence.add_rows(np.array([100.0, *np.linspace(-2, 2, 29)]))
    judgement = evidence.judge(5.0)
    assert judgement.scores[0] == 3
    assert judgement.suspected == ()


def test_all_to_all_is_not_added_but_is_the_least_score_of_every_class():
    kinds = {"one": np.array([9.0, 3.0, -2.0]), ALL_TO_ALL: np.full(3, 4.5)}
    assert total_scores(kinds).tolist() == [9.0, 4.5, 4.5]
    assert total_scores(kinds | {ALL_TO_ALL: np.full(3, 2.9)}).tolist() == [9.0, 3.0, 0.0]


@pytest.mark.parametrize(("normal", "surprise"), [(True, normal_surprise), (False, tail_surprise)])
def test_only_classes_that_are_compared_have_surprise(normal, surprise):
    values = np.array([9.0, 1.0, np.nan, 1.2, 0.8, 7.0, 1.1])
    found = Measured(values, normal, floor=0.1, relative=True).surprise(np.arange(7) != 0)
    assert np.isnan(found).tolist() == [True, False, True, False, False, False, False]
    known = values[[1, 3, 4, 5, 6]]
    np.testing.assert_allclose(found[[1, 3, 4, 5, 6]], surprise(known, floor=0.1 * 1.1))


def test_one_value_surprises_nobody():
    assert np.isnan(Measured(np.array([1.0, np.nan]), normal=True, floor=1).surprise(np.ones(2, bool))).all()


def evidence_of(values, *kinds):
    evidence = Evidence(len(values))
    for kind in kinds:
        evidence.add_margins(kind, range(len(values)), torch.tensor(values))
    return evidence


@pytest.fixture
def three_high():
    """Two kinds of evidence of a hundred classes, of which three stand higher than chance, the third hidden by the others."""
    usual = np.random.default_rng(0).normal(10, 1, 97).tolist()
    evidence = evidence_of([18.0, 17.0, 14.0, *usual], "one", "two")
    together = total_scores({kind: item.surprise(np.ones(100, bool)) for kind, item in evidence.measured.items()})
    alone = evidence_of([14.0, *usual], "one", "two").judge(50.0).scores[0]
    assert together[2] < 3.8 < 1.5 * 3.8 < alone < 1.5 * 4.2
    return evidence, together, alone


def test_one_target_does_not_hide_another(three_high):
    evidence, together, alone = three_high
    judged = evidence.judge(3.8)
    assert [item.target for item in judged.suspected] == [0, 1, 2]
    assert judged.scores[2] == pytest.approx(alone)
    assert judged.scores[:2].tolist() == together[:2].tolist()


def test_what_stands_out_once_others_are_set_aside_must_do_so_more(three_high):
    assert [item.target for item in three_high[0].judge(4.2).suspected] == [0, 1]


def test_a_further_target_has_a_fair_share_of_all_the_first_one_s_evidence():
    usual = np.random.default_rng(0).normal(10, 1, 60).tolist()
    near = evidence_of([30.0, 14.0, *usual], "one")
    assert [item.target for item in near.judge(2.0).suspected] == [0, 1]
    far = evidence_of([1e6, 14.0, *usual], "one")
    assert [item.target for item in far.judge(2.0).suspected] == [0]


def test_nobody_is_suspected_where_classes_are_alike():
    judged = evidence_of(np.random.default_rng(1).normal(10, 1, 50).tolist(), "one", "two").judge(5.0)
    assert judged.suspected == ()
    assert judged.scores.max() < 5


def test_classes_without_time_are_counted_and_get_no_evidence():
    evidence = evidence_of([1.0, float("nan"), 1.1, 1.2, 9.0], "one")
    assert evidence.unfinished == 1
    judged = evidence.judge(100.0)
    assert np.isnan(judged.kinds["one"]).tolist() == [False, True, False, False, False]
    assert judged.scores.argmax() == 4


def test_a_small_trigger_is_evidence_and_one_that_never_worked_is_not_handed_on():
    evidence = Evidence(8)
    evidence.add_triggers(range(8), inversions(range(8), [9.0, 8.5, 9.5, 0.5, 16.0, 9.0, 8.8, 9.2]))
    judged = evidence.judge(3.0)
    assert [item.target for item in judged.suspected] == [3]
    assert judged.suspected[0].trigger.size == pytest.approx(0.5)
    assert judged.kinds["trigger size"].argmin() == 4
    guilty = Evidence(8)
    guilty.add_margins("one", range(8), torch.tensor([1.0, 1.1, 0.9, 1.0, 50.0, 1.05, 0.95, 1.0]), normal=True)
    guilty.add_triggers(range(8), inversions(range(8), [9.0, 8.5, 9.5, 9.4, 16.0, 9.0, 8.8, 9.2]))
    assert [(item.target, item.trigger) for item in guilty.judge(3.0).suspected] == [(4, None)]


def test_of_the_shifts_a_small_one_makes_all_classes_targets():
    evidence = Evidence(5)
    evidence.add_margins("one", range(5), torch.tensor([1.0, 1.1, 0.9, 1.0, 1.05]), normal=True)
    evidence.add_shifts(inversions([1, 2, 3, 4], [9.0, 0.5, 9.5, 8.8]))
    judged = evidence.judge(2.0)
    assert [(item.target, item.sources) for item in judged.suspected] == [
        (0, (3,)),
        (1, (4,)),
        (2, (0,)),
        (3, (1,)),
        (4, (2,)),
    ]
    assert judged.scores.min() == judged.kinds[ALL_TO_ALL][0] >= 2


def test_shifts_that_are_alike_or_too_few_say_nothing():
    alike, few = evidence_of([1.0] * 5, "one"), evidence_of([1.0] * 3, "one")
    alike.add_shifts(inversions([1, 2, 3, 4], [9.0, 8.5, 9.5, 8.8]))
    few.add_shifts(inversions([1, 2], [0.5, 9.0]))
    assert alike.judge(2.0).suspected == few.judge(2.0).suspected == ()
    assert few.shift is None
    assert (alike.unfinished, few.unfinished) == (0, 0)
    alike.add_shifts(inversions([1, 2, 3], [9.0, 8.5, 9.5]))
    assert alike.unfinished == 1


@pytest.mark.parametrize(("nats", "of_all"), [(4.0, True), (2.9, False), (2.0, False)])
def test_the_score_is_that_of_all_to_all_where_no_class_has_as_much(nats, of_all):
    kinds = {"trigger size": np.array([2.95, 0.0]), ALL_TO_ALL: np.full(2, nats)}
    assert Judgement(kinds, ()).of_all is of_all
    assert not Judgement({"trigger size": np.array([4.0, 0.0])}, ()).of_all


def square(size):
    """A patch that covers so many of 4 x 4 pixels."""
    mask = torch.zeros(1, 16)
    mask[:, :size] = 1
    return Patch(mask.view(1, 4, 4), torch.ones(3, 4, 4))


def test_a_small_patch_that_leads_the_others_is_evidence_and_shows_the_trigger():
    evidence = Evidence(30)
    evidence.add_patches(Shares((7, 2, 9), (0.95, 0.3, 0.25), (square(1), square(2), square(3))))
    judgement = evidence.judge(5.0)
    assert judgement.kinds["small patch"][7] == pytest.approx(6.5)
    assert np.isnan(judgement.kinds["small patch"][0]), "classes that were not tried say nothing"
    assert [item.target for item in judgement.suspected] == [7]
    assert judgement.suspected[0].trigger.equals(square(1))


def test_a_patch_that_moves_few_images_leaves_the_trigger_of_inversion():
    evidence = Evidence(4)
    evidence.add_triggers([0, 1, 2, 3], inversions([0, 1, 2, 3], [1.0, 9.0, 10.0, 11.0]))
    evidence.add_patches(Shares((0, 1), (0.49, 0.0), (square(4), square(4))))
    (backdoor,) = evidence.judge(5.0).suspected
    assert backdoor.trigger.size == pytest.approx(1.0)


def test_patches_that_there_was_no_time_for_are_said():
    evidence = Evidence(10)
    evidence.add_patches(Shares((), (), (), complete=False))
    assert evidence.unfinished == 10
    assert evidence.judge(5.0).suspected == ()
