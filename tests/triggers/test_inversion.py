from dataclasses import replace

import torch

from goodnet.core.backdoor import Patch
from goodnet.core.results import Rate
from goodnet.triggers.inversion import (
    Inversions,
    Schedule,
    invert_for_single_images,
    invert_maps,
    invert_shifts,
    invert_triggers,
)
from tests.suspects import measure_success


def test_triggers_that_worked_do_work_and_sizes_are_those_of_the_masks(tiny_classifier, tiny_data):
    images = tiny_data.images()[:60]
    found = invert_triggers(tiny_classifier, images, range(4), Schedule(steps=80, images=16), seed=0)
    assert found.masks.shape == (4, 1, 12, 12)
    assert found.patterns.shape == (4, 3, 12, 12)
    assert bool(found.worked.all())
    torch.testing.assert_close(found.sizes, found.masks.sum(dim=(1, 2, 3)))
    assert float(found.masks.min()) >= 0
    assert float(found.patterns.max()) <= 1
    for label in range(4):
        assert measure_success(tiny_classifier, tiny_data.images()[60:], found.patch(label), label).value >= 0.7


def test_a_class_gets_the_same_trigger_whatever_else_is_asked_for(tiny_classifier, tiny_data):
    images, schedule = tiny_data.images()[:30], Schedule(steps=10, images=4)
    alone = invert_triggers(tiny_classifier, images, [2], schedule, seed=1)
    among = invert_triggers(tiny_classifier, images, [0, 2, 3], schedule, seed=1)
    torch.testing.assert_close(alone.patterns[0], among.patterns[1], atol=1e-4, rtol=0)
    other = invert_triggers(tiny_classifier, images, [2], schedule, seed=2)
    assert not torch.allclose(alone.patterns[0], other.patterns[0], atol=1e-2)


def test_a_trigger_that_never_worked_is_said_to_be_the_whole_image(tiny_classifier, tiny_data):
    found = invert_triggers(tiny_classifier, tiny_data.images()[:8], [0], Schedule(steps=1, images=8), seed=0)
    assert not bool(found.worked[0])
    assert float(found.sizes[0]) == 144


def test_triggers_that_worked_take_the_places_of_those_with_their_labels():
    def triggers(labels, sizes, worked):
        masks = torch.tensor(sizes)[:, None, None, None].expand(-1, 1, 2, 2)
        return Inversions(tuple(labels), masks, masks + 1, torch.tensor(sizes), torch.tensor(worked))

    first = triggers([3, 5, 8], [1.0, 2.0, 4.0], [True, False, True])
    found = first.replaced_by(triggers([8, 5, 3, 9], [7.0, 6.0, 4.0, 0.5], [True, True, False, True]))
    assert found.labels == (3, 5, 8)
    assert found.sizes.tolist() == [1.0, 6.0, 7.0]
    assert found.masks[:, 0, 0, 0].tolist() == [1.0, 6.0, 7.0]
    assert found.patterns[:, 0, 0, 0].tolist() == [2.0, 7.0, 8.0]
    assert found.worked.tolist() == [True, True, True]
    assert first.sizes.tolist() == [1.0, 2.0, 4.0]


def test_a_trigger_that_need_not_move_all_images_is_smaller(tiny_classifier, tiny_data):
    images, strict = tiny_data.images()[:60], Schedule(steps=80, images=16)
    whole = invert_triggers(tiny_classifier, images, range(4), strict, seed=0)
    most = invert_triggers(tiny_classifier, images, range(4), replace(strict, success=0.7, least=0.75), seed=0)
    assert (most.sizes < whole.sizes).all()
    for label in range(4):
        assert measure_success(tiny_classifier, images, most.patch(label), label).value >= 0.6


def test_images_of_the_class_itself_never_count(tiny_classifier, tiny_data):
    nothing = Patch(torch.zeros(1, 12, 12), torch.zeros(3, 12, 12))
    images = tiny_data.images()
    predictions = tiny_classifier(images).argmax(dim=1)
    assert measure_success(tiny_classifier, images, nothing, 1) == Rate.of(0, int((predictions != 1).sum()))
    everything = Patch(torch.ones(1, 12, 12), images[predictions == 1][0])
    assert measure_success(tiny_classifier, images, everything, 1).value == 1.0
    assert measure_success(tiny_classifier, images[predictions == 1], everything, 1) is None


def test_one_image_takes_a_smaller_trigger_than_all_and_one_of_the_class_itself_none(tiny_classifier, tiny_data):
    images, schedule = tiny_data.images()[:24], Schedule(steps=80, images=8)
    own = tiny_classifier(images).argmax(dim=1) == 2
    sizes = invert_for_single_images(tiny_classifier, images, 2, schedule, seed=0)
    whole = invert_triggers(tiny_classifier, images, [2], schedule, seed=0).sizes[0]
    assert sizes[own].tolist() == [144.0] * int(own.sum())
    assert float(sizes[~own].median()) < float(whole)
    again = invert_for_single_images(tiny_classifier, images[:5], 2, schedule, seed=0)
    torch.testing.assert_close(again, sizes[:5], atol=0.5, rtol=0.05)


def test_a_class_that_all_images_have_already_gets_no_trigger(tiny_classifier, tiny_data):
    images = tiny_data.images()
    images = images[tiny_classifier(images).argmax(dim=1) == 1]
    found = invert_triggers(tiny_classifier, images, range(4), Schedule(steps=60, images=16), seed=0)
    assert found.worked.tolist() == [True, False, True, True]
    assert float(found.sizes[1]) == 144


def test_the_shift_that_was_planted_needs_the_smallest_trigger(all_to_all, clean_twin):
    schedule = Schedule(steps=150, images=8, success=0.55, least=0.6)
    images = clean_twin.clean.images()[:50]
    planted = invert_shifts(all_to_all, images, schedule, seed=0)
    clean = invert_shifts(clean_twin.classifier, images, schedule, seed=0)
    assert planted.labels == clean.labels == tuple(range(1, 10))
    assert int(planted.sizes.argmin()) == 0
    assert float(planted.sizes[0]) < 0.5 * float(planted.sizes[1:].min())
    assert float(clean.sizes[0]) > 0.5 * float(clean.sizes[1:].min())
    others = clean_twin.clean.images()[50:150]
    with torch.inference_mode():
        moved = all_to_all(planted.patch(0)(others)).argmax(dim=1) == (all_to_all(others).argmax(dim=1) + 1) % 10
    # One image in ten is called the next class by chance; the planted trigger itself reaches 0.84 of all.
    assert float(moved.float().mean()) >= 0.35


def test_a_map_says_what_each_class_becomes_and_classes_that_stay_are_not_looked_at(tiny_classifier, tiny_data):
    images = tiny_data.images()
    predictions = tiny_classifier(images).argmax(dim=1)
    maps = {5: torch.tensor([1, 1, 3, 3]), 9: torch.tensor([0, 1, 2, 0])}
    schedule = Schedule(steps=80, images=16)
    found = invert_maps(tiny_classifier, images[:60], maps, schedule, seed=0)
    assert found.labels == (5, 9)
    assert bool(found.worked.all())
    for position, goals in enumerate(maps.values()):
        moved = goals[predictions] != predictions
        reached = tiny_classifier(found.patch(position)(images)).argmax(dim=1) == goals[predictions]
        assert float(reached[moved].float().mean()) >= 0.7
    # What lies in images of classes that stay makes no difference.
    other = images[:60].clone()
    other[predictions[:60] == 1] = images[predictions == 1][0]
    again = invert_maps(tiny_classifier, other, {9: maps[9]}, schedule, seed=0)
    torch.testing.assert_close(again.masks[0], found.masks[1], atol=1e-4, rtol=0)


def test_a_map_that_moves_no_image_has_no_trigger(tiny_classifier, tiny_data):
    images = tiny_data.images()
    images = images[tiny_classifier(images).argmax(dim=1) == 1][:8]
    found = invert_maps(tiny_classifier, images, {0: torch.tensor([2, 1, 2, 3])}, Schedule(steps=20, images=4), seed=0)
    assert found.worked.tolist() == [False]


def test_inversion_begins_with_the_patch_that_it_is_given(tiny_classifier, tiny_data):
    images, first = tiny_data.images()[:30], Schedule(steps=1, images=8, least=0.0, success=0.0)
    mask, pattern = torch.zeros(1, 12, 12), torch.zeros(3, 12, 12)
    mask[:, 2:5, 6:9], pattern[0, 2:5, 6:9] = 1.0, 1.0
    plain = invert_triggers(tiny_classifier, images, [1, 2], first, seed=0)
    found = invert_triggers(tiny_classifier, images, [1, 2], first, seed=0, starts={2: Patch(mask, pattern)})
    assert torch.equal(found.masks[0], plain.masks[0]), "class 1 was given none"
    inside = mask[0].bool()
    # Before the first step: sigmoid(2) inside, sigmoid(-1) outside; colours stay 0.05 away from 0 and 1.
    torch.testing.assert_close(found.masks[1, 0][inside], torch.full((9,), 2.0).sigmoid())
    torch.testing.assert_close(found.masks[1, 0][~inside], torch.full((135,), -1.0).sigmoid())
    torch.testing.assert_close(found.patterns[1, 0][inside], torch.full((9,), 0.95))
    torch.testing.assert_close(found.patterns[1, 1][inside], torch.full((9,), 0.05))
    torch.testing.assert_close(found.patterns[1][:, ~inside], plain.patterns[1][:, ~inside])
