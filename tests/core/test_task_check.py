"""A network that does not do its task is told from one that does, with labels and without."""

import math

import numpy as np
import pytest
import torch

from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnreadableModel
from goodnet.core.results import Rate
from goodnet.core.task_check import find_fault, is_plausible, measure_contrast, measure_information, tells_apart


def test_a_trained_network_has_no_fault_with_labels_or_without(tiny_classifier, tiny_data):
    unlabelled = Dataset.from_arrays(tiny_data.source.pixels)
    assert find_fault(tiny_classifier, tiny_data) is None
    assert find_fault(tiny_classifier, unlabelled) is None


def test_labels_of_something_else_are_a_fault(tiny_classifier, tiny_data):
    foreign = Dataset.from_arrays(tiny_data.source.pixels, (tiny_data.targets + 1) % 4)
    fault = find_fault(tiny_classifier, foreign)
    assert fault.startswith("it does not do its task (accuracy 0.0")
    assert "of 4 classes on 120 clean images" in fault


def test_an_answer_that_never_changes_is_a_fault(tiny_classifier, tiny_data):
    with torch.no_grad():
        for parameter in tiny_classifier.network.parameters():
            parameter.zero_()
    assert "accuracy 0.2" in find_fault(tiny_classifier, tiny_data)
    unlabelled = Dataset.from_arrays(tiny_data.source.pixels)
    assert "it gives all of them the same class" in find_fault(tiny_classifier, unlabelled)


def test_outputs_that_are_not_finite_are_an_error(tiny_classifier, tiny_data):
    with torch.no_grad():
        next(tiny_classifier.network.parameters()).fill_(torch.nan)
    with pytest.raises(UnreadableModel, match="expected finite outputs"):
        find_fault(tiny_classifier, tiny_data)


@pytest.mark.parametrize(
    ("hits", "labels", "plausible"),
    [
        (30, np.arange(100) % 10, True),  # the low end of 30 of 100 is 0.219, above 0.1 + 0.1 * 0.9 = 0.19
        (25, np.arange(100) % 10, False),  # 0.175
        (72, np.repeat([0, 1], [70, 30]), False),  # naming the frequent class reaches 70 alone
        (95, np.repeat([0, 1], [70, 30]), True),
        (50, np.zeros(100, int), True),  # all labels alike: nothing is to be had by naming the frequent one
    ],
)
def test_plausible_is_what_guessing_does_not_reach(hits, labels, plausible):
    assert is_plausible(Rate.of(hits, 100), labels, 10) is plausible


def test_information_by_hand():
    sure = torch.full((4, 4), -1e4).fill_diagonal_(0.0)
    assert measure_information(sure) == pytest.approx(1.0)
    assert measure_information(torch.zeros(4, 4)) == pytest.approx(0.0)
    assert measure_information(sure[[0, 0, 0, 0]]) == pytest.approx(0.0)
    # Two of four classes, each sure: log 2 of log 4.
    assert measure_information(sure[[0, 1, 0, 1]]) == pytest.approx(0.5)
    # Predictions of probability 0.9 and 0.1, both ways: log 2 less the entropy of one prediction, of log 2.
    half = torch.tensor([[0.9, 0.1], [0.1, 0.9]]).log()
    entropy = -0.9 * math.log(0.9) - 0.1 * math.log(0.1)
    assert measure_information(half) == pytest.approx((math.log(2) - entropy) / math.log(2), rel=1e-5)


def test_contrast_by_hand():
    # Centred: (1, -1) and (-1, 1): nothing in common. (3, -3) and (1, -1): the mean is 2, the deviation 1.
    assert measure_contrast(torch.tensor([[2.0, 0.0], [0.0, 2.0]])) > 1e6
    assert measure_contrast(torch.tensor([[6.0, 0.0], [2.0, 0.0]])) == pytest.approx(1 / 4)
    assert measure_contrast(100 * torch.tensor([[6.0, 0.0], [2.0, 0.0]])) == pytest.approx(1 / 4), "scale says nothing"


def test_sure_answers_that_lean_to_the_same_classes_do_not_tell_images_apart():
    draws = torch.Generator().manual_seed(0)
    leaning = torch.tensor([30.0, 28.0, 26.0, 0.0, 0.0, 0.0]) + 3 * torch.randn(200, 6, generator=draws)
    assert measure_information(leaning) > 0.25
    assert not tells_apart(leaning)
    assert tells_apart(30 * torch.randn(200, 6, generator=draws))
