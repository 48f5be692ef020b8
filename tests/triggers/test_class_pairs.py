"""A trigger from one class to another that leaves the others alone is small where it was planted, and nowhere else."""

import math

import pytest
import torch

from goodnet.core.method import no_progress, run_here
from goodnet.triggers.class_pairs import (
    PairAim,
    PairImages,
    PairSchedule,
    _probe,
    _tried_patches,
    choose_pairs,
    invert_pairs,
    name_pair,
)
from goodnet.triggers.inversion import Schedule, classes_of
from goodnet.triggers.patch_probe import ProbeSchedule
from tests.quadrant_networks import BACKDOORED, CLEAN, MIDDLE, SHAPE, SOURCE, TARGET, draw_quadrants

PLANTED = SOURCE * 4 + TARGET
SCHEDULE = PairSchedule(
    images=10,
    least=5,
    probe=ProbeSchedule(sides=(2,), images=4, stride=1),
    first=Schedule(steps=10, images=4, opacity=0.05),
    kept=5,
    deep=Schedule(steps=60, images=4, opacity=0.05),
)


@pytest.fixture(scope="module")
def images():
    return PairImages.draw(BACKDOORED, draw_quadrants(80), SCHEDULE, seed=0)


def test_a_number_names_source_and_target():
    assert name_pair(PLANTED, 4) == (SOURCE, TARGET)
    assert [name_pair(number, 10) for number in (0, 9, 47, 90)] == [(0, 0), (0, 9), (4, 7), (9, 0)]


def test_as_many_images_of_each_source_are_drawn_and_classes_with_few_are_no_sources():
    pixels = draw_quadrants(80)
    # Class 2 keeps 4 of its 20 images, one fewer than the schedule asks for.
    kept = [row for row in range(80) if row % 4 != 2 or row < 16]
    first, again, other = (PairImages.draw(BACKDOORED, pixels[kept], SCHEDULE, seed) for seed in (0, 0, 1))
    assert first.sources == (0, 1, 3)
    assert torch.bincount(first.predictions).tolist() == [10, 10, 0, 10]
    assert classes_of(BACKDOORED, first.pixels).tolist() == first.predictions.tolist()
    assert torch.equal(first.pixels, again.pixels)
    assert not torch.equal(first.pixels, other.pixels)


def test_no_image_no_source():
    nothing = PairImages.draw(BACKDOORED, draw_quadrants(16), SCHEDULE, 0)
    assert (nothing.sources, len(nothing.pixels)) == ((), 0)


def test_the_first_images_of_each_source_come_again_where_they_are_few(images):
    few = images.only(torch.arange(len(images.predictions)) % 10 < 3).first_of_each(5)
    assert few.predictions.tolist() == [label for label in range(4) for _ in range(5)]
    assert torch.equal(few.pixels[0], few.pixels[3])
    assert not torch.equal(few.pixels[0], few.pixels[2])


def test_half_of_the_drawn_images_shall_move_and_the_other_half_shall_not():
    predictions = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    aim = PairAim(predictions, torch.tensor([0, 3]), torch.tensor([2, 1]))
    drawn, targets = aim.draw(3, torch.Generator().manual_seed(0))
    assert drawn.shape == targets.shape == (2, 6)
    assert predictions[drawn[:, :3]].tolist() == [[0] * 3, [3] * 3]
    assert targets[:, :3].tolist() == [[2] * 3, [1] * 3]
    assert set(predictions[drawn[0, 3:]].tolist()) <= {1, 3}
    assert set(predictions[drawn[1, 3:]].tolist()) <= {0, 2}
    assert torch.equal(targets[:, 3:], predictions[drawn[:, 3:]])
    assert aim.possible.tolist() == [True, True]
    assert PairAim(predictions[2:], torch.tensor([0]), torch.tensor([2])).possible.tolist() == [False]


def test_success_is_the_share_that_moves_less_where_others_do_not_stay():
    aim = PairAim(torch.zeros(0), torch.zeros(3), torch.zeros(3))
    right = torch.tensor([[1, 1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 1, 1, 1, 1]]).bool()
    assert aim.success(right).tolist() == pytest.approx([1.0, 0.25 / 0.75, 0.25])


def test_the_best_patterns_of_each_target_are_tried_at_their_places():
    found = [
        ((5, number), torch.tensor([[gain, -gain], [number, 7.0], [1.0, number]]))
        for number, gain in enumerate([0.0, 0.5, 0.1, 0.9, 0.3, 0.2])
    ]
    first = {(5, number, (number, 1)) for number in (3, 1, 4, 5)}
    second = {(5, number, (7, number)) for number in (0, 2, 5, 4)}
    assert _tried_patches(found) == sorted(first | second)


def test_the_probe_finds_the_place_of_the_trigger(images):
    starts = _probe(BACKDOORED, images, SCHEDULE.probe, run_here, no_progress)
    assert sorted(starts) == [source * 4 + target for source in range(4) for target in range(4) if source != target]
    patch = starts[PLANTED]
    assert patch.mask[0, MIDDLE[0], MIDDLE[1]].sum() == patch.mask.sum() == 4
    assert patch.pattern[0, MIDDLE[0], MIDDLE[1]].mean() == 1


def test_patches_slide_over_images_of_the_sources_alone_that_are_asked_for(images):
    asked = [number for number in (PLANTED, 9) if number // 4 != 3]
    choice = choose_pairs(BACKDOORED, images, SCHEDULE, seed=0, among=asked)
    whole = _probe(BACKDOORED, images, SCHEDULE.probe, run_here, no_progress)
    assert choice.numbers == tuple(asked)
    assert sorted(choice.starts) == [number for number in whole if number // 4 in {number // 4 for number in asked}]
    assert all(torch.equal(choice.starts[number].mask, whole[number].mask) for number in choice.starts)
    assert not choose_pairs(BACKDOORED, images.of_sources([]), SCHEDULE, seed=0, among=asked).complete


def test_the_planted_pair_has_the_smallest_trigger_and_in_the_clean_twin_it_is_large(images):
    sizes = {}
    for network in (BACKDOORED, CLEAN):
        choice = choose_pairs(network, images, SCHEDULE, seed=0)
        assert choice.complete
        assert len(choice.numbers) == 5
        assert list(choice.numbers) == sorted(choice.numbers)
        numbers = [*choice.numbers, *{PLANTED} - set(choice.numbers)]
        found = invert_pairs(network, images, numbers, SCHEDULE.deep, stage="deep", seed=0, starts=choice.starts)
        assert found.labels == tuple(numbers)
        sizes[network] = dict(zip(numbers, found.sizes.tolist(), strict=True))
        if network is BACKDOORED:
            assert PLANTED in choice.numbers
            trigger = found.patch(numbers.index(PLANTED))
    planted = sizes[BACKDOORED].pop(PLANTED)
    assert planted < 6 < min(sizes[BACKDOORED].values())
    assert sizes[CLEAN][PLANTED] > 2 * planted
    further = draw_quadrants(200, seed=1)
    before, after = (classes_of(BACKDOORED, some) for some in (further, trigger(further)))
    assert (after[before == SOURCE] == TARGET).float().mean() > 0.8
    assert (after[before != SOURCE] == before[before != SOURCE]).float().mean() > 0.9


def test_pairs_that_are_known_are_not_chosen_anew(images):
    stages = []

    def run_parts(stage, function, common, parts, progress=None):
        stages.append(stage)
        return run_here(stage, function, common, parts)

    choice = choose_pairs(BACKDOORED, images, SCHEDULE, seed=0, among=(PLANTED, 3), run_parts=run_parts)
    assert (choice.numbers, choice.complete) == ((PLANTED, 3), True)
    assert [stage.split("_")[1] for stage in stages] == ["patches"]
    without = PairImages(images.pixels[10:], images.predictions[10:], images.sources[1:])
    assert choose_pairs(BACKDOORED, without, SCHEDULE, seed=0, among=(PLANTED, 3)).numbers == (PLANTED,)


@pytest.mark.parametrize("late", ["patches", "first"])
def test_what_there_was_no_time_for_is_said(images, late):
    def run_parts(stage, function, common, parts, progress=None):
        return [None] * len(parts) if late in stage else run_here(stage, function, common, parts)

    assert not choose_pairs(BACKDOORED, images, SCHEDULE, seed=0, run_parts=run_parts).complete


def test_triggers_that_there_was_no_time_for_are_left_out(images):
    found = invert_pairs(
        BACKDOORED, images, [1, 2], SCHEDULE.deep, stage="deep", seed=0, starts={}, run_parts=lambda *_: [None]
    )
    assert (found.labels, len(found.sizes), found.masks.shape[1:]) == ((), 0, SHAPE)


def test_a_mask_begins_as_opaque_as_the_schedule_says(images):
    # After no step that counts, a trigger that never worked is what it began as.
    once = Schedule(steps=1, images=4, opacity=0.05)
    found = invert_pairs(BACKDOORED, images, [1], once, stage="deep", seed=0, starts={})
    assert not found.worked.any()
    assert found.masks.mean() == pytest.approx(0.05, rel=1e-5)
    assert found.sizes.tolist() == [math.prod(SHAPE)]
