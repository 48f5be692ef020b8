import numpy as np
import pytest
import torch

from goodnet.algorithms.pair_inversion import Pairs, invert_pairs, share_trigger
from goodnet.algorithms.trigger_inversion import Inversions, Schedule
from goodnet.core.backdoor import Backdoor

SCHEDULE = Schedule(steps=60, images=4, learning_rate=0.2)


def table(sizes, missing=()):
    """Return triggers of 4 x 4 images with these sizes (K, K); 16: none worked."""
    sizes = torch.tensor(sizes)
    classes = len(sizes)
    tried = [(s, t) for s in range(classes) for t in range(classes) if s != t and (s, t) not in missing]
    some = torch.stack([sizes[pair] for pair in tried])
    masks = (some / 16)[:, None, None, None].expand(-1, 1, 4, 4)
    labels = tuple(s * classes + t for s, t in tried)
    return Pairs(classes, Inversions(labels, masks, torch.zeros(len(some), 3, 4, 4), some, some < 16), len(tried))


def test_what_rows_and_columns_explain_is_taken_out():
    row, column = np.array([1.0, 2.0, 1.5, 3.0, 1.0]), np.array([1.0, 1.0, 2.0, 1.2, 0.8])
    sizes = np.outer(row, column)
    sizes[3, 1] /= 4
    smallness = table(sizes.tolist()).smallness
    expected = np.zeros((5, 5))
    expected[3, 1] = np.log(4)
    np.testing.assert_allclose(smallness[~np.eye(5, dtype=bool)], expected[~np.eye(5, dtype=bool)], atol=1e-6)
    assert np.isnan(smallness.diagonal()).all()


def test_pairs_that_were_not_tried_are_nan_and_triggers_that_failed_count_as_the_largest():
    sizes = [[2.0] * 4 for _ in range(4)]
    sizes[0][1] = 16.0
    found = table(sizes, missing=[(2, 0), (2, 1), (2, 3)])
    assert np.isnan(found.smallness[2]).all()
    assert found.smallness[0, 1] == 0, "the largest that worked is as large as all others"
    assert found.patch(0, 1) is None
    assert found.patch(0, 2).size == pytest.approx(2.0)


def test_the_pairs_of_an_all_to_all_backdoor_stand_out_and_share_a_trigger(all_to_all, clean_twin):
    images = clean_twin.clean.images()[:110]
    planted = invert_pairs(all_to_all, images, SCHEDULE, seed=0)
    clean = invert_pairs(clean_twin.classifier, images, SCHEDULE, seed=0)
    assert planted.complete
    # The mean over the ten pairs (c, c + 1) leads those of the other steps; in the clean twin none does.
    assert int(planted.shifts.argmax()) == 0
    assert planted.shifts[0] > 3 * np.abs(planted.shifts[1:]).max()
    assert planted.shifts[0] > 3 * np.abs(clean.shifts).max()
    suspected = [Backdoor(planted.patch(s, (s + 1) % 10), (s + 1) % 10, (s,)) for s in range(10)]
    shared = share_trigger(all_to_all, images, suspected, seed=0)
    assert all(item.trigger is shared[0].trigger for item in shared)
    assert [item.sources for item in shared] == [(source,) for source in range(10)]
    others = clean_twin.clean.images()[110:210]
    answers = all_to_all(others).argmax(dim=1)
    with torch.inference_mode():
        moved = all_to_all(shared[0].trigger(others)).argmax(dim=1) == (answers + 1) % 10
    # One image in ten is called the next class by chance.
    assert float(moved.float().mean()) >= 0.35


def test_one_pair_or_none_keeps_its_own_trigger(tiny_classifier, tiny_data):
    one = Backdoor(None, 2, (1,))
    assert share_trigger(tiny_classifier, tiny_data.images(), [one], seed=0) == (one,)
    assert share_trigger(tiny_classifier, tiny_data.images(), [Backdoor(None, 2), one], seed=0)[1] is one


def test_a_class_with_fewer_than_four_images_is_no_source(tiny_classifier, tiny_data):
    images = tiny_data.images()
    answers = tiny_classifier(images).argmax(dim=1)
    some = torch.cat([images[answers == label][:count] for label, count in ((0, 3), (1, 4), (2, 5))])
    found = invert_pairs(tiny_classifier, some, Schedule(steps=2, images=4), seed=0)
    assert sorted({label // 4 for label in found.found.labels}) == [1, 2]
    assert found.complete


def test_shifts_are_means_over_the_classes_that_were_tried():
    sizes = [[2.0] * 4 for _ in range(4)]
    for source in range(4):
        sizes[source][(source + 3) % 4] = 0.5
    found = table(sizes, missing=[(2, 0), (2, 1), (2, 3)])
    assert found.shifts.shape == (3,)
    assert found.shifts[2] > found.shifts[:2].max() + 0.5
    most = [(source, target) for source in range(3) for target in range(4) if source != target]
    assert np.isnan(table(sizes, missing=most).shifts).all(), "one class of four says too little"
