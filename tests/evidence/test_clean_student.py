"""A student learns the predictions and nothing else; what is measured of a class, and the p-value that comes of it."""

import math

import numpy as np
import pytest
import torch

from goodnet.evidence import clean_student
from goodnet.evidence.clean_student import (
    BLEND,
    SINGLE,
    SIZE,
    Comparison,
    average,
    compare_with_student,
    measure_gains,
    measure_singles,
)
from goodnet.evidence.student import teach_student
from goodnet.triggers.inversion import Inversions, Schedule
from tests.evidence.halves import BACKDOORED, CLEAN, IMAGES

SHORT = Schedule(steps=30, images=4)


def test_the_backdoor_shows_in_the_size_of_its_trigger_in_no_other_class_and_not_in_the_twin():
    found = {}
    for name, network in (("backdoored", BACKDOORED), ("clean", CLEAN)):
        student = teach_student(network, IMAGES, 500, seed=0)
        found[name] = compare_with_student(network, student, IMAGES, Schedule(steps=80, images=8), seed=0)
    sizes = {name: 64 / np.exp(item.values[SIZE]) for name, item in found.items()}
    assert sizes["backdoored"][1] < 3
    assert sizes["clean"].min() > 4
    # A lead of one class over the other is the other's lag.
    for item in found.values():
        assert item.values[BLEND].sum() == pytest.approx(0, abs=1e-5)
        assert list(item.values) == [SIZE, SINGLE, BLEND]


def test_a_blend_gains_what_the_network_gives_it():
    # Class 0 leads by 20 * 0.3 on its own images; one faint image of 0.1 moves the difference of the halves by at most 0.1 and
    # takes 0.1 of what there was.
    gains = measure_gains(CLEAN, IMAGES, seed=0)
    assert (gains > 0.2).all()
    assert (gains < (20 * (0.1 + 0.1 * 0.3)) / (20 * 0.25)).all()


def test_classes_without_images_of_others_are_measured_on_what_there_is():
    lefts = IMAGES[::2]
    assert torch.isfinite(measure_singles(CLEAN, lefts, SHORT, seed=0)).all()


def test_what_there_was_no_time_for_is_not_a_number():
    def too_late(stage, function, common, parts, progress=None):
        return [None for _ in parts]

    found = compare_with_student(CLEAN, CLEAN, IMAGES, SHORT, seed=0, run_parts=too_late)
    deviations, nats = found.scores()
    assert np.isnan(nats).all()
    assert np.isnan(deviations[SIZE]).all()


def test_the_p_value_is_that_of_students_distribution(monkeypatch):
    monkeypatch.setattr(clean_student, "USUAL", {SIZE: (1.0, 0.5), SINGLE: (0.0, 2.0), BLEND: (0.0, 1.0)})
    monkeypatch.setattr(clean_student, "HIGHEST", (1.0, 2.0))
    monkeypatch.setattr(clean_student, "NETWORKS", 3)
    values = {SIZE: np.array([1.0, 2.0]), SINGLE: np.array([0.0, 4.0]), BLEND: np.array([1.0, 3.0])}
    nothing = Inversions((), torch.zeros(0, 1, 8, 8), torch.zeros(0, 1, 8, 8), torch.zeros(0), torch.zeros(0).bool())
    deviations, scores = Comparison(values, nothing).scores()
    assert deviations[SIZE].tolist() == [0, 2]
    assert deviations[SINGLE].tolist() == [0, 2]
    # The sums are 1 and 7: 0 and 3 deviations from the usual highest, each of which is wider by sqrt(1 + 1/3) for one network
    # more. With two degrees of freedom the upper tail of Student's t is 1/2 - t / (2 sqrt(2 + t^2)).
    t = 3 / math.sqrt(4 / 3)
    assert scores[0] == pytest.approx(math.log(2))
    assert scores[1] == pytest.approx(-math.log(0.5 - t / (2 * math.sqrt(2 + t**2))))


def test_the_mean_of_several_rounds_has_their_smallest_triggers():
    def compared(value, size):
        masks = torch.full((1, 1, 8, 8), size / 64)
        found = Inversions((0,), masks, torch.zeros(1, 1, 8, 8), torch.tensor([size]), torch.tensor([True]))
        return Comparison({SIZE: np.array([value])}, found)

    found = average([compared(1.0, 5.0), compared(4.0, 3.0), compared(1.0, 9.0)])
    assert found.values[SIZE].tolist() == [2.0]
    assert found.triggers.sizes.tolist() == [3.0]
