"""Stamping a patch."""

import pytest
import torch

from goodnet.core.backdoor import Patch, Trigger
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
