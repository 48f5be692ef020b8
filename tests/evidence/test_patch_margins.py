"""Classes are compared at each place: who stands out at one of them, and how far."""

import numpy as np
import pytest
import torch

from goodnet.core.backdoor import Patch
from goodnet.evidence.judgement import SQUARE, Evidence
from goodnet.evidence.outliers import lead_score, robust_spread
from goodnet.evidence.patch_margins import PatchMargins, average_margins, compare_squares
from goodnet.evidence.rounds import average
from goodnet.triggers.adversarial_patches import SquareSchedule
from tests.spot_networks import BACKDOORED, CLEAN, TARGET, draw_spots

#: Five classes at two places: class 3 stands out at the second, class 0 leads at the first without moving images.
MARGINS = torch.tensor([[-1.0, -5.0], [-4.0, -4.0], [-5.0, -6.0], [-6.0, 8.0], [-5.5, -5.5]])


def square(value):
    return Patch(torch.full((1, 4, 4), value), torch.full((3, 4, 4), value))


def test_a_class_is_scored_by_its_lead_at_the_best_place_times_the_number_of_places():
    found = PatchMargins(5, (0, 1, 2, 3, 4), MARGINS)
    column = MARGINS[:, 1].double().numpy()
    unit = robust_spread(column)
    # The median of -5, -4, -6, 8, -5.5 is -5, the distances from it are 0, 1, 1, 13, 0.5.
    assert unit == pytest.approx(1.4826)
    expected = lead_score(column, usual=0.5 * unit)[3] - np.log(2)
    assert found.scores(0.5)[3] == pytest.approx(expected)
    assert expected > 3


def test_squares_that_move_no_images_give_no_score():
    scores = PatchMargins(5, (0, 1, 2, 3, 4), MARGINS).scores(0.5)
    assert scores[[0, 1, 2, 4]].max() <= -np.log(2)


def test_leads_are_in_units_of_the_spread_at_their_place():
    leads = PatchMargins(5, (0, 1, 2, 3, 4), MARGINS).leads
    # At the first place the median is -5, the distances 4, 1, 0, 1, 0.5: their median is 1, too.
    np.testing.assert_allclose(leads, np.array([3.0, 12.0]) / 1.4826, rtol=1e-6)


def test_where_most_margins_are_equal_the_spread_is_a_share_of_their_median():
    margins = torch.tensor([[1.0], [-4.0], [-4.0], [-4.0], [-4.0]])
    # 0.03 of the median of 1, 4, 4, 4, 4.
    np.testing.assert_allclose(PatchMargins(5, (0, 1, 2, 3, 4), margins).leads, [5 / 0.12])


def test_heights_are_above_the_median_of_the_place():
    heights = PatchMargins(5, (0, 1, 2, 3, 4), MARGINS).heights
    np.testing.assert_allclose(heights[:, 0] * 1.4826, [4.0, 1.0, 0.0, -1.0, -0.5], rtol=1e-6)


def test_classes_that_were_not_looked_into_have_no_score():
    found = PatchMargins(8, (0, 2, 5, 6, 7), MARGINS)
    scores = found.scores(0.5)
    assert np.flatnonzero(np.isnan(scores)).tolist() == [1, 3, 4]
    assert int(np.nanargmax(scores)) == 6


def test_a_patch_is_given_if_it_moves_enough_images():
    found = PatchMargins(9, (4, 7), torch.zeros(2, 3), (square(0.1), square(0.2)), (0.4, 0.9))
    assert found.patch_of(7, 0.5).mask.unique().tolist() == [np.float32(0.2)]
    assert found.patch_of(4, 0.5) is None
    assert found.patch_of(1, 0.0) is None


def test_rounds_have_mean_margins_and_the_patch_that_moves_most():
    one = PatchMargins(9, (4, 7), torch.tensor([[1.0], [2.0]]), (square(0.1), square(0.2)), (0.4, 0.9))
    two = PatchMargins(9, (4, 7), torch.tensor([[3.0], [6.0]]), (square(0.3), square(0.4)), (0.8, 0.5))
    found = average_margins([one, two])
    assert found.margins.flatten().tolist() == [2.0, 4.0]
    assert found.shares == (0.8, 0.9)
    assert [float(patch.mask.mean()) for patch in found.patches] == pytest.approx([0.3, 0.2])
    assert average([Evidence(9, squares=one), Evidence(9, squares=two)]).squares.shares == (0.8, 0.9)


def test_the_judgement_has_the_scores_of_squares_and_shows_the_stronger_patch():
    patches = tuple(square(value / 10) for value in range(5))
    squares = PatchMargins(5, (0, 1, 2, 3, 4), MARGINS, patches, (0.0, 0.0, 0.0, 0.95, 0.0))
    evidence = Evidence(5)
    evidence.add_squares(squares)
    judged = evidence.judge(2.0)
    assert judged.kinds[SQUARE][3] > 3
    assert [(item.target, item.trigger) for item in judged.suspected] == [(3, patches[3])]
    assert evidence.leads()[SQUARE] == pytest.approx(7.5 / 1.4826)


def test_an_unfinished_comparison_says_nothing():
    evidence = Evidence(5)
    evidence.add_squares(PatchMargins(5, (0, 1), MARGINS[:2], complete=False))
    assert (evidence.squares, evidence.unfinished) == (None, 5)


def test_the_target_stands_out_and_no_class_of_the_clean_twin_does():
    images = draw_spots(60).images()
    found = compare_squares(BACKDOORED, images, range(6), SquareSchedule(), seed=0)
    scores = found.scores(1.0)
    assert int(scores.argmax()) == TARGET
    assert scores[TARGET] > 5
    assert found.patch_of(TARGET, 0.9) is not None
    clean = compare_squares(CLEAN, images, range(6), SquareSchedule(), seed=0)
    assert clean.scores(1.0).max() < 1


def test_without_time_the_comparison_is_unfinished():
    def run_none(stage, function, common, parts, progress):
        return [None for _ in parts]

    found = compare_squares(CLEAN, draw_spots(9).images(), range(6), SquareSchedule(), seed=0, run_parts=run_none)
    assert (found.complete, found.labels) == (False, ())
