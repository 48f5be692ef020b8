"""Quarantine: 0 attack success by construction, and what that costs."""

import numpy as np
import pytest
import torch
from torch import nn

from goodnet.core.backdoor import Backdoor
from goodnet.core.dataset import Dataset
from goodnet.core.errors import InvalidOption, MethodFailed, UnknownMethod, UnreadableData, WrongShape
from goodnet.core.repairs import Change
from goodnet.evaluation.metrics import measure_attack
from goodnet.formats.networks import read_network
from goodnet.formats.pytorch import from_module
from goodnet.inference.predictions import measure_accuracy, predict_classes
from goodnet.repairers.quarantine import Quarantine
from tests.conftest import make_quadrants


def quarantine(classifier, clean, *targets):
    return Quarantine().repair(classifier, clean, suspected=[Backdoor(None, t) for t in targets], seed=0)


def linear(*, bias=True, classes=3, after=None):
    layers = [nn.Flatten(), nn.Linear(4, classes, bias=bias)]
    return from_module(nn.Sequential(*layers, *([after] if after else [])), (1, 2, 2))


def four_pixels(count=6, classes=3):
    rng = np.random.default_rng(0)
    return Dataset.from_arrays(rng.random((count, 1, 2, 2)).astype(np.float32), np.arange(count) % classes)


def test_the_attack_is_over_and_everything_else_is_as_it_was(planted):
    weights = {name: value.clone() for name, value in planted.classifier.network.state_dict().items()}
    before, triggered_before = (predict_classes(planted.classifier, d) for d in (planted.test, planted.triggered))
    repair = quarantine(planted.classifier, planted.clean, planted.backdoor.target)
    after, triggered_after = (predict_classes(repair.classifier, d) for d in (planted.test, planted.triggered))

    assert measure_attack(triggered_before, planted.triggered).value > 0.99
    assert measure_attack(triggered_after, planted.triggered).value == 0
    assert not (after == 7).any()
    np.testing.assert_array_equal(after[before != 7], before[before != 7])
    right = (before == planted.test.targets) & (planted.test.targets != 7)
    lost = measure_accuracy(repair.classifier, planted.test)
    assert lost.hits == right.sum() + ((before == 7) & (after == planted.test.targets)).sum()
    assert repair.recommended.changes == Change(quarantined=(7,), layer="output")
    state = planted.classifier.network.state_dict()
    assert all(torch.equal(weights[name], state[name]) for name in weights)


def test_a_wrong_suspicion_costs_the_class_and_no_more(clean_twin):
    before = predict_classes(clean_twin.classifier, clean_twin.test)
    after = predict_classes(quarantine(clean_twin.classifier, clean_twin.clean, 7).classifier, clean_twin.test)
    assert 0 < (before == 7).mean() < 0.15
    np.testing.assert_array_equal(after != before, before == 7)


def test_the_row_by_hand():
    classifier = linear()
    module = classifier.layer("1").module
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, 2, 3, 4], [9, 9, 9, 9], [3, 2, 1, -2]]))
        module.bias.copy_(torch.tensor([0.5, 100.0, 1.5]))
    repaired = quarantine(classifier, four_pixels(), 1).classifier.layer("1").module
    assert repaired.weight.tolist() == [[1, 2, 3, 4], [2, 2, 2, 1], [3, 2, 1, -2]]
    assert repaired.bias.tolist() == [0.5, 0.0, 1.5]


@pytest.mark.parametrize("targets", [(0,), (1,), (0, 2), (0, 1, 2, 3)])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_no_image_whatever_wins_a_quarantined_class(targets, scale):
    torch.manual_seed(0)
    classifier = linear(classes=5)
    repaired = quarantine(classifier, four_pixels(classes=5), *targets).classifier
    images = scale * torch.randn(4000, 1, 2, 2)
    with torch.no_grad():
        assert not np.isin(repaired(images).argmax(dim=1).numpy(), targets).any()


def test_without_a_bias_it_works_too_where_two_classes_are_left():
    torch.manual_seed(0)
    repaired = quarantine(linear(bias=False), four_pixels(), 0).classifier
    with torch.no_grad():
        assert not (repaired(torch.randn(1000, 1, 2, 2)).argmax(dim=1) == 0).any()
    with pytest.raises(MethodFailed, match="2 of 3 classes are suspected: expected at least 2 others"):
        quarantine(linear(bias=False), four_pixels(), 0, 1)


@pytest.mark.parametrize("kind", ["model.h5", "model.keras", "weights.pt"])
def test_the_file_that_is_written_never_answers_the_target(kind, tmp_path):
    path = tmp_path / kind
    images = np.random.default_rng(0).random((200, 12, 12, 3)).astype(np.float32)
    if kind.endswith(".pt"):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Flatten(), nn.Linear(432, 4))
        classifier, predict = from_module(module, (3, 12, 12)), None
    else:
        import keras

        keras.utils.set_random_seed(0)
        layers = [keras.layers.Flatten(), keras.layers.Dense(4, activation="softmax")]
        keras.Sequential([keras.Input((12, 12, 3)), *layers]).save(path)
        classifier, predict = read_network(path), lambda: keras.models.load_model(path).predict(images, verbose=0)
    nchw = torch.from_numpy(images).permute(0, 3, 1, 2)
    target = int(classifier(nchw).argmax(dim=1).mode().values)
    quarantine(classifier, make_quadrants(20, seed=0), target).classifier.save(path)
    if predict is None:
        module.load_state_dict(torch.load(path, weights_only=True))
        predictions = module(nchw).argmax(dim=1).numpy()
    else:
        predictions = predict().argmax(axis=1)
    assert not (predictions == target).any()


def test_a_network_that_ends_otherwise_is_refused():
    ends = nn.Sequential(nn.Conv2d(1, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = from_module(ends, (1, 2, 2))
    for refuse in (
        lambda network: Quarantine().refuse(network, four_pixels()),
        lambda network: quarantine(network, four_pixels(), 0),
    ):
        with pytest.raises(UnknownMethod, match="does not end in a linear layer"):
            refuse(classifier)


def test_images_without_labels(planted):
    unlabelled = Dataset(planted.clean.source, None)
    repair = quarantine(planted.classifier, unlabelled, 7)
    assert repair.accuracy_before.value == 1
    assert repair.recommended.accuracy.value < 0.95


@pytest.mark.parametrize(
    ("targets", "error", "message"),
    [
        ((), MethodFailed, "nothing to quarantine"),
        ((3,), InvalidOption, "expected targets from 0 to 2, got 3"),
        ((-1,), InvalidOption, "got -1"),
        ((0, 1, 2), MethodFailed, "3 of 3 classes are suspected: expected at least 1 others"),
    ],
)
def test_what_cannot_be_quarantined(targets, error, message):
    with pytest.raises(error, match=message):
        quarantine(linear(), four_pixels(), *targets)


def test_data_that_does_not_fit():
    with pytest.raises(UnreadableData, match="expected labels from 0 to 2"):
        quarantine(linear(), four_pixels(classes=5), 0)
    with pytest.raises(WrongShape):
        quarantine(linear(), make_quadrants(4, seed=0), 0)
