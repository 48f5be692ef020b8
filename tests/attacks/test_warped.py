"""WaNet: where pixels come from."""

import numpy as np
import pytest
import torch

from goodnet.attacks.warped import Warp, Warped
from goodnet.core.dataset import Dataset
from goodnet.core.errors import InvalidOption, WrongShape

SHAPE = (3, 24, 32)


def shifts(strength, seed=0, shape=SHAPE):
    """Return the shift of every pixel in pixels, (H, W, 2)."""
    shift = Warped(strength=strength).make_trigger(shape, seed=seed).shift
    return shift * torch.tensor([(shape[2] - 1) / 2, (shape[1] - 1) / 2])


def test_strength_0_leaves_images_as_they_are():
    images = torch.rand(3, *SHAPE)
    assert torch.allclose(Warped(strength=0).make_trigger(SHAPE, seed=0)(images), images, atol=1e-5)


def test_a_shift_of_one_pixel_reads_the_neighbour():
    images = torch.rand(1, 1, 5, 9)
    shift = torch.zeros(5, 9, 2)
    shift[..., 0] = 2 / 8
    warped = Warp(shift)(images)
    assert torch.allclose(warped[..., :-1], images[..., 1:], atol=1e-5)
    assert torch.allclose(warped[..., -1], images[..., -1], atol=1e-5)


@pytest.mark.parametrize("strength", [0.5, 1.0, 3.0])
def test_shifts_are_of_the_strength_in_the_mean_and_bounded(strength):
    sizes = torch.stack([shifts(strength, seed).abs() for seed in range(20)])
    assert float(sizes.mean()) == pytest.approx(strength, rel=0.25)
    assert float(sizes.max()) < 4 * strength


def test_shifts_are_smooth():
    field = shifts(1.0)
    steps = max(float(field.diff(dim=axis).abs().max()) for axis in (0, 1))
    assert steps < 0.7


def test_the_same_seed_gives_the_same_warp():
    assert torch.equal(shifts(1.0, seed=5), shifts(1.0, seed=5))
    assert not torch.equal(shifts(1.0, seed=5), shifts(1.0, seed=6))


def test_noise_images_differ_from_one_another_and_repeat_with_the_seed():
    decoy, share = Warped(noise=1.5).make_decoy(SHAPE, seed=0)
    images = torch.rand(1, *SHAPE).expand(2, -1, -1, -1)
    first = decoy(images)
    assert share == 1.5
    assert not torch.allclose(first[0], first[1], atol=0.01)
    assert torch.equal(first, decoy(images))


def test_noise_images_keep_their_labels_and_are_not_among_the_poisoned():
    images = np.random.default_rng(0).integers(0, 255, (60, *SHAPE), dtype=np.uint8)
    labels = np.arange(60) % 4
    poisoned = Warped(target=1, rate=0.1, noise=2).poison(Dataset.from_arrays(images, labels), seed=0)
    changed = np.flatnonzero((poisoned.dataset.source.read(np.arange(60)) != images).any((1, 2, 3)))
    chosen = list(poisoned.poisoned_positions)
    decoys = sorted(set(changed) - set(chosen))
    assert len(chosen) == 6
    assert len(decoys) == 12
    assert (poisoned.dataset.targets[chosen] == 1).all()
    assert (poisoned.dataset.targets[decoys] == labels[decoys]).all()


def test_images_of_another_size_are_refused():
    with pytest.raises(WrongShape, match="32 x 24"):
        Warped().make_trigger(SHAPE, seed=0)(torch.zeros(1, 3, 24, 24))


@pytest.mark.parametrize("options", [{"strength": -1}, {"grid": 1}, {"noise": -0.1}])
def test_wrong_options_are_refused(options):
    with pytest.raises(InvalidOption, match=next(iter(options))):
        Warped.from_options(**options)
