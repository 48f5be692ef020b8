"""Sizes in the network beside those in the student: what is planted stands out, what is natural does not."""

import numpy as np
import pytest
import torch

from goodnet.evidence import pair_sizes
from goodnet.evidence.judgement import Evidence
from goodnet.evidence.outliers import lead_score
from goodnet.evidence.pair_sizes import PairSizes, compare_pairs
from goodnet.evidence.rounds import average
from goodnet.formats.pytorch import from_module
from goodnet.triggers.inversion import Inversions, classes_of
from tests.quadrant_networks import BACKDOORED, CLEAN, SOURCE, TARGET, Quadrants, draw_quadrants
from tests.triggers.test_class_pairs import PLANTED, SCHEDULE


def sizes_of(labels, sizes, beside, classes=10):
    """Return pairs whose triggers on images of 16 pixels have such sizes; masks and patterns hold their size."""
    sizes = torch.tensor(sizes)
    masks = sizes[:, None, None, None].expand(-1, 1, 4, 4)
    return PairSizes(classes, Inversions(tuple(labels), masks, masks, sizes, sizes < 16), torch.tensor(beside))


def test_a_value_is_the_logarithm_of_the_student_s_size_over_the_network_s():
    found = sizes_of([12, 34, 56, 78], [2.0, 4.0, 0.1, 16.0], [8.0, 2.0, 1.0, 4.0])
    np.testing.assert_allclose(found.values, np.log([4.0, 0.5, 2.0, 0.25]), rtol=1e-6)


def test_a_trigger_that_the_student_does_not_follow_counts_as_the_largest_that_it_follows():
    found = sizes_of([12, 34, 56], [2.0, 4.0, 2.0], [16.0, 6.0, 3.0])
    np.testing.assert_allclose(found.values, np.log([3.0, 1.5, 1.5]), rtol=1e-6)
    nothing = sizes_of([12, 34], [2.0, 4.0], [16.0, 16.0])
    np.testing.assert_allclose(nothing.values, np.log([8.0, 4.0]), rtol=1e-6)


def test_scores_are_those_of_leads_and_a_target_has_its_highest():
    found = sizes_of([12, 32, 45, 71], [1.0, 2.0, 4.0, 4.0], [8.0, 8.0, 4.0, 2.0])
    expected = np.maximum(lead_score(found.values, usual=0.3), 0)
    assert found.scores(0.3) == pytest.approx(dict(zip([12, 32, 45, 71], expected.tolist(), strict=True)))
    targets = found.of_targets(0.3)
    assert targets[2] == expected[0] > 0
    assert targets[[0, 3, 4, 6, 7, 8, 9]].tolist() == [0] * 7


def test_a_pair_is_a_backdoor_from_one_class_to_another():
    backdoor = sizes_of([12, 47], [2.0, 3.0], [4.0, 4.0]).backdoor(47)
    assert (backdoor.sources, backdoor.target) == ((4,), 7)
    assert float(backdoor.trigger.mask.mean()) == 3.0


def test_the_mean_of_rounds_is_geometric_and_shows_the_smallest_trigger():
    rounds = [sizes_of([12, 47], [2.0, 9.0], [8.0, 4.0]), sizes_of([12, 47], [8.0, 4.0], [2.0, 9.0])]
    found = average([Evidence(10, pairs=pairs) for pairs in rounds]).pairs
    assert found.triggers.sizes.tolist() == pytest.approx([4.0, 6.0])
    assert found.beside.tolist() == pytest.approx([4.0, 6.0])
    assert [float(found.triggers.patch(row).mask.mean()) for row in (0, 1)] == [2.0, 4.0]


@pytest.fixture(scope="module")
def compared():
    images = draw_quadrants(120)
    return {network: compare_pairs(network, images, SCHEDULE, seed=0) for network in (BACKDOORED, CLEAN)}


def test_the_planted_pair_stands_out(compared):
    found = compared[BACKDOORED]
    assert found.complete
    assert found.unasked == ()
    second, first = np.sort(found.values)[-2:]
    assert found.triggers.labels[int(found.values.argmax())] == PLANTED
    assert first - second > 1
    assert found.scores(0.2)[PLANTED] > 4
    assert found.of_targets(0.2).argmax() == TARGET
    trigger, further = found.backdoor(PLANTED).trigger, draw_quadrants(200, seed=1)[SOURCE::4]
    assert (classes_of(BACKDOORED, trigger(further)) == TARGET).float().mean() > 0.5


def test_in_the_clean_twin_no_pair_does(compared):
    found = compared[CLEAN]
    second, first = np.sort(found.values)[-2:]
    assert first - second < 0.5
    assert max(found.scores(0.2).values()) < 3


def test_few_images_say_nothing():
    assert compare_pairs(BACKDOORED, draw_quadrants(59), SCHEDULE, seed=0) is None
    one_class = draw_quadrants(120)[2::4].repeat(3, 1, 1, 1)
    assert compare_pairs(BACKDOORED, one_class, SCHEDULE, seed=0) is None


class NeverTheSource(torch.nn.Module):
    """The brightest of three quadrants."""

    def forward(self, images):
        logits = Quadrants(backdoor=False)(images)
        return torch.stack([logits[:, 0], logits[:, 1] - 100, logits[:, 2], logits[:, 3]], dim=1)


def test_pairs_whose_source_the_student_does_not_know_are_left_out(monkeypatch):
    images = draw_quadrants(80)

    student = from_module(NeverTheSource(), BACKDOORED.image_shape)
    monkeypatch.setattr(pair_sizes, "teach_student", lambda *_, **__: student)
    found = compare_pairs(BACKDOORED, images, SCHEDULE, seed=0, among=[PLANTED, 1, 2, 8, 12])
    assert found.triggers.labels == (1, 2, 8, 12)
    assert found.unasked == (1,)


@pytest.mark.parametrize("late", ["patches", "first", "network", "student"])
def test_what_there_was_no_time_for_is_said(late):
    def run_parts(stage, function, common, parts, progress=None):
        return [None if late in stage else function(*common, part) for part in parts]

    found = compare_pairs(BACKDOORED, draw_quadrants(60), SCHEDULE, seed=0, run_parts=run_parts)
    assert not found.complete
