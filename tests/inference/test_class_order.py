"""Folders 1, 2, 10 may be the classes of these numbers or of their places in order of name: the network tells."""

from dataclasses import replace

import numpy as np
import pytest

from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnreadableData
from goodnet.inference.class_order import choose_class_order, relabel


@pytest.fixture
def other(tiny_data) -> Dataset:
    """The same pictures, each class one further."""
    return replace(tiny_data, labels=(tiny_data.labels + 1) % 4)


def test_one_order_alone_is_taken_unseen(tiny_classifier, tiny_data):
    assert choose_class_order(tiny_classifier, tiny_data, None) is tiny_data


def test_the_numbers_stay_where_the_network_knows_them(tiny_classifier, tiny_data, other):
    assert choose_class_order(tiny_classifier, tiny_data, other) is tiny_data


def test_what_the_network_knows_far_better_is_taken_and_said(tiny_classifier, tiny_data, other):
    chosen = choose_class_order(tiny_classifier, other, tiny_data)
    assert np.array_equal(chosen.labels, tiny_data.labels)
    assert "in order of name" in chosen.notes[-1]
    assert "by their numbers in 0.0" in chosen.notes[-1]


def test_numbers_from_one_are_the_classes_from_zero(tiny_classifier, tiny_data, other):
    from_one = replace(tiny_data, labels=tiny_data.labels + 1, class_names=("", "1", "2", "3", "4"))
    chosen = choose_class_order(tiny_classifier, from_one, other)
    assert np.array_equal(chosen.labels, tiny_data.labels)
    assert chosen.class_names == ("1", "2", "3", "4")
    assert "from 0 on" in chosen.notes[-1]


def test_no_order_is_announced_that_the_network_does_not_know(tiny_classifier, tiny_data):
    draws = np.random.default_rng(0)
    random = [replace(tiny_data, labels=draws.integers(0, 4, len(tiny_data))) for _ in range(2)]
    assert choose_class_order(tiny_classifier, *random) is random[0]


def test_further_sets_follow_the_order_that_was_chosen(tiny_data):
    names = ("", "1", "2", "3", "4")
    by_number = replace(tiny_data, labels=tiny_data.labels + 1, class_names=names)
    chosen = replace(tiny_data, class_names=names[1:])
    poisoned = replace(by_number.subset(np.flatnonzero(by_number.labels == 3)).in_memory(), class_names=names)
    assert set(relabel(poisoned, by_number, chosen).labels) == {2}
    assert relabel(replace(poisoned, class_names=None), by_number, chosen).labels is poisoned.labels
    with pytest.raises(UnreadableData, match="class folders that the clean set has too"):
        relabel(replace(poisoned, labels=poisoned.labels + 5), by_number, chosen)
