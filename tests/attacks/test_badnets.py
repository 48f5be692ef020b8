"""BadNets: which pixels change, and to what."""

import numpy as np
import pytest
import torch

from goodnet.attacks.badnets import Badnets, draw_outline
from goodnet.core.dataset import Dataset
from goodnet.core.errors import InvalidOption

SHAPE = (3, 32, 32)


def stamp(image_shape=SHAPE, **options):
    """Return a black image with the trigger on it."""
    return Badnets.from_options(**options).make_trigger(image_shape, seed=0)(torch.zeros(1, *image_shape))[0]


@pytest.mark.parametrize(
    ("place", "rows", "columns"),
    [
        ("bottom_right", (28, 31), (28, 31)),
        ("top_left", (1, 4), (1, 4)),
        ("top_right", (1, 4), (28, 31)),
        ("bottom_left", (28, 31), (1, 4)),
        ("center", (14, 17), (14, 17)),
        ("20,3", (3, 6), (20, 23)),
    ],
)
def test_a_square_of_three_pixels_is_white_in_its_place_and_nowhere_else(place, rows, columns):
    expected = torch.zeros(SHAPE)
    expected[:, rows[0] : rows[1], columns[0] : columns[1]] = 1
    assert torch.equal(stamp(place=place), expected)


def test_the_trigger_of_the_ibau_checkpoint_is_rows_and_columns_27_to_30():
    lit = stamp(size=4)[0].nonzero()
    assert lit.min(0).values.tolist() == [27, 27]
    assert lit.max(0).values.tolist() == [30, 30]


def test_opacity_mixes_the_colour_with_the_image():
    trigger = Badnets(opacity=0.25, colour="#ff0000").make_trigger(SHAPE, seed=0)
    pixel = trigger(torch.full((1, *SHAPE), 0.4))[0, :, 29, 29]
    assert pixel == pytest.approx([0.75 * 0.4 + 0.25, 0.75 * 0.4, 0.75 * 0.4])


def test_a_checkerboard_has_two_colours():
    patch = stamp(shape="checkerboard", colour="red", second_colour="blue", place="0,0")[:, :3, :3]
    red, blue = [1, 0, 0], [0, 0, 1]
    rows = patch.permute(1, 2, 0).tolist()
    assert rows == [[red, blue, red], [blue, red, blue], [red, blue, red]]


def test_grey_images_take_the_colours_brightness():
    assert float(stamp((1, 28, 28), colour="#00ff00").max()) == pytest.approx(0.587)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("square", ["111", "111", "111"]),
        ("cross", ["101", "010", "101"]),
        ("plus", ["010", "111", "010"]),
        ("frame", ["111", "101", "111"]),
        ("triangle", ["001", "011", "111"]),
        ("circle", ["111", "111", "111"]),
    ],
)
def test_shapes_of_three_pixels(shape, expected):
    drawn = ["".join(str(int(value)) for value in row) for row in draw_outline(shape, 3).tolist()]
    assert drawn == expected


def test_a_large_circle_has_no_corners_and_about_the_area_of_a_disc():
    circle = draw_outline("circle", 20)
    assert circle[0, 0] == 0
    assert float(circle.sum()) == pytest.approx(np.pi * 100, rel=0.05)


def test_a_random_place_is_drawn_from_the_seed_and_lies_inside():
    attack = Badnets(place="random", size=5)
    places = {tuple(attack.make_trigger(SHAPE, seed=seed).mask.nonzero()[0].tolist()) for seed in range(40)}
    assert len(places) > 30
    assert all(attack.make_trigger(SHAPE, seed=seed).size == 25 for seed in range(40))
    assert torch.equal(attack.make_trigger(SHAPE, seed=3).mask, attack.make_trigger(SHAPE, seed=3).mask)


def test_poisoned_images_carry_the_patch_and_all_others_stay_as_they_are():
    images = np.random.default_rng(0).integers(0, 255, (50, *SHAPE), dtype=np.uint8)
    dataset = Dataset.from_arrays(images, np.arange(50) % 5)
    poisoned = Badnets(target=2, rate=0.2).poison(dataset, seed=1)
    pixels = poisoned.dataset.source.read(np.arange(50))
    chosen = list(poisoned.poisoned_positions)
    others = sorted(set(range(50)) - set(chosen))
    assert (pixels[chosen][:, :, 28:31, 28:31] == 255).all()
    assert (pixels[others] == images[others]).all()
    pixels = pixels.copy()
    pixels[chosen, :, 28:31, 28:31] = images[chosen, :, 28:31, 28:31]
    assert (pixels == images).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 33}, "does not fit images of 32 x 32"),
        ({"size": 32}, "margin of 1"),
        ({"place": "30,3"}, "x in 0..29"),
        ({"place": "3,31"}, "y in 0..29"),
    ],
)
def test_a_trigger_that_does_not_fit_is_refused(options, words):
    with pytest.raises(InvalidOption, match=words):
        Badnets.from_options(**options).make_trigger(SHAPE, seed=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"colour": "whitish"}, "expected a colour"),
        ({"place": "bottom"}, "bottom_right"),
        ({"place": "1,2,3"}, "x,y"),
        ({"shape": "star"}, "shape"),
        ({"size": 0}, "size"),
        ({"opacity": 0}, "opacity"),
        ({"sise": 3}, "sise"),
    ],
)
def test_wrong_options_are_one_line(options, words):
    with pytest.raises(InvalidOption, match=words) as caught:
        Badnets.from_options(**options)
    assert "\n" not in str(caught.value)
