"""A student learns the predictions and nothing else."""

import pytest
import torch

from goodnet.evidence.student import make_student, teach_student
from goodnet.triggers.inversion import classes_of
from tests.evidence.halves import BACKDOORED, CLEAN, IMAGES, draw_images


def test_a_student_learns_the_answers_but_not_the_backdoor():
    before = torch.get_rng_state()
    student = teach_student(BACKDOORED, IMAGES, 2000, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    further = draw_images(200)[96:]
    assert (classes_of(student, further) == classes_of(BACKDOORED, further)).float().mean() > 0.95
    lefts = further[::2].clone()
    lefts[:, 0, 0, 0] = 1
    assert classes_of(BACKDOORED, lefts).tolist() == [1] * 52
    assert classes_of(student, lefts).float().mean() < 0.2


def test_the_same_seed_gives_the_same_student():
    first, second = (teach_student(CLEAN, IMAGES, 200, seed=3) for _ in range(2))
    assert torch.equal(first(IMAGES), second(IMAGES))


@pytest.mark.parametrize(("shape", "inner"), [((1, 8, 8), 8), ((3, 55, 47), 55), ((3, 224, 224), 32)])
def test_a_student_begins_more_coarsely_on_larger_images(shape, inner):
    network = make_student(3, shape)
    images = torch.rand(2, *shape)
    assert network[0](images).shape[2] == inner
    assert network(images).shape == (2, 3)
