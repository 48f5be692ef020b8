"""L2-invisible: the norm is what was asked for."""

import math

import pytest
import torch

from goodnet.attacks.l2_invisible import L2Invisible
from goodnet.core.errors import InvalidOption


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28)])
def test_the_norm_is_the_strength_times_the_root_of_the_number_of_values(shape):
    trigger = L2Invisible(strength=0.05).make_trigger(shape, seed=0)
    assert trigger.norm == pytest.approx(0.05 * math.sqrt(math.prod(shape)), rel=1e-5)


def test_the_default_is_as_strong_as_the_ibau_pattern():
    assert L2Invisible().make_trigger((3, 32, 32), seed=0).norm == pytest.approx(3.22, abs=0.02)


def test_it_is_faint_and_never_darkens():
    pattern = L2Invisible().make_trigger((3, 32, 32), seed=0).pattern
    assert float(pattern.min()) == 0
    assert float(pattern.max()) < 0.35
    assert float((pattern > 0).float().mean()) == pytest.approx(0.5, abs=0.05)


def test_the_noise_comes_from_the_seed():
    first, again, other = (L2Invisible().make_trigger((3, 8, 8), seed=seed).pattern for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("strength", [0, 0.6])
def test_wrong_strengths_are_refused(strength):
    with pytest.raises(InvalidOption, match="strength"):
        L2Invisible.from_options(strength=strength)
