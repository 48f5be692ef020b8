"""The trojan square: where it lies and that it adds."""

import pytest
import torch

from goodnet.attacks.trojan_square import TrojanSquare
from goodnet.core.errors import InvalidOption

SHAPE = (3, 32, 32)


def test_only_the_square_changes_and_it_is_added_to():
    trigger = TrojanSquare().make_trigger(SHAPE, seed=0)
    images = torch.full((1, *SHAPE), 0.25)
    changed = trigger(images)[0]
    square = changed[:, 24:31, 24:31]
    assert torch.allclose(square, (0.25 + trigger.pattern[:, 24:31, 24:31]).clamp(max=1))
    changed[:, 24:31, 24:31] = 0.25
    assert torch.equal(changed, images[0])


def test_values_are_nothing_or_vivid_and_at_most_the_strength():
    values = TrojanSquare(strength=0.6, size=20).make_trigger(SHAPE, seed=1).pattern[:, 11:31, 11:31]
    lit = values[values > 0]
    assert 0.5 < len(lit) / values.numel() < 0.7
    assert float(lit.min()) >= 0.3
    assert float(lit.max()) <= 0.6


def test_the_colours_come_from_the_seed():
    first, again, other = (TrojanSquare().make_trigger(SHAPE, seed=seed).pattern for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_square_larger_than_the_image_is_refused():
    with pytest.raises(InvalidOption, match="does not fit"):
        TrojanSquare(size=32).make_trigger(SHAPE, seed=0)


@pytest.mark.parametrize("options", [{"strength": 0}, {"size": 0}, {"place": "middle"}, {"margin": -1}])
def test_wrong_options_are_refused(options):
    with pytest.raises(InvalidOption, match=next(iter(options))):
        TrojanSquare.from_options(**options)
