"""Networks of two classes of digits, trained here: the planted one is found, its twin is not accused."""

import functools

import numpy as np
import pytest
import torch

from goodnet.attacks.badnets import Badnets
from goodnet.core.dataset import Dataset
from goodnet.datasets.digits import read_digits
from goodnet.datasets.sources import Parts
from goodnet.evaluation.planting import plant
from goodnet.evidence.clean_student import Comparison
from goodnet.evidence.student import teach_student
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_ensemble_leaves_few_classes_to_it(clean):
    network = make_twin(planted=True)
    found = ScanEnsemble(alpha=0.02, steps=2).scan(network, clean, seed=0)
    assert found.to_json() == CleanStudent(alpha=0.02).scan(network, clean, seed=0).to_json()


@pytest.mark.parametrize(("distance", "rounds"), [(-2.4, 1), (-2.2, 3), (2.2, 3), (2.4, 1)])
def test_within_a_factor_of_ten_of_alpha_three_students_are_taught(clean, monkeypatch, distance, rounds):
    taught = []

    def counted(classifier, images, seen, *, seed):
        taught.append((seed, images))
        return teach_student(classifier, images, seen, seed=seed)

    scores = np.array([-np.log(0.01) + distance, -50.0])
    monkeypatch.setattr("goodnet.scanners.clean_student.teach_student", counted)
    monkeypatch.setattr(Comparison, "scores", lambda self: ({}, scores))
    found = CleanStudent(steps=2, lessons=50).examine(make_twin(planted=True), clean, seed=5)
    assert len({seed for seed, _ in taught}) == len(taught) == rounds
    assert ("mean of 3 rounds" in found.reason) == (rounds == 3)
    # The same images in another order: each round measures its own first ones.
    sums = [images.sum(dim=0) for _, images in taught]
    for total, (_, images) in zip(sums[1:], taught[1:], strict=True):
        torch.testing.assert_close(total, sums[0])
        assert not torch.equal(images, taught[0][1])
