"""L0-invisible: the number of pixels is the norm."""

import pytest
import torch

from goodnet.attacks.l0_invisible import L0Invisible
from goodnet.core.errors import InvalidOption


@pytest.mark.parametrize("pixels", [1, 8, 100])
def test_so_many_pixels_change_by_the_strength(pixels):
    pattern = L0Invisible(pixels=pixels, strength=0.3).make_trigger((3, 10, 10), seed=0).pattern
    changed = (pattern != 0).any(0)
    assert int(changed.sum()) == pixels
    assert pattern[:, changed].abs().flatten().tolist() == pytest.approx([0.3] * 3 * pixels)


def test_the_result_stays_in_range():
    trigger = L0Invisible(pixels=50).make_trigger((3, 10, 10), seed=0)
    changed = trigger(torch.rand(4, 3, 10, 10))
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1


def test_places_come_from_the_seed():
    first, again, other = (L0Invisible().make_trigger((3, 32, 32), seed=seed).pattern for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_more_pixels_than_the_image_has_are_refused():
    with pytest.raises(InvalidOption, match="at most 100 pixels"):
        L0Invisible(pixels=101).make_trigger((3, 10, 10), seed=0)


@pytest.mark.parametrize("options", [{"pixels": 0}, {"strength": 0}, {"strength": 1.5}])
def test_wrong_options_are_refused(options):
    with pytest.raises(InvalidOption, match=next(iter(options))):
        L0Invisible.from_options(**options)
