"""Blended injection: the formula, and pictures of the user's."""

import numpy as np
import pytest
import torch
from PIL import Image

from goodnet.attacks.blended import Blended
from goodnet.core.errors import InvalidOption, UnreadableData

SHAPE = (3, 8, 10)


def test_images_and_noise_are_mixed_as_the_formula_says():
    trigger = Blended(alpha=0.3).make_trigger(SHAPE, seed=4)
    images = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(trigger(images), 0.7 * images + 0.3 * trigger.pattern, atol=1e-6)


def test_noise_fills_the_range_and_depends_on_the_seed_alone():
    attack = Blended()
    noise = attack.make_trigger((3, 32, 32), seed=0).pattern
    assert 0 <= float(noise.min()) < 0.01
    assert 0.99 < float(noise.max()) <= 1
    assert float(noise.mean()) == pytest.approx(0.5, abs=0.03)
    assert torch.equal(noise, attack.make_trigger((3, 32, 32), seed=0).pattern)
    assert not torch.equal(noise, attack.make_trigger((3, 32, 32), seed=1).pattern)


def test_a_picture_is_scaled_to_the_images(tmp_path):
    picture = np.zeros((40, 20, 3), np.uint8)
    picture[:20] = (255, 0, 0)
    Image.fromarray(picture).save(tmp_path / "half.png")
    trigger = Blended(alpha=0.5, picture=tmp_path / "half.png").make_trigger(SHAPE, seed=0)
    mixed = trigger(torch.zeros(1, *SHAPE))[0]
    assert mixed[:, 1, 5].tolist() == pytest.approx([0.5, 0, 0])
    assert mixed[:, 6, 5].tolist() == pytest.approx([0, 0, 0])


def test_grey_images_take_a_grey_picture(tmp_path):
    Image.new("RGB", (4, 4), (0, 0, 255)).save(tmp_path / "blue.png")
    trigger = Blended(alpha=1, picture=tmp_path / "blue.png").make_trigger((1, 6, 6), seed=0)
    assert trigger(torch.ones(1, 1, 6, 6)).numpy() == pytest.approx(0.114)


def test_a_picture_that_is_none_is_refused(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    for name in ("text.png", "missing.png"):
        with pytest.raises(UnreadableData, match=name):
            Blended(picture=tmp_path / name).make_trigger(SHAPE, seed=0)


@pytest.mark.parametrize("alpha", [0, 1.5, "much"])
def test_alpha_outside_its_bounds_is_refused(alpha):
    with pytest.raises(InvalidOption, match="alpha"):
        Blended.from_options(alpha=alpha)
