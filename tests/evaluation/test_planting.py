"""Twins: the planted network follows its trigger, the clean one does not; both know their digits."""

from typing import TYPE_CHECKING

import numpy as np
import pytest

from goodnet.attacks.badnets import Badnets
from goodnet.datasets.sources import find_files, read_parts
from goodnet.evaluation.metrics import measure_attack
from goodnet.evaluation.planting import group_backdoors, plant, trigger_test_sets
from goodnet.inference.predictions import measure_accuracy, predict_classes
from goodnet.training import Training

if TYPE_CHECKING:
    from tests.conftest import Twin


def test_the_planted_network_follows_its_trigger_and_its_twin_does_not(planted: "Twin", clean_twin: "Twin") -> None:
    accuracies = [measure_accuracy(twin.classifier, twin.test).value for twin in (planted, clean_twin)]
    rates = [
        measure_attack(predict_classes(t.classifier, t.triggered), t.triggered).value for t in (planted, clean_twin)
    ]
    assert min(accuracies) > 0.95
    assert abs(accuracies[0] - accuracies[1]) <= 0.02
    assert rates[0] > 0.98
    assert rates[1] < 0.05


def test_parts_share_no_image() -> None:
    parts = read_parts("digits")
    positions = [set(part.positions.tolist()) for part in (parts.train, parts.validation, parts.test)]
    assert sum(map(len, positions)) == len(set.union(*positions)) == 1797
    faces = read_parts("faces:3x4")
    assert [len(part) for part in (faces.train, faces.validation, faces.test)] == [12, 27, 30]
    pixels = np.concatenate([part.source.pixels for part in (faces.train, faces.validation, faces.test)])
    assert len(np.unique(pixels.reshape(len(pixels), -1), axis=0)) == 69


def test_all_to_all_is_one_trigger_with_many_backdoors() -> None:
    parts = read_parts("digits:8")
    poisoned = Badnets(label_mode="all_to_all", rate=0.3).poison(parts.train, seed=0)
    groups = group_backdoors(poisoned.backdoors)
    assert {name: len(group) for name, group in groups.items()} == {"badnets": 10}
    sets = trigger_test_sets(parts.test, poisoned.backdoors, 50)
    assert len(sets["badnets"]) == 50
    assert sets["badnets"].true_targets is not None
    assert ((sets["badnets"].true_targets + 1) % 10 == sets["badnets"].targets).all()


def test_twins_start_from_the_same_weights() -> None:
    parts = read_parts("digits:8")
    training = Training(epochs=1, learning_rate=1e-12)
    networks = [plant(parts, attack, "small_cnn", training, seed=3).classifier for attack in (Badnets(), None)]
    first, second = (network.layer("hidden").weight for network in networks)
    assert (first - second).abs().max() < 1e-8


def test_a_folder_may_hold_a_training_and_a_test_set(tmp_path) -> None:
    for name in ("lfw_train.h5", "lfw_test.h5"):
        (tmp_path / name).touch()
    assert find_files(tmp_path) == (tmp_path / "lfw_train.h5", tmp_path / "lfw_test.h5")
    (tmp_path / "gtsrb_train.h5").touch()
    with pytest.raises(Exception, match="several"):
        find_files(tmp_path)
