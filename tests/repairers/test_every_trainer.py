"""What holds for every repairer that trains: each in a short run, on networks of every kind."""

import numpy as np
import pytest
import torch

from goodnet.core.dataset import Dataset
from goodnet.core.errors import MethodFailed, UnreadableData, WrongShape
from goodnet.formats.networks import read_network
from goodnet.formats.pytorch import from_module
from goodnet.inference.predictions import measure_accuracy, predict_classes
from goodnet.repairers.fine_pruning import FinePruning
from goodnet.repairers.fine_tuning import FineTuning
from goodnet.repairers.ft_sam import FtSam
from goodnet.repairers.neural_attention_distillation import NeuralAttentionDistillation
from tests.conftest import make_quadrants
from tests.small_networks import Residual, settle

METHODS = {
    "fine_tuning": FineTuning(epochs=2),
    "ft_sam": FtSam(epochs=2, rho=0.5),
    "neural_attention_distillation": NeuralAttentionDistillation(epochs=1, teacher_epochs=1),
    "fine_pruning": FinePruning(epochs=2, learning_rate=1e-3),
    "fine_pruning in rounds": FinePruning(rounds=2, epochs=1, learning_rate=1e-3),
}


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


def weights(classifier):
    return {name: value.clone() for name, value in classifier.network.state_dict().items()}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_network_given_stays_as_it_is_and_the_repaired_one_learns(method, tiny_classifier, tiny_data):
    before = weights(tiny_classifier)
    repair = method.repair(tiny_classifier, tiny_data, seed=0)
    assert equal(weights(tiny_classifier), before)
    assert not equal(weights(repair.classifier), before)
    assert repair.recommended.accuracy == measure_accuracy(repair.classifier, tiny_data)
    assert repair.accuracy_before == measure_accuracy(tiny_classifier, tiny_data)
    assert not repair.classifier.network.training


def test_the_same_seed_gives_the_same_weights(method, tiny_classifier, tiny_data):
    results = [weights(method.repair(tiny_classifier, tiny_data, seed=s).classifier) for s in (3, 3)]
    assert equal(*results)


def test_a_network_with_batch_norm_and_residual_connections(method, tiny_data):
    classifier = from_module(settle(Residual()), (3, 12, 12))
    before = weights(classifier)
    repair = method.repair(classifier, tiny_data, seed=0)
    assert equal(weights(classifier), before)
    assert not torch.equal(repair.classifier.network.norm.running_mean, before["norm.running_mean"])
    assert not torch.equal(repair.classifier.network.head.weight, before["head.weight"])


def test_a_keras_network_is_written_back_as_keras_reads_it(method, badnet, tmp_path):
    import keras

    classifier, clean = read_network(badnet.model), make_quadrants(40, seed=3)
    repaired = method.repair(classifier, clean, seed=0).classifier
    repaired.save(tmp_path / "repaired.h5")
    model = keras.models.load_model(tmp_path / "repaired.h5", compile=False)
    predictions = model.predict(clean.images().permute(0, 2, 3, 1).numpy(), verbose=0).argmax(axis=1)
    np.testing.assert_array_equal(predictions, predict_classes(repaired, clean))
    assert not equal(weights(repaired), weights(classifier))


def test_without_labels_the_original_s_answers_serve(method, tiny_classifier):
    data = make_quadrants(60, seed=8, brightness=4)
    predictions = predict_classes(tiny_classifier, data)
    assert (predictions != data.targets).any()
    pixels = data.source.read(data.positions)
    unlabelled, answered = Dataset.from_arrays(pixels), Dataset.from_arrays(pixels, predictions)
    repairs = [method.repair(tiny_classifier, clean, seed=0) for clean in (unlabelled, answered)]
    assert repairs[0].accuracy_before.value == 1
    assert equal(weights(repairs[0].classifier), weights(repairs[1].classifier))


def test_training_that_diverges_is_a_failure_and_leaves_the_original(method, tiny_classifier, tiny_data):
    before = weights(tiny_classifier)
    with pytest.raises(MethodFailed, match=r"training failed in epoch 1: .*; lower the learning rate"):
        method.model_copy(update={"learning_rate": 1e30}).repair(tiny_classifier, tiny_data, seed=0)
    assert equal(weights(tiny_classifier), before)
    assert not tiny_classifier.network.training


def test_data_that_does_not_fit(method, deepid, tiny_classifier, tiny_data):
    with pytest.raises(WrongShape, match="takes images of shape"):
        method.repair(deepid, tiny_data, seed=0)
    foreign = Dataset.from_arrays(np.zeros((4, 3, 12, 12), np.uint8), [0, 1, 2, 4])
    with pytest.raises(UnreadableData, match="expected labels from 0 to 3"):
        method.repair(tiny_classifier, foreign, seed=0)
