import math

import pytest
import torch
from torch import nn

from goodnet.attacks.sinusoidal import Sinusoidal
from goodnet.formats.pytorch import from_module
from goodnet.triggers.plane_waves import draw_waves, find_waves


def test_a_wave_is_what_its_formula_says():
    drawn = draw_waves(torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 0.0]]), 0.1, 4, 6)
    assert drawn.shape == (2, 1, 4, 6)
    assert float(drawn[0, 0, 3, 5]) == pytest.approx(0.1 * math.sin(2 * math.pi * (3 / 4 - 10 / 6) + 0.5), abs=1e-6)
    assert float(drawn[1, 0, 2, 1]) == pytest.approx(0.1 * math.sin(math.pi), abs=1e-6)


def sees(wave):
    """A network whose class 1 is how much of a wave there is in an image."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(256, 3))
    with torch.no_grad():
        module[1].weight.zero_()
        module[1].weight[1] = draw_waves(wave[None], 1.0, 16, 16).flatten()
        module[1].bias.copy_(torch.tensor([3.0, 0.0, -50.0]))
    return from_module(module, (1, 16, 16))


@pytest.mark.parametrize("wave", [(2.0, -5.0, 0.0), (0.0, 6.0, math.pi / 2), (7.0, 3.0, math.pi)])
def test_the_one_wave_that_a_network_sees_is_found(wave):
    wave = torch.tensor(wave)
    # 256 pixels of a wave of 0.05, seen by itself: 0.05 * 256 / 2 = 6.4, more than 3; no other comes near.
    waves, shares = find_waves(sees(wave), torch.full((12, 1, 16, 16), 0.5), [1, 2], 0.05)
    torch.testing.assert_close(waves[0], wave)
    assert shares.tolist() == [1.0, 0.0]


def test_images_that_are_there_already_do_not_count():
    network = sees(torch.tensor([0.0, 6.0, 0.0]))
    images = torch.full((12, 1, 16, 16), 0.5)
    images[::2] += draw_waves(torch.tensor([[0.0, 6.0, 0.0]]), 0.1, 16, 16)
    _, shares = find_waves(network, images, [1, 0], 0.01)
    assert shares.tolist() == [0.0, 0.0]
    assert find_waves(network, images[::2], [1], 0.01)[1].tolist() == [0.0]


def test_the_wave_of_a_sinusoidal_backdoor_is_found_and_none_in_the_clean_twin(waved, clean_twin):
    waves, shares = find_waves(waved.classifier, waved.clean.images(), [7, 1, 2, 3, 4], 0.1)
    trigger = Sinusoidal(frequency=5, delta=0.1).make_trigger((1, 16, 16), seed=0)
    assert waves[0, :2].tolist() == [0.0, 5.0]
    drawn, true = draw_waves(waves[:1], 0.1, 16, 16).flatten(), trigger(torch.full((1, 1, 16, 16), 0.5)).flatten() - 0.5
    # The nearest of four phases is at most 45 degrees away.
    assert float(torch.cosine_similarity(drawn, true, dim=0)) > 0.7
    assert shares[0] > 0.9
    assert shares[1:].max() < 0.5
    assert find_waves(clean_twin.classifier, clean_twin.clean.images(), range(10), 0.1)[1].max() < 0.5
