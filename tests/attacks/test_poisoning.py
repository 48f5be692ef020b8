"""Poisoning: which images, which labels, what the test set holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from goodnet.attacks.poisoning import TriggerAttack, count_classes, poisoned_test_set
from goodnet.core.backdoor import Backdoor
from goodnet.core.dataset import Dataset
from goodnet.core.errors import InvalidOption, UnreadableData, WrongShape
from goodnet.triggers.patterns import Additive, colour_values, place_in_image

LABELS = np.repeat(np.arange(5), 40)


class Brighter(TriggerAttack):
    """Adds a tenth to every pixel."""

    def make_trigger(self, image_shape, *, seed):
        return Additive(torch.full(image_shape, 0.1))


@pytest.fixture
def dataset():
    """Return 200 images of 5 classes; image i has the value i everywhere."""
    images = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None, None, None], (200, 1, 4, 4))
    return Dataset.from_arrays(images, LABELS, name="steps")


def poison(dataset, seed=0, **options):
    """Return (poisoned, its pixels' first value, its labels, its chosen positions)."""
    poisoned = Brighter.from_options(**options).poison(dataset, seed=seed)
    pixels = poisoned.dataset.source.read(poisoned.dataset.positions)
    return poisoned, pixels[:, 0, 0, 0], poisoned.dataset.targets, np.array(poisoned.poisoned_positions)


def test_all_to_one_poisons_the_rate_of_the_whole_set_out_of_the_other_classes(dataset):
    poisoned, values, labels, chosen = poison(dataset, target=3, rate=0.25)
    assert len(chosen) == 50
    assert (LABELS[chosen] != 3).all()
    assert set(LABELS[chosen]) == {0, 1, 2, 4}
    assert (labels[chosen] == 3).all()
    assert [(backdoor.target, backdoor.sources) for backdoor in poisoned.backdoors] == [(3, None)]
    raised = np.arange(200) + np.where(np.isin(np.arange(200), chosen), 25.5, 0)
    assert np.abs(values - np.minimum(raised, 255)).max() <= 0.5


def test_clean_images_keep_pixels_and_labels_and_the_truth_is_kept(dataset):
    poisoned, values, labels, chosen = poison(dataset)
    others = np.setdiff1d(np.arange(200), chosen)
    assert (values[others] == others).all()
    assert (labels[others] == LABELS[others]).all()
    assert (poisoned.dataset.true_targets == LABELS).all()
    assert poisoned.dataset.source.pixels.dtype == np.uint8
    assert (dataset.images()[chosen] == torch.tensor(chosen / 255, dtype=torch.float32)[:, None, None, None]).all()


def test_all_to_all_sends_each_class_to_the_next(dataset):
    poisoned, _, labels, chosen = poison(dataset, label_mode="all_to_all", target=99)
    assert len(chosen) == 20
    assert (labels[chosen] == (LABELS[chosen] + 1) % 5).all()
    claims = [(backdoor.sources, backdoor.target) for backdoor in poisoned.backdoors]
    assert claims == [((0,), 1), ((1,), 2), ((2,), 3), ((3,), 4), ((4,), 0)]


def test_source_specific_poisons_one_class_and_covers_others(dataset):
    poisoned, values, labels, chosen = poison(
        dataset, label_mode="source_specific", source=2, target=1, rate=0.1, cover=1.5
    )
    attacked, cover = chosen[LABELS[chosen] == 2], chosen[LABELS[chosen] != 2]
    assert (len(attacked), len(cover)) == (20, 30)
    assert (labels[attacked] == 1).all()
    assert (labels[cover] == LABELS[cover]).all()
    assert 1 not in LABELS[cover]
    assert (values[cover] != cover).all()
    assert poisoned.backdoors[0].sources == (2,)


def test_clean_label_poisons_the_target_class_and_changes_no_label(dataset):
    _, values, labels, chosen = poison(dataset, label_mode="clean_label", target=4, rate=0.15)
    assert len(chosen) == 30
    assert (LABELS[chosen] == 4).all()
    assert (labels == LABELS).all()
    assert (values[chosen] != chosen).all()


def test_same_seed_same_pixels_whatever_the_order_of_calls(dataset):
    first, other, again = (poison(dataset, seed=seed) for seed in (7, 8, 7))
    assert (first[1] == again[1]).all()
    assert (first[3] == again[3]).all()
    assert list(first[3]) != list(other[3])


def test_positions_are_those_of_the_subset_that_was_given(dataset):
    part = dataset.subset(np.arange(199, -1, -2))
    poisoned, values, _, chosen = poison(part, rate=0.1)
    assert len(poisoned.dataset) == 100
    assert (np.flatnonzero(values != part.positions) == chosen).all()


def test_class_names_count_as_classes(dataset):
    named = Dataset(dataset.source, dataset.labels, class_names=tuple("abcdefgh"))
    assert count_classes(named) == 8
    assert Brighter(target=7).poison(named, seed=0).dataset.class_names == named.class_names


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": 5}, "target 5 is outside the classes of steps; expected 0 to 4"),
        ({"label_mode": "source_specific", "source": 9}, "source 9 is outside"),
        ({"rate": 0.002}, r"poisons none; expected at least 0\.005"),
        ({"rate": 0.9}, r"asks for 180 images, but all_to_one has 160 to poison; expected a rate of at most 0\.8"),
        ({"label_mode": "clean_label", "rate": 0.3}, r"has 40 to poison; expected a rate of at most 0\.2"),
        ({"label_mode": "source_specific", "source": 1, "rate": 0.3}, "has 40 to poison"),
    ],
)
def test_options_that_do_not_fit_the_data_are_one_line(dataset, options, words):
    with pytest.raises(InvalidOption, match=words) as caught:
        poison(dataset, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rate": 0}, "rate"),
        ({"rate": 1}, "rate"),
        ({"target": -1}, "target"),
        ({"label_mode": "some"}, "label_mode"),
        ({"label_mode": "source_specific"}, "give both or neither"),
        ({"source": 2}, "give both or neither"),
        ({"label_mode": "source_specific", "source": 1, "target": 1}, "two classes"),
        ({"cover": -1}, "cover"),
    ],
)
def test_options_out_of_bounds_are_refused_before_any_data(options, words):
    with pytest.raises(InvalidOption, match=words):
        Brighter.from_options(**options)


def test_data_without_labels_is_refused(dataset):
    with pytest.raises(UnreadableData, match="no labels"):
        Brighter().poison(Dataset(dataset.source, None), seed=0)


def test_the_test_set_leaves_the_target_class_out(dataset):
    test = poisoned_test_set(dataset, Brighter(target=3).poison(dataset, seed=0).backdoors)
    assert len(test) == 160
    assert (test.targets == 3).all()
    assert (test.true_targets == LABELS[LABELS != 3]).all()
    expected = np.minimum(np.flatnonzero(LABELS != 3) + 25.5, 255)
    assert np.abs(test.source.read(np.arange(160))[:, 0, 0, 0] - expected).max() <= 0.5


def test_the_test_set_of_all_to_all_asks_each_class_for_the_next(dataset):
    test = poisoned_test_set(dataset, Brighter(label_mode="all_to_all").poison(dataset, seed=0).backdoors)
    assert len(test) == 200
    assert (test.targets == (test.true_targets + 1) % 5).all()


def test_the_test_set_of_a_source_specific_backdoor_holds_its_sources_alone(dataset):
    trigger = Brighter().make_trigger((1, 4, 4), seed=0)
    test = poisoned_test_set(dataset, Backdoor(trigger, 0, (2, 4)))
    assert sorted(set(test.true_targets)) == [2, 4]


def test_a_test_set_with_no_image_left_is_refused(dataset):
    trigger = Brighter().make_trigger((1, 4, 4), seed=0)
    for backdoors in (Backdoor(trigger, 0, (77,)), Backdoor(trigger, 2, (2,)), []):
        with pytest.raises(UnreadableData, match="found none"):
            poisoned_test_set(dataset, backdoors)


def test_colours_and_places():
    assert colour_values("#ff8000", 3).tolist() == pytest.approx([1, 128 / 255, 0])
    assert colour_values("white", 1).tolist() == pytest.approx([1.0])
    assert colour_values("red", 4).tolist() == [1, 0, 0, 1]
    with pytest.raises(WrongShape, match="got 2"):
        colour_values("red", 2)
    assert place_in_image("bottom_left", (2, 3), (3, 10, 20), 1, seed=0) == (7, 1)
    assert place_in_image("17,8", (2, 3), (3, 10, 20), 1, seed=0) == (8, 17)
