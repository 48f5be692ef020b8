"""Stamping a patch; which backdoors share one."""

import pytest
import torch

from goodnet.core.backdoor import Backdoor, Patch, Trigger, group_by_patch, targets_of
from goodnet.core.errors import WrongShape


def test_a_patch_mixes_image_and_pattern_by_its_mask() -> None:
    mask = torch.tensor([[[0.0, 1.0, 0.25]]])
    patch = Patch(mask, torch.tensor([[[0.9, 0.9, 0.9]], [[0.1, 0.1, 0.1]]]))
    images = torch.full((3, 2, 1, 3), 0.5)
    stamped = patch(images)
    expected = torch.tensor([[[0.5, 0.9, 0.6]], [[0.5, 0.1, 0.4]]])
    torch.testing.assert_close(stamped, expected.expand(3, 2, 1, 3))
    assert torch.equal(images, torch.full((3, 2, 1, 3), 0.5))
    assert patch.size == 1.25
    assert isinstance(patch, Trigger)


@pytest.mark.parametrize("shape", [(4, 4), (3, 4, 4), (1, 4, 5)])
def test_a_mask_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(WrongShape, match="a mask"):
        Patch(torch.zeros(shape), torch.zeros(3, 4, 4))


def test_backdoors_are_grouped_by_their_patch_in_the_order_they_come() -> None:
    white, grey = (Patch(torch.ones(1, 2, 2), torch.full((3, 2, 2), value)) for value in (1.0, 0.5))
    same = Patch(white.mask.clone(), white.pattern.clone())
    first, second, other = Backdoor(white, 1, (0,)), Backdoor(same, 0, (1,)), Backdoor(grey, 2)
    unseen, warp = Backdoor(None, 3), Backdoor(lambda images: images, 4)
    groups = group_by_patch([first, unseen, other, warp, second])
    assert [[item.target for item in opened] for _, opened in groups] == [[1, 0], [2]]
    assert [patch for patch, _ in groups] == [white, grey]
    assert group_by_patch([]) == []


def test_each_target_is_named_once_in_rising_order() -> None:
    assert targets_of([Backdoor(None, 7), Backdoor(None, 2, (1,)), Backdoor(None, 7, (4,))]) == (2, 7)
    assert targets_of([]) == ()
