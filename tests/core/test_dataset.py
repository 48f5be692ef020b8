"""Subsets, splits, samples, batches."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from goodnet.core.dataset import Dataset, as_unit_range
from goodnet.core.errors import UnreadableData, WrongShape


def numbered(count: int = 20, labelled: bool = True) -> Dataset:
    """Image i is all i, its label i % 3, its true label i % 5."""
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 2, 4), np.uint8)
    labels = np.arange(count)
    return Dataset.from_arrays(pixels, labels % 3 if labelled else None, name="n", true_labels=labels % 5)


def numbers(data: Dataset) -> list[int]:
    return (data.images()[:, 0, 0, 0] * 255).round().int().tolist()


def test_images_and_labels_belong_together_in_every_subset() -> None:
    data = numbered().subset([9, 3, 17, 3]).subset([2, 0, 3])
    assert numbers(data) == [17, 9, 3]
    assert data.targets.tolist() == [2, 0, 0]
    assert data.true_targets is not None
    assert data.true_targets.tolist() == [2, 4, 3]
    assert len(data) == 3
    batches = list(data.batches(2))
    assert [batch.labels.tolist() for batch in batches] == [[2, 0], [0]]
    assert torch.equal(torch.cat([batch.images for batch in batches]), data.images())


@pytest.mark.parametrize(("fraction", "count"), [(0.25, 5), (0.5, 10), (0.0, 1), (1.0, 19)])
def test_a_split_is_disjoint_complete_sorted_and_repeatable(fraction: float, count: int) -> None:
    data = numbered().subset(range(19, -1, -1))
    first, second = data.split(fraction, seed=3)
    assert len(first) == count
    assert sorted(numbers(first) + numbers(second)) == list(range(20))
    # In the order of the set that was split, which here runs backwards.
    assert all(a > b for part in (first, second) for a, b in pairwise(numbers(part)))
    assert numbers(data.split(fraction, seed=3)[0]) == numbers(first)
    assert numbers(numbered(200).split(0.5, seed=3)[0]) != numbers(numbered(200).split(0.5, seed=4)[0])


def test_a_sample_is_repeatable_and_has_no_repeats() -> None:
    data = numbered()
    drawn = numbers(data.sample(8, seed=1))
    assert len(set(drawn)) == 8
    assert drawn == sorted(drawn) == numbers(data.sample(8, seed=1))
    assert drawn != numbers(data.sample(8, seed=2))
    assert data.sample(20, seed=1) is data
    assert data.sample(99, seed=1) is data


@pytest.mark.parametrize(("size", "lengths"), [(64, [20]), (8, [8, 8, 4]), (20, [20]), (19, [19, 1])])
def test_batches(size: int, lengths: list[int]) -> None:
    batches = list(numbered().batches(size))
    assert [len(batch.images) for batch in batches] == lengths
    assert all(batch.images.dtype == torch.float32 and batch.labels.dtype == torch.int64 for batch in batches)


def test_unlabelled_batches_say_so() -> None:
    batch = next(numbered(labelled=False).batches())
    assert batch.labels.tolist() == [-1] * 20
    with pytest.raises(UnreadableData, match="n has no labels"):
        numbered(labelled=False).split(0.5, seed=0)[0].targets  # noqa: B018


def test_in_memory_keeps_bytes_and_forgets_the_rest() -> None:
    data = numbered().subset([4, 2]).in_memory()
    assert data.source.shape == (2, 3, 2, 4)
    assert data.source.read(np.array([0])).dtype == np.uint8
    assert (numbers(data), data.targets.tolist()) == ([4, 2], [1, 2])
    assert data.true_targets is not None
    assert data.true_targets.tolist() == [4, 2]


def test_bytes_and_floats_become_floats_in_the_unit_range() -> None:
    pixels = np.array([[0, 51, 255]], np.uint8)
    assert as_unit_range(pixels).tolist() == [[0.0, pytest.approx(0.2), 1.0]]
    floats = np.array([[0.0, 0.2, 1.0]], np.float32)
    assert as_unit_range(floats).tolist() == [[0.0, pytest.approx(0.2), 1.0]]


def test_sets_that_make_no_sense() -> None:
    with pytest.raises(UnreadableData, match="n: expected at least one image"):
        numbered().subset([])
    with pytest.raises(WrongShape, match="n: 2 images but 3 labels"):
        Dataset.from_arrays(np.zeros((2, 1, 2, 2), np.uint8), [0, 1, 2], name="n")
    with pytest.raises(UnreadableData, match="at least 2 images to split, got 1"):
        numbered(1).split(0.5, seed=0)


def test_labels_that_came_with_the_data_are_told_from_answers_in_every_subset() -> None:
    data = replace(numbered(6), known=np.array([True, False, True, True, False, False]))
    part = data.subset([5, 3, 2, 1])
    assert part.known_targets.tolist() == [False, True, True, False]
    assert numbers(part.with_known_labels()) == [3, 2]
    assert part.in_memory().known_targets.tolist() == part.known_targets.tolist()
    assert numbered(3).known_targets.tolist() == [True, True, True]
    with pytest.raises(UnreadableData, match="at least one image"):
        data.subset([1, 4]).with_known_labels()


def test_the_canonical_order_hangs_on_the_images_alone():
    draws = np.random.default_rng(0)
    pixels, labels = draws.integers(0, 256, (40, 1, 2, 2), dtype=np.uint8), np.arange(40) // 10
    expected = Dataset.from_arrays(pixels, labels).in_canonical_order()
    assert sorted(expected.positions) == list(range(40))
    assert len(set(np.diff(expected.targets))) > 2, "sorted by class is what it must not be"
    for _ in range(5):
        order = draws.permutation(40)
        again = Dataset.from_arrays(pixels[order], labels[order]).in_canonical_order()
        assert np.array_equal(again.images().numpy(), expected.images().numpy())
        assert np.array_equal(again.targets, expected.targets)
        part, same = again.sample(7, seed=3), expected.sample(7, seed=3)
        assert np.array_equal(part.images().numpy(), same.images().numpy())


def test_what_is_in_canonical_order_is_not_read_again():
    data = Dataset.from_arrays(np.arange(12, dtype=np.uint8).reshape(3, 1, 2, 2)).in_canonical_order()
    assert data.in_canonical_order() is data
    assert data.subset([0, 2]).canonical
    assert not data.subset([2, 0]).canonical
    assert data.sample(2, seed=0).canonical


def test_the_canonical_order_is_the_same_however_pixels_are_stored_and_labelled():
    pixels = np.random.default_rng(0).integers(0, 256, (30, 1, 2, 2), dtype=np.uint8)
    stored = [
        Dataset.from_arrays(pixels, np.arange(30)),
        Dataset.from_arrays(pixels),
        Dataset.from_arrays((pixels / np.float32(255)).astype(np.float32)),
    ]
    orders = [data.in_canonical_order().positions.tolist() for data in stored]
    assert orders[0] == orders[1] == orders[2]


def test_equal_images_with_other_labels_have_an_order_too():
    pixels = np.zeros((4, 1, 2, 2), np.uint8)
    labels = np.array([3, 1, 2, 1])
    orders = [
        Dataset.from_arrays(pixels, labels[order]).in_canonical_order().targets
        for order in ([0, 1, 2, 3], [3, 2, 1, 0])
    ]
    assert np.array_equal(*orders)
