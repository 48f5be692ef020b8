"""Triggers are tried on images that they were not made on, and chance is allowed for."""

import torch

from goodnet.core.backdoor import Backdoor, Patch
from goodnet.core.results import Rate
from goodnet.evidence.held_out import Trial, hold_out, still_suspected, try_triggers
from goodnet.formats.pytorch import from_module


class Brightest(torch.nn.Module):
    """Three classes: which of three pixels is the brightest."""

    def forward(self, images):
        return images.flatten(1)


def one_hot(*classes):
    return torch.eye(3)[list(classes)].reshape(-1, 1, 1, 3) * 0.5


def patch(target):
    """A trigger that makes the pixel of `target` white."""
    mask = torch.zeros(1, 1, 3)
    mask[..., target] = 1
    return Patch(mask, torch.ones(1, 1, 3))


CLASSIFIER = from_module(Brightest(), (1, 1, 3))


def test_images_of_the_target_do_not_count():
    backdoor = Backdoor(patch(2), 2)
    (trial,) = try_triggers(CLASSIFIER, one_hot(0, 1, 2, 2, 2), [backdoor])
    assert (trial.success, trial.refuted) == (Rate.of(2, 2), False)
    (trial,) = try_triggers(CLASSIFIER, one_hot(2, 2), [backdoor])
    assert (trial.success, trial.refuted) == (None, False)
    assert str(trial) == "class 2: its trigger could not be tried on held-out images"


def test_a_trigger_that_fails_is_refuted_and_one_that_may_have_been_unlucky_is_not():
    fails = Backdoor(patch(0), 2)
    (trial,) = try_triggers(CLASSIFIER, one_hot(*[0, 1] * 10), [fails])
    assert trial.success == Rate.of(0, 20)
    assert trial.refuted
    assert str(trial) == (
        "class 2: its trigger works on 0.00 of 20 held-out images, which speaks against it: not suspected"
    )
    # Of three images none says little: the interval reaches 0.56.
    (trial,) = try_triggers(CLASSIFIER, one_hot(0, 1, 0), [fails])
    assert not trial.refuted
    # The high end of 9 of 27 is 0.52, of 8 of 27 it is 0.48.
    assert [Trial((fails,), Rate.of(hits, 27)).refuted for hits in (9, 8)] == [False, True]


def test_backdoors_with_sources_are_tried_on_those_and_one_trigger_once():
    class Next(torch.nn.Module):
        """A white pixel 3 moves the class by one."""

        def forward(self, images):
            pixels = images.flatten(1)
            on = (pixels[:, 3:] > 0.9).float()
            return pixels[:, :3] * (1 - on) + pixels[:, [2, 0, 1]] * on

    mask = torch.tensor([[[0.0, 0.0, 0.0, 1.0]]])
    trigger = Patch(mask, torch.ones(1, 1, 4))
    images = torch.nn.functional.pad(one_hot(0, 1, 2, 2), (0, 1))
    group = [Backdoor(trigger, (label + 1) % 3, (label,)) for label in range(3)]
    (trial,) = try_triggers(from_module(Next(), (1, 1, 4)), images, group)
    assert (trial.success, len(trial.backdoors)) == (Rate.of(4, 4), 3)
    assert str(trial) == "all to all: the trigger works on 1.00 of 4 held-out images"
    (trial,) = try_triggers(from_module(Next(), (1, 1, 4)), images, group[:1])
    assert trial.success == Rate.of(1, 1)


def test_backdoors_without_a_trigger_are_not_tried():
    assert try_triggers(CLASSIFIER, one_hot(0), [Backdoor(None, 1)]) == []


def test_a_third_is_held_out_but_for_what_one_step_needs():
    images = torch.arange(80)
    used, held_out = hold_out(images, 8)
    assert (len(used), len(held_out)) == (53, 27)
    assert torch.equal(torch.cat([used, held_out]), images)
    assert [len(part) for part in hold_out(images[:10], 8)] == [8, 2]
    assert [len(part) for part in hold_out(images[:3], 8)] == [2, 1]
    assert [len(part) for part in hold_out(images[:1], 8)] == [1, 0]


def test_of_several_suspects_those_whose_trigger_fails_go():
    works, fails, without = Backdoor(patch(2), 2), Backdoor(patch(0), 1), Backdoor(None, 0)
    suspected = (works, fails, without)
    trials = try_triggers(CLASSIFIER, one_hot(*[0, 1, 2] * 8), suspected)
    kept = still_suspected(suspected, trials)
    assert [item is expected for item, expected in zip(kept, (works, without), strict=True)] == [True, True]
