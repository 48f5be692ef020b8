import pytest
import torch

from goodnet.algorithms.trigger_hunt import Hunt
from goodnet.core.backdoor import Backdoor, Patch


@pytest.fixture
def corner():
    mask = torch.zeros(1, 16, 16)
    mask[:, -3:, -3:] = 1
    return Patch(mask, torch.ones(1, 16, 16))


def test_triggers_are_recovered_for_each_target_beside_those_given_and_a_faint_image(planted, corner):
    images = planted.clean.images()[:40]
    hunt = Hunt.start(planted.classifier, images, [Backdoor(corner, 7), Backdoor(None, 2)], 2, 0)
    targets = hunt.goals[:, 0].tolist()
    assert torch.equal(hunt.goals, hunt.goals[:, :1].expand(-1, 10))
    assert sorted(targets[:4]) == [2, 2, 7, 7]
    assert targets[4] == 7
    assert targets[5:] == [7, 2]
    torch.testing.assert_close(hunt.masks[4].sigmoid(), corner.mask.clamp(0.01, 0.99))


def test_nothing_is_compared_where_every_class_is_suspected(planted):
    suspected = [Backdoor(None, label) for label in range(10)]
    hunt = Hunt.start(planted.classifier, planted.clean.images()[:8], suspected, 1, 0)
    assert hunt.goals[:, 0].tolist() == [*range(10), *range(10)]


def test_patches_of_one_place_and_two_colours_are_two_triggers(planted, corner):
    black = Patch(corner.mask, torch.zeros(1, 16, 16))
    suspected = [Backdoor(corner, 3, (1,)), Backdoor(black, 5, (4,))]
    assert len(Hunt.start(planted.classifier, planted.clean.images()[:4], suspected, 1, 0)) == 2


def test_backdoors_that_share_a_trigger_and_name_their_sources_are_one_trigger(planted, corner):
    same = Patch(corner.mask.clone(), corner.pattern.clone())
    suspected = [Backdoor(corner, 3, (1, 2)), Backdoor(same, 5, (4,))]
    hunt = Hunt.start(planted.classifier, planted.clean.images()[:4], suspected, 3, 0)
    assert hunt.goals.tolist() == [[0, 3, 3, 3, 5, 5, 6, 7, 8, 9]]


def test_success_leaves_out_images_that_are_there_already(planted):
    corner, images = planted.backdoor.trigger, planted.clean.images()[:60]
    with torch.inference_mode():
        answers = planted.classifier(images).argmax(dim=1)
        moved = planted.classifier(corner(images)).argmax(dim=1) == 7
    hunt = Hunt.start(planted.classifier, images, [Backdoor(corner, 7, tuple(range(10)))], 1, 0)
    expected = float(moved[answers != 7].float().mean())
    assert expected > 0.9
    hits, counted = hunt.success(planted.classifier, images, answers)
    assert counted == int((answers != 7).sum()) < 60
    assert hits / counted == pytest.approx(expected, abs=0.05)
    only_sevens = images[answers == 7]
    assert hunt.success(planted.classifier, only_sevens, answers[answers == 7]) == (0, 0)


def test_steps_move_a_useless_trigger_towards_its_goal(planted):
    images = planted.clean.images()[:60]
    with torch.inference_mode():
        answers = planted.classifier(images).argmax(dim=1)
    grey = Patch(torch.full((1, 16, 16), 0.3), torch.full((1, 16, 16), 0.5))
    hunt = Hunt.start(planted.classifier, images, [Backdoor(grey, 7, tuple(range(10)))], 1, 0)
    before, _ = hunt.success(planted.classifier, images, answers)
    for _ in range(40):
        hunt.step(planted.classifier, images, answers, torch.zeros(60, dtype=torch.long), 1.0)
    after, counted = hunt.success(planted.classifier, images, answers)
    assert before < counted / 2 < after
