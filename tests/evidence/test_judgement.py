import numpy as np
import pytest
import torch

from goodnet.core.backdoor import Patch
from goodnet.evidence.judgement import (
    ALL_TO_ALL,
    BLEND,
    MARGIN,
    PAIR,
    PATCH,
    SIZE,
    TOGETHER,
    Evidence,
    Judgement,
    combine,
)
from goodnet.evidence.outliers import lead_score, robust_spread, tail_score
from goodnet.evidence.pair_sizes import PairSizes
from goodnet.evidence.usual_leads import USUAL_LEADS
from goodnet.triggers.inversion import Inversions
from goodnet.triggers.patch_probe import Probes, Shares

#: Minus log of the p-value at which a class is suspected.
LEAST = -np.log(0.01)


def inversions(labels, sizes):
    """Return triggers of 4 x 4 images that cover as many pixels as `sizes` say; 16: none worked."""
    sizes = torch.tensor(sizes)
    masks = (sizes / 16)[:, None, None, None].expand(-1, 1, 4, 4)
    return Inversions(tuple(labels), masks, torch.zeros(len(sizes), 3, 4, 4), sizes, sizes < 16)


def square(size):
    """A patch that covers so many of 4 x 4 pixels."""
    mask = torch.zeros(1, 16)
    mask[:, :size] = 1
    return Patch(mask.view(1, 4, 4), torch.ones(3, 4, 4))


def test_kinds_are_combined_by_the_harmonic_mean_of_their_p_values():
    p = {"one": np.array([0.001, 0.5, 1.0]), "two": np.array([0.2, 0.25, 1.0])}
    expected = [2 / (1 / 0.001 + 1 / 0.2), 2 / (1 / 0.5 + 1 / 0.25), 1.0]
    np.testing.assert_allclose(np.exp(-combine({kind: -np.log(values) for kind, values in p.items()})), expected)


def test_what_they_say_together_has_half_of_the_weight():
    p = {"one": np.array([0.001]), "two": np.array([0.2]), TOGETHER: np.array([0.01])}
    expected = 1 / (0.25 / 0.001 + 0.25 / 0.2 + 0.5 / 0.01)
    np.testing.assert_allclose(np.exp(-combine({kind: -np.log(values) for kind, values in p.items()})), expected)


def test_a_kind_that_says_nothing_has_the_p_value_1_and_none_is_below_exp_minus_50():
    kinds = {"one": np.array([np.nan, 9.0, 1e6]), "two": np.array([-7.0, np.nan, 0.0])}
    expected = [0.0, np.log((np.exp(9.0) + 1) / 2), np.log((np.exp(50.0) + 1) / 2)]
    np.testing.assert_allclose(combine(kinds), expected)


def test_all_to_all_is_what_no_class_can_be_below():
    kinds = {"one": np.array([9.0, 3.0, 0.0]), ALL_TO_ALL: np.full(3, 6.0)}
    of_all = np.log((np.exp(6.0) + 1) / 2)
    np.testing.assert_allclose(combine(kinds), [np.log((np.exp(9.0) + 1) / 2), of_all, of_all])


def test_together_are_the_positive_scores_of_all_kinds():
    draws = np.random.default_rng(0)
    free, sizes = draws.normal(10, 1, 30), draws.uniform(8, 12, 30).astype(np.float32)
    free[4], sizes[4] = 18.0, 3.0
    evidence = evidence_of(free.tolist(), MARGIN)
    evidence.add_triggers(range(30), inversions(range(30), sizes.tolist()))
    expected = np.maximum(tail_score(np.float32(free), floor=0.03 * np.median(free)), 0)
    expected += np.maximum(tail_score(-np.log(sizes), floor=USUAL_LEADS[SIZE].mean(30)), 0)
    np.testing.assert_allclose(evidence.together(), expected, rtol=1e-4, atol=1e-6)
    assert evidence.together().argmax() == 4
    scores = evidence.judge(LEAST).kinds[TOGETHER]
    np.testing.assert_allclose(scores, evidence.together() / USUAL_LEADS[TOGETHER].mean(30))


def evidence_of(values, *kinds):
    evidence = Evidence(len(values))
    for kind in kinds:
        evidence.add_margins(kind, range(len(values)), torch.tensor(values))
    return evidence


def test_margins_are_compared_in_robust_deviations_where_they_are_known():
    values = [9.0, 1.0, float("nan"), 1.2, 0.8, 7.0, 1.1]
    judged = evidence_of(values, BLEND).judge(LEAST)
    known = np.array(values)[[0, 1, 3, 4, 5, 6]]
    # The deviation comes from six values: the usual lead counts as three gaps.
    expected = lead_score(known, usual=USUAL_LEADS[BLEND].mean(7) * robust_spread(known), prior=3.0)
    np.testing.assert_allclose(judged.kinds[BLEND][[0, 1, 3, 4, 5, 6]], np.maximum(expected, 0), rtol=1e-5)
    assert expected.min() < 0, "a value that others lead has no p-value above 1"
    assert np.isnan(judged.kinds[BLEND][2])


def test_where_most_margins_are_equal_a_small_lead_is_none():
    judged = evidence_of([1.0] * 9 + [1.001], BLEND).judge(LEAST)
    assert judged.suspected == ()
    assert evidence_of([0.0] * 10, BLEND).judge(LEAST).scores.tolist() == [0.0] * 10


def test_one_value_has_no_score():
    assert np.isnan(evidence_of([1.0, float("nan")], BLEND).judge(LEAST).kinds[BLEND]).all()


def test_several_targets_are_found_and_no_other_class():
    usual = np.random.default_rng(0).normal(10, 1, 97).tolist()
    judged = evidence_of([40.0, 38.0, 39.0, *usual], MARGIN, BLEND).judge(LEAST)
    assert {item.target for item in judged.suspected} == {0, 1, 2}
    assert evidence_of(usual, MARGIN, BLEND).judge(LEAST).suspected == ()


def test_classes_without_time_are_counted_and_get_no_evidence():
    evidence = evidence_of([1.0, float("nan"), 1.1, 1.2, 9.0], BLEND)
    assert evidence.unfinished == 1
    assert evidence.judge(LEAST).scores.argmax() == 4
    evidence.add_triggers(range(5), inversions([0, 1], [9.0, 8.0]))
    assert evidence.unfinished == 3


def test_a_small_trigger_is_evidence_in_the_logarithm_of_its_size():
    evidence = Evidence(8)
    sizes = [9.0, 8.5, 9.5, 0.25, 16.0, 9.0, 8.8, 9.2]
    evidence.add_triggers(range(8), inversions(range(8), sizes))
    judged = evidence.judge(LEAST)
    assert [item.target for item in judged.suspected] == [3]
    # Below half a pixel a size says nothing; the one of 16 was never found, and counts as the largest that was.
    expected = lead_score(-np.log(np.clip(sizes, 0.5, 9.5)), usual=USUAL_LEADS[SIZE].mean(8))
    np.testing.assert_allclose(judged.kinds[SIZE], np.maximum(expected, 0), rtol=1e-5, atol=1e-5)


def test_a_trigger_that_never_worked_is_not_handed_on():
    evidence = evidence_of([1.0, 1.1, 0.9, 1.0, 50.0, 1.05, 0.95, 1.0], BLEND)
    evidence.add_triggers(range(8), inversions(range(8), [9.0, 8.5, 9.5, 9.4, 16.0, 9.0, 8.8, 9.2]))
    assert [(item.target, item.trigger) for item in evidence.judge(LEAST).suspected] == [(4, None)]


#: Triggers of single classes that are alike, for shifts to be compared with.
ALIKE = [9.0, 9.1, 8.9, 9.2, 9.3]


def with_shifts(single, shifts):
    """Return the evidence of five classes whose triggers cover `single` pixels, and of shifts by 1, 2, ... of `shifts`."""
    evidence = Evidence(5)
    evidence.add_triggers(range(5), inversions(range(5), single))
    evidence.add_shifts(inversions(range(1, len(shifts) + 1), shifts))
    return evidence


def test_a_shift_that_takes_less_than_any_single_class_makes_all_classes_targets():
    evidence = with_shifts(ALIKE, [9.0, 0.5, 9.5, 8.8])
    judged = evidence.judge(LEAST)
    assert [(item.target, item.sources) for item in judged.suspected] == [
        (0, (3,)),
        (1, (4,)),
        (2, (0,)),
        (3, (1,)),
        (4, (2,)),
    ]
    assert judged.of_all
    sizes = -np.log([9.0, 0.5, 9.5, 8.8])
    scores = lead_score(sizes, usual=USUAL_LEADS[SIZE].mean(5))[1]
    assert judged.kinds[ALL_TO_ALL] == pytest.approx(np.full(5, scores), rel=1e-5)
    # Of three kinds, what they say together has half of the weight, trigger sizes and shifts a quarter each.
    assert judged.scores[0] == pytest.approx(np.log((np.exp(judged.kinds[ALL_TO_ALL][0]) + 3) / 4), rel=1e-5)


def test_a_shift_that_leads_the_other_shifts_but_no_single_class_says_nothing():
    judged = with_shifts([3.0, 3.1, 2.9, 3.2, 3.3], [15.0, 4.0, 15.5, 15.2]).judge(LEAST)
    assert judged.suspected == ()
    assert judged.kinds[ALL_TO_ALL].tolist() == [0.0] * 5


def test_one_shift_that_works_where_the_others_do_not_is_seen():
    judged = with_shifts(ALIKE, [16.0, 0.5, 16.0, 16.0]).judge(LEAST)
    assert judged.of_all
    assert len(judged.suspected) == 5


def test_a_class_that_stands_out_more_than_the_shifts_is_the_target():
    judged = with_shifts([9.0, 9.1, 0.5, 9.2, 9.3], [9.0, 4.5, 9.5, 8.8]).judge(LEAST)
    assert not judged.of_all
    assert [(item.target, item.sources) for item in judged.suspected] == [(2, None)]


def test_shifts_of_which_none_works_or_one_alone_say_nothing():
    none, one = with_shifts(ALIKE, [16.0, 16.0, 16.0, 16.0]), with_shifts(ALIKE, [0.5])
    assert none.shift is one.shift is None
    assert none.judge(LEAST).suspected == one.judge(LEAST).suspected == ()
    assert (none.unfinished, one.unfinished) == (0, 3)


@pytest.mark.parametrize("classes", [20, 21])
def test_free_images_accuse_among_many_classes_and_raise_a_doubt_among_few(classes):
    values = np.random.default_rng(0).normal(10, 1, classes)
    values[3] = 60.0
    evidence = evidence_of(values.tolist(), MARGIN)
    evidence.add_margins(BLEND, range(classes), torch.tensor(values[::-1].copy()))
    few = classes == 20
    assert {item.target for item in evidence.judge(LEAST).suspected} == ({16} if few else {3, 17})
    assert evidence.doubtful(LEAST) == (3 if few else None)
    assert (MARGIN in evidence.judge(LEAST).kinds) is not few


def test_free_images_that_reach_all_classes_alike_raise_no_doubt():
    values = np.random.default_rng(0).normal(10, 1, 10).tolist()
    assert evidence_of(values, MARGIN).doubtful(LEAST) is None
    assert evidence_of(values, BLEND).doubtful(LEAST) is None


def test_no_shift_no_all_to_all():
    assert not Judgement({SIZE: np.zeros(2)}, np.zeros(2), ()).of_all


def test_a_small_patch_that_leads_the_others_is_evidence_and_shows_the_trigger():
    evidence = Evidence(30)
    shares = (0.95, 0.2, 0.19, 0.18)
    evidence.add_patches(Shares((7, 2, 9, 11), shares, (square(1), square(2), square(3), square(4))))
    judged = evidence.judge(LEAST)
    assert judged.kinds[PATCH][7] == pytest.approx(lead_score(shares, usual=USUAL_LEADS[PATCH].mean(30))[0])
    assert np.isnan(judged.kinds[PATCH][0]), "classes that were not tried say nothing"
    assert [item.target for item in judged.suspected] == [7]
    assert judged.suspected[0].trigger == square(1)


def test_a_patch_that_moves_few_images_leaves_the_trigger_of_inversion():
    evidence = Evidence(4)
    evidence.add_triggers([0, 1, 2, 3], inversions([0, 1, 2, 3], [1.0, 9.0, 10.0, 11.0]))
    evidence.add_patches(Shares((0, 1), (0.49, 0.0), (square(4), square(4))))
    (backdoor,) = evidence.judge(LEAST).suspected
    assert backdoor.trigger.size == pytest.approx(1.0)


def test_patches_that_there_was_no_time_for_are_said():
    evidence = Evidence(10)
    nothing = torch.zeros(8)
    evidence.add_patches(Shares((), (), (), probes=Probes(nothing, nothing, nothing, nothing, nothing, complete=False)))
    assert evidence.unfinished == 10
    assert evidence.judge(LEAST).suspected == ()


def test_leads_are_given_in_the_unit_of_the_usual_ones():
    values = [9.0, 1.0, 1.2, 0.8, 7.0, 1.1]
    evidence = evidence_of(values, MARGIN)
    evidence.add_triggers([0, 3, 5], inversions([0, 3, 5], [8.0, 2.0, 4.0]))
    leads = evidence.leads()
    assert leads[MARGIN] == pytest.approx(2.0 / robust_spread(values))
    assert leads[SIZE] == pytest.approx(np.log(2))
    assert np.isnan(evidence_of([1.0, 2.0], MARGIN).leads()[MARGIN])


def test_classes_do_not_stand_out_because_no_trigger_was_found_for_the_others():
    evidence = Evidence(8)
    evidence.add_triggers(range(8), inversions(range(8), [4.0, 16.0, 16.0, 16.0, 16.0, 16.0, 16.0, 16.0]))
    judged = evidence.judge(LEAST)
    assert judged.suspected == ()
    assert judged.scores.max() == 0


@pytest.mark.parametrize("classes", [4, 5, 6, 8])
def test_p_values_hold_for_few_classes_whose_spread_is_not_known(classes):
    draws = np.random.default_rng(0)
    highest = []
    for _ in range(300):
        evidence = evidence_of(draws.normal(10, 2, classes).tolist(), BLEND)
        evidence.add_triggers(range(classes), inversions(range(classes), draws.uniform(8, 12, classes).tolist()))
        highest.append(evidence.judge(LEAST).scores.max())
    assert np.mean(np.array(highest) >= LEAST) <= 0.02
    assert np.mean(np.array(highest) >= -np.log(0.05)) <= 0.06


def test_what_kinds_say_together_can_stand_alone():
    np.testing.assert_allclose(combine({TOGETHER: np.array([3.0, 0.0])}), [3.0, 0.0])


def pairs_of(sizes, beside, labels=(1, 2, 3, 5, 7, 10, 11, 15)):
    """Return pairs of five classes, by their triggers' pixels in the network and in a student, of images of 16 pixels."""
    return PairSizes(5, inversions(labels, sizes), torch.tensor(beside))


#: Pairs that are alike in network and student.
LIKE_THE_STUDENT = [4.0, 4.2, 4.4, 4.6, 4.8, 5.0, 5.2, 5.4]


def test_a_pair_that_means_nothing_to_the_student_is_accused_and_its_target_is_not_as_a_whole():
    sizes = [*LIKE_THE_STUDENT[:3], 0.5, *LIKE_THE_STUDENT[4:]]
    evidence = Evidence(5)
    evidence.add_triggers(range(5), inversions(range(5), ALIKE))
    evidence.add_pairs(pairs_of(sizes, [*LIKE_THE_STUDENT[:3], 15.0, *LIKE_THE_STUDENT[4:]]))
    judged = evidence.judge(LEAST)
    (backdoor,) = judged.suspected
    assert (backdoor.target, backdoor.sources) == (0, (1,))
    assert float(backdoor.trigger.mask.sum()) == pytest.approx(0.5)
    score = lead_score(evidence.pairs.values, usual=USUAL_LEADS[PAIR].mean(5))[3]
    assert judged.kinds[PAIR].tolist() == pytest.approx([score, 0, 0, 0, 0])
    # Of three kinds, what they say together has half of the weight, sizes and pairs a quarter each.
    assert judged.scores[0] == pytest.approx(np.log((np.exp(score) + 3) / 4))
    assert not judged.of_all
    assert evidence.leads()[PAIR] == pytest.approx(np.log(30), abs=0.01)


def test_a_class_that_is_a_target_without_its_pairs_is_accused_as_a_whole():
    evidence = Evidence(5)
    evidence.add_triggers(range(5), inversions(range(5), [0.5, 9.1, 9.2, 9.3, 9.4]))
    evidence.add_pairs(
        pairs_of([0.5, *LIKE_THE_STUDENT[1:]], [15.0, *LIKE_THE_STUDENT[1:]], (5, 1, 2, 3, 7, 10, 11, 15))
    )
    (backdoor,) = evidence.judge(LEAST).suspected
    assert (backdoor.target, backdoor.sources) == (0, None)


def test_two_pairs_that_stand_out_are_two_backdoors():
    sizes = [0.5, *LIKE_THE_STUDENT[1:-1], 0.5]
    evidence = Evidence(5)
    evidence.add_triggers(range(5), inversions(range(5), ALIKE))
    evidence.add_pairs(pairs_of(sizes, [15.0, *LIKE_THE_STUDENT[1:-1], 15.2]))
    assert {(item.target, item.sources) for item in evidence.judge(LEAST).suspected} == {(1, (0,)), (0, (3,))}


def test_pairs_that_are_alike_in_the_student_say_nothing_and_cost_little():
    evidence, without = Evidence(5), Evidence(5)
    for item in (evidence, without):
        item.add_triggers(range(5), inversions(range(5), [0.5, 9.1, 9.2, 9.3, 9.4]))
    evidence.add_pairs(pairs_of([0.5, *LIKE_THE_STUDENT[1:]], [0.5, *LIKE_THE_STUDENT[1:]]))
    scores = [item.judge(LEAST).scores[0] for item in (evidence, without)]
    # The size of triggers has a quarter of the weight instead of half.
    assert 0 < scores[1] - scores[0] < np.log(2)
    assert evidence.judge(LEAST).kinds[PAIR].tolist() == [0.0] * 5


def test_pairs_that_there_was_no_time_for_are_said_and_too_few_images_are_no_doubt():
    late, few = Evidence(5), Evidence(5)
    late.add_pairs(PairSizes(5, inversions([], []), torch.zeros(0), complete=False))
    few.add_pairs(None)
    assert (late.unfinished, few.unfinished) == (5, 0)
    assert late.pairs is few.pairs is None
