"""The trojan watermark: thin lines across the whole image."""

import pytest
import torch

from goodnet.attacks.trojan_watermark import TrojanWatermark
from goodnet.core.errors import InvalidOption


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 55, 47)])
def test_the_mark_spans_the_image_and_covers_little_of_it(shape):
    pattern = TrojanWatermark().make_trigger(shape, seed=0).pattern
    lit = (pattern > 0.02).any(0)
    rows, columns = lit.any(1).nonzero(), lit.any(0).nonzero()
    assert 0.05 < float(lit.float().mean()) < 0.35
    assert int(rows.max() - rows.min()) > 0.7 * shape[1]
    assert int(columns.max() - columns.min()) > 0.7 * shape[2]


def test_there_is_a_ring_with_a_hole_at_the_lower_right():
    pattern = TrojanWatermark().make_trigger((1, 100, 100), seed=0).pattern[0]
    assert float(pattern[66, 68]) == 0
    assert all(float(pattern[row, column]) > 0 for row, column in [(47, 68), (85, 68), (66, 49), (66, 87)])


def test_it_is_added_up_to_the_strength():
    trigger = TrojanWatermark(strength=0.5).make_trigger((3, 32, 32), seed=0)
    assert 0.3 < float(trigger.pattern.max()) <= 0.5
    assert torch.equal(trigger(torch.zeros(1, 3, 32, 32))[0], trigger.pattern)


def test_the_colours_come_from_the_seed():
    first, again, other = (TrojanWatermark().make_trigger((3, 32, 32), seed=seed).pattern for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("strength", [0, 1.1])
def test_wrong_strengths_are_refused(strength):
    with pytest.raises(InvalidOption, match="strength"):
        TrojanWatermark.from_options(strength=strength)
