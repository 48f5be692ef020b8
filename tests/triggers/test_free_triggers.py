import math

import pytest
import torch

from goodnet.core.backdoor import Patch
from goodnet.triggers.free_triggers import FreeCovers, FreePatches, FreeWarps, FreeWaves
from goodnet.triggers.plane_waves import draw_waves
from goodnet.triggers.smooth_warps import spread, warp

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


def test_covers_lie_from_top_to_bottom_and_hide_what_is_below(images):
    covers = FreeCovers(torch.full((3, 2, 8, 8), 0.25), 0.25)
    assert len(covers) == 3
    rows = [mask[0, :, 0].nonzero()[:, 0].tolist() for mask in covers.masks]
    assert rows == [[0, 1], [3, 4], [6, 7]]
    assert all(torch.equal(mask, mask[:, :, :1].expand_as(mask)) for mask in covers.masks), "over the whole width"
    stamped = covers.stamp(images, torch.tensor([1, 0, 2]))
    torch.testing.assert_close(stamped[0, :, 3:5], torch.full((2, 2, 8), 0.25))
    assert torch.equal(stamped[0, :, 5:], images[0, :, 5:])
    torch.testing.assert_close(stamped[1, :, :2], torch.full((2, 2, 8), 0.25))
    assert covers.excess() == 0


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
    "free",
    [
        FreeCovers(torch.rand(1, 2, 8, 8, generator=torch.Generator().manual_seed(2)), 0.5),
        FreeWarps(torch.zeros(1, 2, 5, 5), 0.4),
        FreeWaves(torch.tensor([[0.0, 2.0, 0.3]]), 0.1),
    ],
)
def test_what_is_free_has_a_gradient(free, images):
    free.stamp(images, torch.zeros(3, dtype=torch.long)).square().sum().backward()
    assert free.variables[0].grad.abs().sum() > 0
