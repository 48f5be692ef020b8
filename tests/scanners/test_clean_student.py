"""Networks of two classes of digits, trained here: the planted one is found, its twin is not accused."""

import functools

import numpy as np
import pytest

from goodnet.attacks.badnets import Badnets
from goodnet.core.dataset import Dataset
from goodnet.datasets.digits import read_digits
from goodnet.datasets.sources import Parts
from goodnet.evaluation.planting import plant
from goodnet.pipelines.scan_ensemble import ScanEnsemble
from goodnet.scanners.clean_student import CleanStudent
from goodnet.training import Training

TARGET = 1


@functools.cache
def read_two_digits():
    """Return 3 and 7, 16 x 16 pixels: 150 to train on, and twice a hundred."""
    digits = read_digits(16)
    chosen = digits.subset(np.flatnonzero(np.isin(digits.targets, (3, 7)))).in_memory()
    two = Dataset.from_arrays(chosen.source.pixels, np.searchsorted((3, 7), chosen.labels))
    half, train = two.split(0.58, seed=0)
    return Parts(train, *half.split(0.5, seed=0))


@functools.cache
def make_twin(*, planted):
    attack = Badnets(target=TARGET, rate=0.1, size=3) if planted else None
    made = plant(read_two_digits(), attack, "small_cnn", Training(epochs=20, batch_size=32), seed=0)
    return made.classifier


@pytest.fixture
def clean():
    return read_two_digits().validation


def test_the_planted_class_is_found_among_two(clean):
    found = CleanStudent().scan(make_twin(planted=True), clean, seed=0)
    assert (found.verdict, found.targets) == ("backdoored", (TARGET,))
    assert found.suspected[0].trigger is not None
    assert f"class {TARGET}, in standard deviations of clean networks: trigger size +" in found.reason


def test_its_twin_is_not_accused(clean):
    found = CleanStudent().scan(make_twin(planted=False), clean, seed=0)
    assert (found.verdict, found.suspected) == ("clean", ())


def test_few_images_are_no_ground_for_a_verdict(clean):
    found = CleanStudent(steps=2, lessons=50).scan(make_twin(planted=True), clean.sample(59, seed=0), seed=0)
    assert (found.verdict, found.suspected) == ("inconclusive", ())
    assert "only 59 clean images, at least 60 are needed to teach a student" in found.reason


def test_a_student_that_learns_nothing_is_no_ground_for_a_verdict(clean, monkeypatch):
    monkeypatch.setattr("goodnet.scanners.clean_student._LEAST_AGREEMENT", 1.1)
    found = CleanStudent(steps=2, lessons=50).scan(make_twin(planted=True), clean, seed=0)
    assert (found.verdict, found.suspected) == ("inconclusive", ())
    assert "too few to compare" in found.reason


def test_time_that_was_up_is_no_ground_for_a_verdict(clean):
    def too_late(stage, function, common, parts, progress=None):
        return [None for _ in parts]

    found = CleanStudent(lessons=50).scan(make_twin(planted=True), clean, seed=0, run_parts=too_late)
    assert (found.verdict, found.suspected, found.unscanned) == ("inconclusive", (), (0, 1))
    assert "the time was up" in found.reason


def test_the_ensemble_leaves_few_classes_to_it(clean):
    network = make_twin(planted=True)
    found = ScanEnsemble(alpha=0.02, steps=2).scan(network, clean, seed=0)
    assert found.to_json() == CleanStudent(alpha=0.02).scan(network, clean, seed=0).to_json()
