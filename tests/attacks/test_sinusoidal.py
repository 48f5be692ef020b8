"""SIG: the wave."""

import math

import pytest
import torch

from goodnet.attacks.sinusoidal import Sinusoidal
from goodnet.core.errors import InvalidOption, WrongShape


def test_every_column_is_raised_by_the_sine_at_its_place():
    trigger = Sinusoidal(delta=0.1, frequency=2).make_trigger((3, 4, 16), seed=0)
    changed = trigger(torch.full((1, 3, 4, 16), 0.5))[0]
    for channel in range(3):
        for row in range(4):
            expected = [0.5 + 0.1 * math.sin(2 * math.pi * (j + 1) * 2 / 16) for j in range(16)]
            assert changed[channel, row].tolist() == pytest.approx(expected, abs=1e-6)


def test_stripes_can_lie():
    standing = Sinusoidal().make_trigger((1, 8, 8), seed=0).pattern
    lying = Sinusoidal(stripes="horizontal").make_trigger((1, 8, 8), seed=0).pattern
    assert torch.equal(lying, standing.transpose(1, 2))


def test_the_default_is_20_of_255_and_six_waves():
    pattern = Sinusoidal().make_trigger((3, 32, 24), seed=0).pattern
    assert float(pattern.max()) == pytest.approx(20 / 255)
    assert int(((pattern[0, 0, 1:] > 1e-6) & (pattern[0, 0, :-1] <= 1e-6)).sum()) + 1 == 6


def test_the_result_stays_in_range():
    trigger = Sinusoidal(delta=0.5).make_trigger((1, 4, 16), seed=0)
    changed = trigger(torch.cat([torch.zeros(1, 1, 4, 16), torch.ones(1, 1, 4, 16)]))
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1


def test_images_of_another_shape_are_refused():
    with pytest.raises(WrongShape, match=r"made for images \(1, 4, 16\)"):
        Sinusoidal().make_trigger((1, 4, 16), seed=0)(torch.zeros(1, 3, 4, 16))


@pytest.mark.parametrize("options", [{"delta": 0}, {"delta": 2}, {"frequency": -1}, {"stripes": "diagonal"}])
def test_wrong_options_are_refused(options):
    with pytest.raises(InvalidOption, match=next(iter(options))):
        Sinusoidal.from_options(**options)
