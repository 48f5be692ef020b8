import torch
from torch import nn

from goodnet.attacks.warped import Warped
from goodnet.formats.pytorch import from_module
from goodnet.triggers.smooth_warps import invert_warps, spread, warp


def test_a_shift_of_one_pixel_reads_the_neighbour():
    images = torch.rand(2, 3, 6, 9)
    shifts = torch.zeros(2, 2, 6, 9)
    shifts[0, 0], shifts[1, 1] = 1.0, 1.0
    warped = warp(images, shifts)
    torch.testing.assert_close(warped[0, :, :, :-1], images[0, :, :, 1:])
    torch.testing.assert_close(warped[0, :, :, -1], images[0, :, :, -1])
    torch.testing.assert_close(warped[1, :, :-1], images[1, :, 1:])


def test_a_warp_is_what_the_attack_makes_of_the_same_field():
    coarse = torch.rand(1, 2, 4, 4, generator=torch.Generator().manual_seed(3)) * 2 - 1
    coarse = 1.5 * coarse / coarse.abs().mean()
    images, trigger = torch.rand(4, 3, 20, 24), Warped(strength=1.5).make_trigger((3, 20, 24), seed=3)
    shifts = spread(coarse, 100.0, 20, 24).expand(4, -1, -1, -1)
    torch.testing.assert_close(warp(images, shifts), trigger(images), atol=1e-5, rtol=0)


def test_large_fields_are_scaled_to_their_size_and_small_ones_stay():
    fields = torch.stack([torch.full((2, 5, 5), 3.0), torch.full((2, 5, 5), -0.2)])
    shifts = spread(fields, 0.5, 16, 16)
    torch.testing.assert_close(shifts[0], torch.full((2, 16, 16), 0.5))
    torch.testing.assert_close(shifts[1], torch.full((2, 16, 16), -0.2))
    assert torch.equal(spread(torch.zeros(1, 2, 5, 5), 0.5, 16, 16), torch.zeros(1, 2, 16, 16))


def test_a_linear_network_is_warped_the_way_that_its_weights_say():
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with torch.no_grad():
        # A ramp from left to right in steps of 0.1, read at its fourth column: 0.3, and 0.1 more for each pixel.
        module[1].weight.zero_()
        module[1].weight[1].view(8, 8)[4, 3] = 10.0
        module[1].bias.copy_(torch.tensor([3.5, 0.0, -9.0]))
    images = (torch.arange(8) / 10).expand(8, 1, 8, 8).contiguous()
    linear = from_module(module, (1, 8, 8))
    fields, shares = invert_warps(linear, images, [1, 2, 0], 1.0, seed=0)
    assert spread(fields[:1], 1.0, 8, 8)[0, 0, 4, 3] > 0.5
    # Nothing reaches class 2, and class 0 is where all images are.
    assert shares.tolist() == [1.0, 0.0, 0.0]
    assert invert_warps(linear, images, [1], 0.01, seed=0)[1].tolist() == [0.0]


def test_a_class_gets_the_same_field_whatever_others_are_asked_for(planted):
    images = planted.clean.images()[:40]
    alone, _ = invert_warps(planted.classifier, images, [7], 0.5, seed=0)
    among, _ = invert_warps(planted.classifier, images, [1, 7, 3], 0.5, seed=0)
    torch.testing.assert_close(alone[0], among[1], atol=1e-3, rtol=0)
    other, _ = invert_warps(planted.classifier, images, [7], 0.5, seed=50)
    assert not torch.allclose(alone, other)


def test_a_warped_network_is_warped_to_its_target_and_its_clean_twin_is_not(warped, clean_twin):
    for twin, reached in ((warped, True), (clean_twin, False)):
        _, shares = invert_warps(twin.classifier, twin.clean.sample(40, seed=0).images(), range(10), 0.4, seed=0)
        assert bool(shares[7] > 0.7) is reached
        assert shares[:7].max() < 0.6
