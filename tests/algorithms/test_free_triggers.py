import math

import pytest
import torch

from goodnet.algorithms.free_triggers import FreePatches, FreeWarps, FreeWaves
from goodnet.algorithms.plane_waves import draw_waves
from goodnet.algorithms.smooth_warps import spread, warp
from goodnet.core.backdoor import Patch

CPU = torch.device("cpu")


@pytest.fixture
def images():
    return torch.rand(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))


def patch(opacity, colour):
    return Patch(torch.full((1, 8, 8), opacity), torch.full((2, 8, 8), colour))


def test_each_image_gets_the_patch_of_its_turn(images):
    patches = FreePatches([patch(0.5, 0.25), patch(0.1, 0.75)], [64.0, 64.0], CPU)
    stamped = patches.stamp(images, torch.tensor([1, 0, 1]))
    torch.testing.assert_close(stamped[0], 0.9 * images[0] + 0.075)
    torch.testing.assert_close(stamped[1], 0.5 * images[1] + 0.125)
    torch.testing.assert_close(stamped[2], 0.9 * images[2] + 0.075)


def test_patches_pay_for_what_is_above_their_limit():
    patches = FreePatches([patch(0.5, 0.5), patch(0.5, 0.5)], [22.0, 40.0], CPU)
    assert float(patches.excess().detach()) == pytest.approx(0.05 * (32 - 22))


def test_each_image_gets_the_warp_of_its_turn(images):
    fields = torch.randn(2, 2, 5, 5, generator=torch.Generator().manual_seed(1))
    warps = FreeWarps(fields, 0.4)
    expected = warp(images[:1], spread(fields[1:], 0.4, 8, 8))
    torch.testing.assert_close(warps.stamp(images, torch.tensor([1, 0, 0]))[:1], expected)
    assert len(warps) == 2


def test_each_image_gets_the_wave_of_its_turn_within_the_range(images):
    waves = torch.tensor([[0.0, 2.0, 0.0], [3.0, 0.0, math.pi / 2]])
    stamped = FreeWaves(waves, 0.3).stamp(images, torch.tensor([1, 0, 1]))
    torch.testing.assert_close(stamped[:1], (images[:1] + draw_waves(waves[1:], 0.3, 8, 8)).clamp(0, 1))
    assert stamped.min() >= 0
    assert stamped.max() <= 1


@pytest.mark.parametrize(
    "free", [FreeWarps(torch.zeros(1, 2, 5, 5), 0.4), FreeWaves(torch.tensor([[0.0, 2.0, 0.3]]), 0.1)]
)
def test_what_is_free_has_a_gradient(free, images):
    free.stamp(images, torch.zeros(3, dtype=torch.long)).square().sum().backward()
    assert free.variables[0].grad.abs().sum() > 0
