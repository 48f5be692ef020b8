import math

import numpy as np
import pytest
import torch

from goodnet.core.dataset import Dataset
from goodnet.scanners.class_pairs import ClassPairs
from goodnet.triggers.inversion import classes_of
from tests.quadrant_networks import BACKDOORED, CLEAN, SOURCE, TARGET, draw_quadrants


@pytest.fixture(scope="module")
def images():
    pixels = draw_quadrants(200)
    return Dataset.from_arrays(pixels.numpy(), np.arange(200) % 4)


def test_the_planted_pair_is_found_with_a_trigger_that_works_and_leaves_the_others_alone(images):
    found = ClassPairs().scan(BACKDOORED, images, seed=0)
    assert found.verdict == "backdoored"
    (backdoor,) = found.suspected
    assert (backdoor.target, backdoor.sources, backdoor.name) == (TARGET, (SOURCE,), "class_pairs")
    assert max(found.scores) == found.scores[TARGET] > found.threshold == pytest.approx(-math.log(0.05))
    further = draw_quadrants(200, seed=1)
    before, after = classes_of(BACKDOORED, further), classes_of(BACKDOORED, backdoor.trigger(further))
    assert (after[before == SOURCE] == TARGET).float().mean() > 0.7
    assert (after[before != SOURCE] == before[before != SOURCE]).float().mean() > 0.9
    assert found.reason.startswith("smallest triggers beside the student: 1 to 2 ")
    assert found.name_targets() == "target 2 (from 1)"


def test_of_the_clean_twin_nothing_is_said(images):
    found = ClassPairs().scan(CLEAN, images, seed=0)
    assert (found.verdict, found.suspected) == ("inconclusive", ())


def test_few_images_and_little_time_are_said(images):
    few = ClassPairs().examine(BACKDOORED, images.subset(range(50)), seed=0)
    late = ClassPairs().examine(BACKDOORED, images, seed=0, run_parts=lambda *given: [None] * len(given[3]))
    assert (few.verdict, late.verdict) == ("inconclusive", "inconclusive")
    assert "that takes 60 clean images" in few.reason
    assert "the time was up" in late.reason
    assert np.isnan(few.scores).all()
    assert torch.tensor(late.scores).isnan().all()
