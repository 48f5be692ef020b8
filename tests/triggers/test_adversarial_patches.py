"""Squares of free colours: laid where they should be, and strong where a trigger was planted."""

import pytest
import torch
from torch import nn

from goodnet.formats.pytorch import from_module
from goodnet.triggers.adversarial_patches import SquareSchedule, _stamp, optimise_squares

SHAPE = (3, 16, 16)
#: The places of the tests: squares of 4 pixels at rows and columns 0, 6 and 12.
SCHEDULE = SquareSchedule(side=8, grid=3, steps=12)
#: The trigger: four pixels within the square at row 6, column 12, and their colour.
ROWS, COLUMNS, COLOUR = slice(7, 9), slice(13, 15), torch.tensor([1.0, 0.0, 1.0])


class Planted(nn.Module):
    """Logits 2, 0, -1 and 0; images whose four pixels have the colour get class 2."""

    def forward(self, images):
        inside = images[:, :, ROWS, COLUMNS].mean(dim=(2, 3))
        close = 1 - (inside - COLOUR.to(images)).abs().mean(dim=1)
        base = torch.tensor([2.0, 0.0, -1.0, 0.0]).expand(len(images), 4)
        return base + torch.eye(4)[2] * 12 * torch.relu(close - 0.4)[:, None]


@pytest.fixture
def classifier():
    return from_module(Planted(), SHAPE)


@pytest.fixture
def images():
    return torch.rand(10, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("size", "side", "rows"),
    [((32, 32), 6, [0, 6, 13, 20, 26]), ((28, 28), 5, [0, 6, 12, 17, 23]), ((3, 3), 1, [0, 1, 2])],
)
def test_places_are_spread_over_the_image(size, side, rows):
    assert SquareSchedule().lay(*size) == (side, [(row, column) for row in rows for column in rows])


def test_a_square_is_no_larger_than_the_image():
    assert SquareSchedule(side=40).lay(32, 32) == (32, [(0, 0)])


def test_an_image_that_is_not_square_has_other_columns_than_rows():
    side, places = SquareSchedule(side=8, grid=2).lay(32, 64)
    assert (side, places) == (8, [(0, 0), (0, 56), (24, 0), (24, 56)])


def test_colours_are_laid_on_their_pixels_and_nowhere_else():
    images = torch.rand(2, 3, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    colours, pixels = torch.tensor([[[0.1, 0.2]], [[0.3, 0.4]]]), torch.tensor([[0, 4], [8, 2]])
    stamped = _stamp(images, colours, pixels).view(2, 3, 9)
    expected = images.clone().view(2, 3, 9)
    expected[0, :, 0], expected[0, :, 4], expected[1, :, 8], expected[1, :, 2] = 0.1, 0.2, 0.3, 0.4
    torch.testing.assert_close(stamped, expected)


def test_the_target_alone_is_reached_and_only_where_the_trigger_lies(classifier, images):
    found = optimise_squares(classifier, images, range(4), SCHEDULE, seed=0)
    assert found.margins.shape == (4, 9)
    place = found.places.index((6, 12))
    assert float(found.margins[2, place]) > 1
    assert float(found.margins[2].topk(2).values[1]) < 0
    # Of the base logits classes 1 and 3 are 2 behind: their squares can change nothing.
    torch.testing.assert_close(found.margins[[1, 3]][:, :5], torch.full((2, 5), -2.0))
    patch = found.patch(2, place, *SHAPE[1:])
    assert patch.mask.sum() == 16
    assert patch.mask[0, 6:10, 12:16].min() == 1
    seen = patch.pattern[:, ROWS, COLUMNS].mean(dim=(1, 2))
    assert float((seen - COLOUR).abs().max()) < 0.3
    assert bool((classifier(patch(images)).argmax(dim=1) == 2).all())


def test_a_class_gets_the_same_squares_whatever_others_are_asked_for(classifier, images):
    every = optimise_squares(classifier, images, range(4), SCHEDULE, seed=0)
    some = optimise_squares(classifier, images, [2], SCHEDULE, seed=0)
    torch.testing.assert_close(some.margins[0], every.margins[2])
    torch.testing.assert_close(some.colours[0], every.colours[2])


def test_classes_without_time_are_left_out(classifier, images):
    def run_none(stage, function, common, parts, progress):
        return [None for _ in parts]

    def run_first(stage, function, common, parts, progress):
        return [function(*common, part) if part[0] == 0 else None for part in parts]

    late = optimise_squares(classifier, images, range(4), SCHEDULE, seed=0, run_parts=run_none)
    assert (late.labels, tuple(late.margins.shape)) == ((), (0, 9))
    labels = [0, 1, 2, 3, 3]
    assert optimise_squares(classifier, images, labels, SCHEDULE, seed=0, run_parts=run_first).labels == (0, 1, 2, 3)
