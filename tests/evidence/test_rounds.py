import math
from types import SimpleNamespace

import numpy as np
import torch

from goodnet.core.backdoor import Patch
from goodnet.evidence.judgement import BLEND, PATCH, SIZE, Evidence
from goodnet.evidence.pair_sizes import PairSizes
from goodnet.evidence.rounds import average, kinds_near
from goodnet.triggers.inversion import Inversions
from goodnet.triggers.patch_probe import Shares


def inversions(labels, sizes):
    """Return triggers of 4 x 4 images, whose mask and pattern have their size as value; 16: none worked."""
    sizes = torch.tensor(sizes)
    masks = sizes[:, None, None, None].expand(-1, 1, 4, 4)
    return Inversions(tuple(labels), masks, masks.expand(-1, 3, 4, 4), sizes, sizes < 16)


def patch(value):
    return Patch(torch.full((1, 4, 4), value), torch.full((3, 4, 4), value))


def test_values_are_means_over_the_rounds_that_know_a_class_that_the_first_knows():
    first = Evidence(4, {BLEND: np.array([1.0, 2.0, np.nan, 4.0])})
    second = Evidence(4, {BLEND: np.array([3.0, np.nan, 5.0, 4.0])})
    third = Evidence(4, {BLEND: np.array([8.0, 4.0, np.nan, 1.0])})
    found = average([first, second, third])
    np.testing.assert_allclose(found.values[BLEND], [4.0, 3.0, np.nan, 3.0])
    assert (found.rounds, found.classes) == (3, 4)


def test_what_a_further_round_does_not_measure_keeps_its_value():
    rounds = [Evidence(3, {SIZE: np.array([1.0, 2.0, 3.0]), PATCH: np.array([0.5, 0.1, 0.2])})]
    rounds.append(Evidence(3, {SIZE: np.array([3.0, 2.0, 1.0])}))
    found = average(rounds)
    np.testing.assert_array_equal(found.values[SIZE], [2.0, 2.0, 2.0])
    np.testing.assert_array_equal(found.values[PATCH], [0.5, 0.1, 0.2])


def test_a_kind_could_decide_if_its_score_is_within_a_factor_of_ten_of_alpha_or_higher(monkeypatch):
    scores = {BLEND: np.array([2.29, 0.0, 0.0]), SIZE: np.array([0.0, np.nan, 2.31]), PATCH: np.array([0.0, 9.0, 0.0])}
    judgement = SimpleNamespace(kinds=scores)
    monkeypatch.setattr(Evidence, "judge", lambda self, least: judgement)
    assert kinds_near(Evidence(3), -math.log(0.01)) == {SIZE, PATCH}  # ln 10 = 2.303


def test_the_mean_of_one_round_is_the_round():
    evidence = Evidence(2, {SIZE: np.array([1.0, np.nan])}, triggers=inversions([0], [3.0]), unfinished=1)
    found = average([evidence])
    np.testing.assert_array_equal(found.values[SIZE], evidence.values[SIZE])
    assert (found.rounds, found.unfinished, found.triggers.labels) == (1, 1, (0,))


def test_the_triggers_are_the_smallest_of_all_rounds():
    rounds = [Evidence(9, triggers=inversions([2, 5], sizes)) for sizes in ([3.0, 16.0], [7.0, 4.0], [9.0, 16.0])]
    found = average(rounds).triggers
    assert found.labels == (2, 5)
    assert found.sizes.tolist() == [3.0, 4.0]
    assert found.worked.tolist() == [True, True]
    assert [float(found.patch(row).mask.mean()) for row in (0, 1)] == [3.0, 4.0]


def test_the_patches_are_the_strongest_of_all_rounds():
    one = Evidence(9, patches=Shares((1, 2), (0.5, 0.2), (patch(0.1), patch(0.2))))
    two = Evidence(9, patches=Shares((2, 3), (0.6, 0.4), (patch(0.3), patch(0.4))))
    found = average([one, two]).patches
    assert [found.of(label) for label in (1, 2, 3)] == [0.5, 0.6, 0.4]
    assert found.patch_of(2).mask.unique().tolist() == [np.float32(0.3)]


def test_a_shift_has_the_geometric_mean_of_its_sizes_and_the_smallest_trigger():
    found = average([Evidence(4, shifts=inversions([1, 2, 3], sizes)) for sizes in ([2.0, 9.0, 4.0], [8.0, 9.0, 1.0])])
    torch.testing.assert_close(found.shifts.sizes, torch.tensor([4.0, 9.0, 2.0]))
    assert float(found.shifts.patch(0).mask.mean()) == 2.0


def test_pairs_are_the_mean_of_the_rounds_that_have_the_same_ones():
    rounds = [
        Evidence(4, pairs=PairSizes(4, inversions(labels, sizes), torch.tensor([8.0] * len(labels))))
        for labels, sizes in (([1, 2], [2.0, 4.0]), ([1], [8.0]), ([1, 2], [8.0, 1.0]))
    ]
    found = average([*rounds, Evidence(4)]).pairs
    assert found.triggers.sizes.tolist() == [4.0, 2.0]
    assert average([Evidence(4), *rounds]).pairs is None
