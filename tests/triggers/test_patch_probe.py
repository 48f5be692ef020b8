"""Patches are slid over images; the one that moves most of them to a class is found with its place."""

import pytest
import torch
from torch import nn

from goodnet.formats.pytorch import from_module
from goodnet.triggers.patch_probe import (
    Probes,
    ProbeSchedule,
    _take_turns,
    measure_shares,
    moved_share,
    patterns_of,
    probe_patches,
    probe_shares,
)

SHAPE = (1, 8, 8)


class Corner(nn.Module):
    """Class 1 where the 2 x 2 pixels at row 4, column 2 are white and their surroundings are not, else class 0; never 2."""

    def forward(self, images):
        inside = images[:, 0, 4:6, 2:4].mean(dim=(1, 2))
        around = images[:, 0].mean(dim=(1, 2))
        on = ((inside > 0.9) & (around < 0.6)).float()
        return torch.stack([1 - on, on, on - 5], dim=1)


@pytest.fixture
def classifier():
    return from_module(Corner(), SHAPE)


@pytest.fixture
def images():
    return 0.3 * torch.rand(12, *SHAPE, generator=torch.Generator().manual_seed(0))


def test_patterns_are_the_corners_of_the_colour_cube_chequers_and_noise():
    coloured, grey = patterns_of(3, 4), patterns_of(1, 4)
    assert coloured.shape == (12, 3, 4, 4)
    assert grey.shape == (7, 1, 4, 4)
    assert len({tuple(pattern[:, 0, 0].tolist()) for pattern in coloured[:8]}) == 8
    assert torch.equal(coloured[:8].amin(dim=(2, 3)), coloured[:8].amax(dim=(2, 3)))
    assert torch.equal(coloured[8] + coloured[9], torch.ones(3, 4, 4))
    assert coloured[8][0, 0, :2].tolist() == [0.0, 1.0]
    assert torch.equal(patterns_of(3, 4), coloured), "the same in every process"


def test_the_patch_is_found_where_it_works(classifier, images):
    found = probe_patches(classifier, images, ProbeSchedule(sides=(2,), images=6, stride=2))
    assert (int(found.rows[1]), int(found.columns[1]), int(found.sides[1])) == (4, 2, 2)
    assert float(found.shares[1]) >= 1.0
    assert float(found.shares[2]) < 0.2
    patch = found.patch(classifier, 1)
    assert patch.mask.sum() == 4
    assert float(patch.mask[0, 4:6, 2:4].min()) == 1
    assert bool((classifier(patch(images)).argmax(dim=1) == 1).all())


def test_the_last_place_is_tried_whatever_the_stride(classifier, images):
    found = probe_patches(classifier, images, ProbeSchedule(sides=(2,), images=4, stride=5))
    assert float(found.shares[1]) < 0.2, "rows 0, 5, 6 and columns 0, 5, 6 do not cover the place"
    found = probe_patches(classifier, images, ProbeSchedule(sides=(2, 99), images=4, stride=1))
    assert float(found.shares[1]) >= 1.0


def test_images_of_the_class_itself_do_not_count(classifier, images):
    already = images.clone()
    already[:, :, 4:6, 2:4] = 1
    found = probe_patches(classifier, already, ProbeSchedule(sides=(2,), images=6))
    assert float(found.shares[1]) == 0.0


def test_shares_are_counted_on_other_images(classifier, images):
    probes = probe_patches(classifier, images[:4], ProbeSchedule(sides=(2,), images=4))
    shares = measure_shares(classifier, images[4:], probes)
    assert (shares.of(1), shares.of(2), shares.of(7)) == (1.0, 0.0, 0.0)
    assert shares.patch_of(1) == probes.patch(classifier, 1)


def test_without_time_nothing_is_known(classifier, images):
    nothing = probe_patches(
        classifier, images, ProbeSchedule(), run_parts=lambda stage, f, common, parts, p: [None] * len(parts)
    )
    assert isinstance(nothing, Probes)
    assert bool(torch.isnan(nothing.shares).all())
    assert not nothing.complete
    assert measure_shares(classifier, images, nothing).labels == ()


@pytest.mark.parametrize(
    ("size", "sides", "stride"),
    [
        ((28, 28), (3, 5), 2),
        ((55, 47), (3, 5), 2),
        ((64, 96), (6, 10), 4),
        ((224, 224), (21, 35), 14),
        ((4, 9), (3,), 2),
    ],
)
def test_patches_grow_with_the_images(size, sides, stride):
    scaled = ProbeSchedule().scaled_to(*size)
    assert (scaled.sides, scaled.stride) == (sides, stride)


def test_with_too_few_further_images_nothing_is_said(classifier, images):
    assert probe_shares(classifier, images[:11], ProbeSchedule(sides=(2,), images=6)).labels == ()
    assert probe_shares(classifier, images, ProbeSchedule(sides=(2,), images=6)).of(1) == 1.0


def test_each_class_counts_as_much_however_many_images_it_has():
    before = torch.tensor([0, 0, 0, 0, 0, 0, 1, 2, 2])
    after = torch.tensor([2, 2, 2, 2, 2, 2, 1, 2, 2])
    # All of class 0 and none of class 1: one half, not six sevenths.
    assert moved_share(before, after, 2) == 0.5
    assert moved_share(torch.tensor([2, 2]), torch.tensor([2, 2]), 2) == 0.0


def test_classes_take_turns():
    assert _take_turns(torch.tensor([0, 0, 0, 1, 0, 2, 1])).tolist() == [0, 3, 5, 1, 6, 2, 4]
