"""Several triggers, several targets, one data set."""

import json

import numpy as np
import pytest

from goodnet.attacks.badnets import Badnets
from goodnet.attacks.combined import Combined
from goodnet.attacks.poisoning import poisoned_test_set
from goodnet.core.dataset import Dataset
from goodnet.core.errors import InvalidOption


@pytest.fixture
def dataset():
    """Return 200 noise images of 10 classes."""
    images = np.random.default_rng(0).integers(0, 255, (200, 3, 16, 16), dtype=np.uint8)
    return Dataset.from_arrays(images, np.arange(200) % 10)


def test_the_default_is_three_triggers_with_three_targets(dataset):
    poisoned = Combined().poison(dataset, seed=0)
    assert [backdoor.target for backdoor in poisoned.backdoors] == [0, 1, 2]
    assert len(poisoned.poisoned_positions) == len(set(poisoned.poisoned_positions)) == 30


def test_every_image_carries_the_trigger_of_its_new_label_alone(dataset):
    poisoned = Combined().poison(dataset, seed=0)
    pixels, labels = poisoned.dataset.source.read(np.arange(200)), poisoned.dataset.targets
    for position in poisoned.poisoned_positions:
        backdoor = poisoned.backdoors[labels[position]]
        clean = dataset.subset([position]).images()
        expected = (backdoor.trigger(clean) * 255).round().numpy().astype(np.uint8)[0]
        assert (pixels[position] == expected).all()


def test_same_seed_same_pixels(dataset):
    first, again, other = (Combined().poison(dataset, seed=seed) for seed in (0, 0, 1))
    every = np.arange(200)
    assert (first.dataset.source.read(every) == again.dataset.source.read(every)).all()
    assert first.poisoned_positions == again.poisoned_positions != other.poisoned_positions


def test_one_part_is_that_attack_alone(dataset):
    combined = Combined(parts=({"attack": "badnets", "target": 3},)).poison(dataset, seed=5)
    alone = Badnets(target=3).poison(dataset, seed=5)
    assert combined.poisoned_positions == alone.poisoned_positions


def test_parts_of_one_kind_draw_triggers_of_their_own(dataset):
    parts = ({"attack": "blended", "target": 0}, {"attack": "blended", "target": 1})
    first, second = Combined(parts=parts).poison(dataset, seed=0).backdoors
    assert (first.trigger.pattern != second.trigger.pattern).any()


def test_parts_are_read_from_json(dataset):
    text = json.dumps([{"attack": "trojan-square", "target": 4}, {"attack": "sinusoidal", "target": 5}])
    backdoors = Combined.from_options(parts=text).poison(dataset, seed=0).backdoors
    assert [(backdoor.name, backdoor.target) for backdoor in backdoors] == [("trojan_square", 4), ("sinusoidal", 5)]


def test_attacks_themselves_can_be_parts_and_options_survive_being_written(dataset):
    attack = Combined(parts=(Badnets(target=3, colour="red"), {"attack": "blended", "target": 1}))
    again = Combined.from_options(**json.loads(attack.model_dump_json()))
    assert again == attack
    assert hash(again) == hash(attack)
    assert again.parts[0] == Badnets(target=3, colour="red")


def test_the_test_sets_of_several_backdoors_follow_one_another(dataset):
    backdoors = Combined().poison(dataset, seed=0).backdoors
    assert poisoned_test_set(dataset, backdoors).targets.tolist() == [0] * 180 + [1] * 180 + [2] * 180


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ((), "parts"),
        (({"target": 1},), "part 0: unknown attack ''"),
        (({"attack": "combined"},), "unknown attack 'combined'"),
        (({"attack": "badnets", "sise": 3},), "sise"),
        (({"attack": "badnets", "rate": 2},), "rate"),
        ("[{", "JSON"),
        (7, "expected a list of objects, got int"),
        ("[7]", "part 0: expected"),
    ],
)
def test_wrong_parts_are_one_line_before_any_work(parts, words):
    with pytest.raises(InvalidOption, match=words) as caught:
        Combined.from_options(parts=parts)
    assert "\n" not in str(caught.value)


def test_parts_that_ask_for_too_much_are_refused(dataset):
    parts = tuple({"attack": "badnets", "target": target, "rate": 0.6} for target in range(2))
    with pytest.raises(InvalidOption, match="asks for 120 images"):
        Combined(parts=parts).poison(dataset, seed=0)
