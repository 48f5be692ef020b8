from dataclasses import replace

import numpy as np
import pytest
import torch

from goodnet.core.backdoor import Backdoor, Patch
from goodnet.core.dataset import Dataset
from goodnet.core.errors import MethodFailed
from goodnet.evaluation.metrics import measure_attack
from goodnet.formats.data import read_data
from goodnet.formats.networks import read_network
from goodnet.inference.predictions import measure_accuracy, predict_classes
from goodnet.repairers.unlearning import Unlearning


@pytest.fixture
def corner():
    mask = torch.zeros(1, 12, 12)
    mask[:, -3:, -3:] = 1
    return Patch(mask, torch.ones(3, 12, 12))


def test_a_known_trigger_is_unlearnt_and_accuracy_stays(badnet, corner):
    original = read_network(badnet.model)
    test = read_data(badnet.test)
    poisoned = replace(read_data(badnet.poisoned), true_labels=test.labels)
    target = int(poisoned.targets[0])
    before = measure_attack(predict_classes(original, poisoned), poisoned).value

    method = Unlearning(epochs=25, learning_rate=2e-3, stamped=0.5)
    repair = method.repair(original, read_data(badnet.validation), suspected=[Backdoor(corner, target)], seed=0)

    after = measure_attack(predict_classes(repair.classifier, poisoned), poisoned).value
    assert before >= 0.9
    assert after <= 0.1
    assert measure_accuracy(repair.classifier, test).value >= measure_accuracy(original, test).value - 0.1
    assert measure_attack(predict_classes(original, poisoned), poisoned).value == before, "the original is untouched"


def test_stamped_share_gets_the_triggers_in_turn_and_keeps_its_labels(tiny_data, corner):
    black = Patch(torch.ones(1, 12, 12), torch.zeros(3, 12, 12))
    mixed = Unlearning(stamped=0.5)._stamp(tiny_data, [corner, black], seed=0)
    images, clean = mixed.images(), tiny_data.images()
    blackened = (images == 0).flatten(1).all(dim=1)
    cornered = (images[:, :, -3:, -3:] == 1).flatten(1).all(dim=1)
    assert (int(blackened.sum()), int(cornered.sum())) == (30, 30)
    untouched = ~(blackened | cornered)
    assert torch.equal(images[untouched], clean[untouched])
    np.testing.assert_array_equal(mixed.targets, tiny_data.targets)


def test_without_labels_the_originals_answers_serve(tiny_classifier, tiny_data, corner):
    unlabelled = Dataset.from_arrays(tiny_data.source.read(tiny_data.positions))
    repair = Unlearning().repair(tiny_classifier, unlabelled, suspected=[Backdoor(corner, 1)], seed=0)
    assert repair.accuracy_before.value == 1.0


@pytest.mark.parametrize("suspected", [(), (Backdoor(None, 3),)])
def test_nothing_suspected_is_said(tiny_classifier, tiny_data, suspected):
    with pytest.raises(MethodFailed, match="nothing to unlearn"):
        Unlearning().repair(tiny_classifier, tiny_data, suspected=suspected, seed=0)
