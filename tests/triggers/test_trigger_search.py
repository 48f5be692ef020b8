import math

import pytest
import torch

from goodnet.core.backdoor import Backdoor, Patch
from goodnet.formats.pytorch import from_module
from goodnet.triggers.free_triggers import FreeCovers, FreePatches, FreeWarps, FreeWaves
from goodnet.triggers.trigger_search import TriggerSearch, _read_map, _working


@pytest.fixture
def corner():
    mask = torch.zeros(1, 16, 16)
    mask[:, -3:, -3:] = 1
    return Patch(mask, torch.ones(1, 16, 16))


def test_triggers_are_recovered_for_each_target_beside_those_given_and_a_faint_image(planted, corner):
    images = planted.clean.images()[:40]
    search = TriggerSearch.start(planted.classifier, images, [Backdoor(corner, 7), Backdoor(None, 2)], 2, 0)
    targets = search.goals[:, 0].tolist()
    assert torch.equal(search.goals, search.goals[:, :1].expand(-1, 10))
    assert sorted(targets[:4]) == [2, 2, 7, 7]
    assert targets[4] == 7
    assert targets[5:7] == [7, 2]
    assert [type(family) for family in search.families[1:]] == [FreeCovers, FreeCovers]
    assert targets[7:] == [7] * 4 + [2] * 4
    assert not search.elusive, "covers are for every target, not for those that escape"
    torch.testing.assert_close(search.families[0].masks[4].sigmoid(), corner.mask.clamp(0.01, 0.99))


def test_nothing_is_compared_where_every_class_is_suspected(planted):
    suspected = [Backdoor(None, label) for label in range(10)]
    search = TriggerSearch.start(planted.classifier, planted.clean.images()[:8], suspected, 1, 0)
    assert search.goals[:, 0].tolist() == [*range(10), *range(10)]


def test_patches_of_one_place_and_two_colours_are_two_triggers(planted, corner):
    black = Patch(corner.mask, torch.zeros(1, 16, 16))
    suspected = [Backdoor(corner, 3, (1,)), Backdoor(black, 5, (4,))]
    assert len(TriggerSearch.start(planted.classifier, planted.clean.images()[:4], suspected, 1, 0)) == 2


def test_backdoors_that_share_a_trigger_and_name_their_sources_are_one_trigger(planted, corner):
    same = Patch(corner.mask.clone(), corner.pattern.clone())
    suspected = [Backdoor(corner, 3, (1, 2)), Backdoor(same, 5, (4,))]
    search = TriggerSearch.start(planted.classifier, planted.clean.images()[:4], suspected, 3, 0)
    assert search.goals.tolist() == [[0, 3, 3, 3, 5, 5, 6, 7, 8, 9]]


def test_of_a_trigger_that_moves_all_classes_by_one_number_more_are_recovered(all_to_all, planted):
    images = planted.clean.sample(40, seed=0).images()
    # What the scan recovered may be a patch elsewhere, as here: it moves nothing.
    mask = torch.zeros(1, 16, 16)
    mask[:, 8, 8] = 1
    useless = Patch(mask, torch.zeros(1, 16, 16))
    suspected = [Backdoor(useless, (label + 1) % 10, (label,)) for label in range(10)]
    search = TriggerSearch.start(all_to_all, images, suspected, 2, 0)
    assert search.goals.tolist() == [[*range(1, 10), 0]] * 3
    with torch.inference_mode():
        predictions = all_to_all(images).argmax(dim=1)
        stamped = [search.stamp(images, torch.full((40,), turn)) for turn in range(3)]
        moved = [float((all_to_all(each).argmax(dim=1) == (predictions + 1) % 10).float().mean()) for each in stamped]
    assert moved[0] < 0.1
    assert min(moved[1:]) > 0.4
    by_two = [Backdoor(useless, (label + 2) % 10, (label,)) for label in range(9)]
    assert len(TriggerSearch.start(all_to_all, images, by_two, 2, 0)) == 1, "the last class stays: that is no shift"


def test_success_leaves_out_images_that_are_there_already(planted):
    corner, images = planted.backdoor.trigger, planted.clean.images()[:60]
    with torch.inference_mode():
        predictions = planted.classifier(images).argmax(dim=1)
        moved = planted.classifier(corner(images)).argmax(dim=1) == 7
    search = TriggerSearch.start(planted.classifier, images, [Backdoor(corner, 7, tuple(range(10)))], 1, 0)
    expected = float(moved[predictions != 7].float().mean())
    assert expected > 0.9
    hits, counted = search.measure(planted.classifier, images, predictions)
    assert counted == int((predictions != 7).sum()) < 60
    assert hits / counted == pytest.approx(expected, abs=0.05)
    only_sevens = images[predictions == 7]
    assert search.measure(planted.classifier, only_sevens, predictions[predictions == 7]) == (0, 0)


def test_steps_move_a_useless_trigger_towards_its_goal(planted):
    images = planted.clean.images()[:60]
    with torch.inference_mode():
        predictions = planted.classifier(images).argmax(dim=1)
    grey = Patch(torch.full((1, 16, 16), 0.3), torch.full((1, 16, 16), 0.5))
    search = TriggerSearch.start(planted.classifier, images, [Backdoor(grey, 7, tuple(range(10)))], 1, 0)
    before, _ = search.measure(planted.classifier, images, predictions)
    for _ in range(40):
        search.step(planted.classifier, images, predictions, torch.zeros(60, dtype=torch.long), 1.0)
    after, counted = search.measure(planted.classifier, images, predictions)
    assert before < counted / 2 < after


def test_what_no_patch_comes_near_is_searched_for_besides(warped, waved):
    for twin, family in ((warped, FreeWarps), (waved, FreeWaves)):
        images = twin.clean.sample(40, seed=0).images()
        search = TriggerSearch.start(twin.classifier, images, [Backdoor(None, 7)], 2, 0)
        assert search.elusive
        assert family in {type(item) for item in search.families}
        assert search.goals.tolist() == [[7] * 10] * len(search)


def test_a_patch_alone_is_not_elusive(planted):
    assert not TriggerSearch.start(
        planted.classifier, planted.clean.sample(40, seed=0).images(), [Backdoor(None, 7)], 1, 0
    ).elusive


def test_no_warp_is_searched_for_a_class_that_is_no_target(warped):
    search = TriggerSearch.start(warped.classifier, warped.clean.sample(40, seed=0).images(), [Backdoor(None, 3)], 1, 0)
    assert FreeWarps not in {type(item) for item in search.families}


def test_warps_go_to_the_target_that_they_reach(warped):
    images = warped.clean.sample(40, seed=0).images()
    search = TriggerSearch.start(warped.classifier, images, [Backdoor(None, 3), Backdoor(None, 7)], 1, 0)
    (warps,) = [family for family in search.families if isinstance(family, FreeWarps)]
    assert len(warps) == 1
    place = sum(len(family) for family in search.families[: search.families.index(warps)])
    assert set(search.goals[place].tolist()) == {7}
    with torch.inference_mode():
        moved = warped.classifier(search.stamp(images, torch.full((40,), place))).argmax(dim=1) == 7
    assert moved.float().mean() > 0.7


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([0.9, 0.2, 0.1, 0.2, 0.0], [0]),
        ([0.6, 0.8, 0.1, 0.2, 0.0], [1]),
        ([0.9, 0.9, 0.1, 0.5, 0.5], []),
        ([0.9, 0.9, 0.5, 0.1, 0.1], [0, 1]),
    ],
)
def test_what_reaches_most_other_classes_as_well_is_no_trigger(shares, expected):
    assert _working(torch.tensor(shares), 2) == expected


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 2, 2), (1, 1, 4), (1, 3, 2)])
def test_images_of_a_few_pixels_are_searched_on(shape):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(math.prod(shape), 4))
    search = TriggerSearch.start(from_module(module, shape), torch.rand(6, *shape), [Backdoor(None, 1)], 1, 0)
    assert len(search) >= 1


def mixed():
    masks = (torch.full((1, 8, 8), opacity) for opacity in (0.5, 0.1))
    patches = FreePatches([Patch(mask, torch.ones(1, 8, 8)) for mask in masks], [64.0, 64.0], torch.device("cpu"))
    waves = FreeWaves(torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]]), 0.1)
    return TriggerSearch([patches, waves], torch.tensor([[7] * 10] * 4))


def test_half_of_the_images_go_to_warps_and_waves_and_each_of_them_at_times():
    search, draws = mixed(), torch.Generator().manual_seed(0)
    turns = torch.stack([search.draw(40, draws) for _ in range(30)])
    assert ((turns >= 2).sum(dim=1) == 20).all()
    assert set(turns.flatten().tolist()) == {0, 1, 2, 3}
    often = (turns >= 2).float().mean(dim=0)
    assert 0.1 < often.min() <= often.max() < 0.9


def test_every_image_gets_the_trigger_of_its_turn_whatever_family():
    search, images = mixed(), torch.rand(4, 1, 8, 8)
    stamped = search.stamp(images, torch.tensor([3, 1, 2, 0]))
    patches, waves = search.families
    for place, (family, turn) in enumerate([(waves, 1), (patches, 1), (waves, 0), (patches, 0)]):
        expected = family.stamp(images[place : place + 1], torch.tensor([turn]))
        torch.testing.assert_close(stamped[place : place + 1], expected)


def test_waves_that_have_no_turn_stay(planted):
    search = mixed()
    search = TriggerSearch(
        [FreePatches([planted.backdoor.trigger], [9.0], torch.device("cpu")), search.families[1]], search.goals[:3]
    )
    images, before = planted.clean.images()[:8], [item.detach().clone() for item in search.families[0].variables]
    waves = search.families[1].phases.detach().clone()
    search.step(planted.classifier, images, torch.zeros(8, dtype=torch.long), torch.zeros(8, dtype=torch.long), 1.0)
    assert torch.equal(search.families[1].phases.detach(), waves)
    assert not torch.equal(before[0], search.families[0].masks.detach())


def test_a_map_of_all_classes_that_is_told_without_a_trigger_is_recovered(all_to_all, planted):
    images = planted.clean.sample(40, seed=0).images()
    suspected = [Backdoor(None, (label + 1) % 10, (label,)) for label in range(10)]
    search = TriggerSearch.start(all_to_all, images, suspected, 2, 0)
    assert search.goals.tolist() == [[*range(1, 10), 0]] * 2
    predictions = torch.arange(10)[torch.tensor(planted.clean.sample(40, seed=0).targets)]
    assert search.measure(all_to_all, images, predictions)[0] > 20


@pytest.mark.parametrize(
    "sources",
    [
        [(label,) for label in range(9)],  # class 9 has no goal
        [*((label,) for label in range(9)), (8,)],  # class 8 has two
        [None] * 10,
        [(target,) for target in range(10)],  # every class stays
    ],
)
def test_what_is_no_map_of_all_classes_is_not_read_as_one(sources):
    told = [Backdoor(None, target, of) for target, of in enumerate(sources)]
    assert _read_map(told, 10) is None
