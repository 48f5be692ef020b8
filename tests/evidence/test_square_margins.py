"""Classes are compared at each place: who stands out at one of them, and how far."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from goodnet.core.backdoor import Patch
from goodnet.evidence import square_margins
from goodnet.evidence.judgement import SQUARE, Evidence
from goodnet.evidence.outliers import lead_score, robust_spread
from goodnet.evidence.rounds import average
from goodnet.evidence.square_margins import SquareMargins, average_margins, compare_squares
from goodnet.triggers.adversarial_patches import SquareSchedule, optimise_squares
from goodnet.triggers.patch_probe import Shares
from tests.spot_networks import BACKDOORED, CLASSES, CLEAN, TARGET, draw_spots

#: Five classes at two places: class 3 stands out at the second, class 0 leads at the first without moving images.
MARGINS = torch.tensor([[-1.0, -5.0], [-4.0, -4.0], [-5.0, -6.0], [-6.0, 8.0], [-5.5, -5.5]])


def square(value):
    return Patch(torch.full((1, 4, 4), value), torch.full((3, 4, 4), value))


def test_a_class_is_scored_by_its_lead_at_the_best_place_times_the_number_of_places():
    found = SquareMargins(5, (0, 1, 2, 3, 4), MARGINS)
    column = MARGINS[:, 1].double().numpy()
    unit = robust_spread(column)
    # The median of -5, -4, -6, 8, -5.5 is -5, the distances from it are 0, 1, 1, 13, 0.5.
    assert unit == pytest.approx(1.4826)
    # Five classes tell as little of their spread as 2.5 leads would.
    expected = lead_score(column, usual=0.5 * unit, prior=2.5)[3] - np.log(2)
    assert found.scores(0.5)[3] == pytest.approx(expected)
    assert expected > 2


def test_squares_that_move_no_images_give_no_score():
    scores = SquareMargins(5, (0, 1, 2, 3, 4), MARGINS).scores(0.5)
    assert scores[[0, 1, 2, 4]].max() <= -np.log(2)


def test_leads_are_in_units_of_the_spread_at_their_place():
    leads = SquareMargins(5, (0, 1, 2, 3, 4), MARGINS).leads
    # At the first place the median is -5, the distances 4, 1, 0, 1, 0.5: their median is 1, too.
    np.testing.assert_allclose(leads, np.array([3.0, 12.0]) / 1.4826, rtol=1e-6)


def test_where_most_margins_are_equal_the_spread_is_a_share_of_their_median():
    margins = torch.tensor([[1.0], [-4.0], [-4.0], [-4.0], [-4.0]])
    # 0.03 of the median of 1, 4, 4, 4, 4.
    np.testing.assert_allclose(SquareMargins(5, (0, 1, 2, 3, 4), margins).leads, [5 / 0.12])


def test_classes_that_were_not_looked_into_have_no_score():
    found = SquareMargins(8, (0, 2, 5, 6, 7), MARGINS)
    scores = found.scores(0.5)
    assert np.flatnonzero(np.isnan(scores)).tolist() == [1, 3, 4]
    assert int(np.nanargmax(scores)) == 6


def test_a_patch_is_given_if_it_moves_enough_images():
    found = SquareMargins(9, (4, 7), torch.zeros(2, 3), (square(0.1), square(0.2)), (0.4, 0.9))
    assert found.patch_of(7, 0.5).mask.unique().tolist() == [np.float32(0.2)]
    assert found.patch_of(4, 0.5) is None
    assert found.patch_of(1, 0.0) is None


@pytest.mark.parametrize(("share", "counts"), [(0.49, False), (0.5, True), (float("nan"), True)])
def test_a_class_whose_square_moves_few_images_has_no_score(share, counts):
    shares = (float("nan"), float("nan"), float("nan"), share, float("nan"))
    scores = SquareMargins(5, (0, 1, 2, 3, 4), MARGINS, (square(0.0),) * 5, shares).scores(0.5)
    assert (scores[3] > 2) == counts
    assert scores[3] >= 0


def test_rounds_have_mean_margins_and_the_patch_that_moves_most():
    one = SquareMargins(9, (4, 7), torch.tensor([[1.0], [2.0]]), (square(0.1), square(0.2)), (np.nan, 0.9))
    two = SquareMargins(9, (4, 7), torch.tensor([[3.0], [6.0]]), (square(0.3), square(0.4)), (0.8, 0.5))
    found = average_margins([one, two])
    assert found.margins.flatten().tolist() == [2.0, 4.0]
    assert found.shares == (0.8, 0.9)
    assert [float(patch.mask.mean()) for patch in found.patches] == pytest.approx([0.3, 0.2])
    assert average([Evidence(9, squares=one), Evidence(9, squares=two)]).squares.shares == (0.8, 0.9)


def evidence_with(slid, share):
    """Return evidence in which a patch moves the share `slid` of the images to class 3, and a square moves `share`."""
    patches = tuple(square(value / 10) for value in range(5))
    squares = SquareMargins(5, (0, 1, 2, 3, 4), MARGINS, patches, (np.nan, np.nan, np.nan, share, np.nan))
    evidence = Evidence(5, patches=Shares((3,), (slid,), (square(1.0),)))
    evidence.add_squares(squares)
    return evidence


@pytest.mark.parametrize(("slid", "share", "shown"), [(0.6, 0.9, 0.3), (0.9, 0.6, 1.0), (0.7, 0.7, 0.3)])
def test_the_patch_that_moves_more_images_is_shown(slid, share, shown):
    judged = evidence_with(slid, share).judge(1.0)
    assert judged.kinds[SQUARE][3] > 2
    ((target, trigger),) = [(item.target, item.trigger) for item in judged.suspected]
    assert target == 3
    assert float(trigger.mask.mean()) == pytest.approx(shown)


def test_a_patch_that_moves_few_images_is_not_shown():
    assert evidence_with(0.4, 0.4).small_patch(3) is None


def test_leads_of_evidence_hold_the_mean_over_the_places():
    assert evidence_with(0.4, 0.4).leads()[SQUARE] == pytest.approx(7.5 / 1.4826)


@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize("count", [4, 6, 10])
def test_equal_classes_seldom_stand_out(count, alike):
    """Also where their margins differ from class to class in the same way at all places."""
    draws, found = np.random.default_rng(count), []
    for _ in range(100):
        spread = (
            draws.normal(0, 3, (count, 1)) + draws.normal(0, 1, (count, 25))
            if alike
            else draws.normal(0, 3, (count, 25))
        )
        margins = SquareMargins(count, tuple(range(count)), torch.from_numpy(9 + spread))
        found.append(float(margins.scores(1.0).max()) > -np.log(0.01))
    assert np.mean(found) <= 0.06


def test_an_unfinished_comparison_says_nothing():
    evidence = Evidence(5)
    evidence.add_squares(SquareMargins(5, (0, 1), MARGINS[:2], complete=False))
    assert (evidence.squares, evidence.unfinished) == (None, 5)


def test_the_target_stands_out_and_no_class_of_the_clean_twin_does():
    images = draw_spots(72).images()
    found = compare_squares(BACKDOORED, images, range(CLASSES), 1.0, seed=0)
    scores = found.scores(1.0)
    assert int(scores.argmax()) == TARGET
    assert scores[TARGET] > 3
    assert found.patch_of(TARGET, 0.9) is not None
    clean = compare_squares(CLEAN, images, range(CLASSES), 1.0, seed=0)
    assert clean.scores(1.0).max() < 1


def test_without_time_the_comparison_is_unfinished():
    def run_none(stage, function, common, parts, progress):
        return [None for _ in parts]

    found = compare_squares(CLEAN, draw_spots(9).images(), range(CLASSES), 1.0, seed=0, run_parts=run_none)
    assert (found.complete, found.labels) == (False, ())


def test_with_some_classes_not_done_the_comparison_is_unfinished():
    def run_first(stage, function, common, parts, progress):
        return [function(*common, part) if part[0] == 0 else None for part in parts]

    found = compare_squares(CLEAN, draw_spots(9).images(), range(CLASSES), 1.0, seed=0, run_parts=run_first)
    assert (found.complete, found.labels) == (False, (0, 1, 2, 3))


def test_margins_that_are_no_numbers_cannot_be_compared(monkeypatch):
    def broken(classifier, images, labels, schedule, **_):
        found = optimise_squares(CLEAN, images, labels, SquareSchedule(grid=1, steps=1), seed=0)
        return replace(found, margins=found.margins.log())

    monkeypatch.setattr(square_margins, "optimise_squares", broken)
    assert not compare_squares(CLEAN, draw_spots(9).images(), range(CLASSES), 1.0, seed=0).complete
