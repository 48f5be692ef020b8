"""What holds for every repairer that purifies by perturbing or bounding: each in a short run, on networks of every kind."""

import numpy as np
import pytest
import torch

from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnreadableData, WrongShape
from goodnet.formats.networks import read_network
from goodnet.formats.pytorch import from_module
from goodnet.inference.predictions import measure_accuracy, predict_classes
from goodnet.repairers.activation_bounds import ActivationBounds
from goodnet.repairers.adversarial_neuron_pruning import AdversarialNeuronPruning
from goodnet.repairers.channel_lipschitz_pruning import ChannelLipschitzPruning
from goodnet.repairers.ibau import Ibau
from goodnet.repairers.shared_adversarial_unlearning import SharedAdversarialUnlearning
from goodnet.repairers.ulrl import Ulrl
from tests.conftest import make_quadrants
from tests.repairers.twins import worth
from tests.small_networks import Residual, settle
from tests.weights import equal, weights

METHODS = {
    "activation_bounds": ActivationBounds(steps=10),
    "adversarial_neuron_pruning": AdversarialNeuronPruning(steps=10),
    "channel_lipschitz_pruning": ChannelLipschitzPruning(u=1),
    "ibau": Ibau(rounds=2, steps=3, ascent_steps=3),
    "shared_adversarial_unlearning": SharedAdversarialUnlearning(rounds=2, steps=2),
    "ulrl": Ulrl(epochs=2, forgetting_epochs=3),
}
RANDOM = ("adversarial_neuron_pruning", "ibau", "shared_adversarial_unlearning", "ulrl", "activation_bounds")


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


def test_the_network_given_stays_as_it_is(method, tiny_classifier, tiny_data):
    before = weights(tiny_classifier)
    repair = method.repair(tiny_classifier, tiny_data, seed=0)
    assert equal(weights(tiny_classifier), before)
    assert repair.recommended.name == method.name()
    assert repair.recommended.accuracy == measure_accuracy(repair.classifier, tiny_data)
    assert repair.accuracy_before == measure_accuracy(tiny_classifier, tiny_data)
    assert not repair.classifier.network.training


@pytest.mark.parametrize("name", RANDOM)
def test_the_same_seed_gives_the_same_weights(name, tiny_classifier, tiny_data):
    results = [weights(METHODS[name].repair(tiny_classifier, tiny_data, seed=3).classifier) for _ in range(2)]
    assert equal(*results)


def test_batch_norm_and_residual_connections(method, tiny_data):
    classifier = from_module(settle(Residual()), (3, 12, 12))
    before = weights(classifier)
    repaired = method.repair(classifier, tiny_data, seed=0).classifier
    assert equal(weights(classifier), before)
    after = weights(repaired)
    statistics = [name for name in before if "running" in name]
    assert statistics
    assert all(torch.equal(after[name], before[name]) for name in statistics), "they are those of clean images"
    with torch.no_grad():
        assert repaired(tiny_data.images()).isfinite().all()


def test_a_keras_network_is_written_back_as_keras_reads_it(method, badnet, tmp_path):
    import keras

    classifier, clean = read_network(badnet.model), make_quadrants(40, seed=3)
    repaired = method.repair(classifier, clean, seed=0).classifier
    repaired.save(tmp_path / "repaired.h5")
    model = keras.models.load_model(tmp_path / "repaired.h5", compile=False)
    predictions = model.predict(clean.images().permute(0, 2, 3, 1).numpy(), verbose=0).argmax(axis=1)
    np.testing.assert_array_equal(predictions, predict_classes(repaired, clean))


def test_without_labels_the_original_s_answers_serve(method, tiny_classifier):
    data = make_quadrants(60, seed=8, brightness=4)
    predictions = predict_classes(tiny_classifier, data)
    assert (predictions != data.targets).any()
    pixels = data.source.read(data.positions)
    unlabelled, answered = Dataset.from_arrays(pixels), Dataset.from_arrays(pixels, predictions)
    repairs = [method.repair(tiny_classifier, clean, seed=0) for clean in (unlabelled, answered)]
    assert repairs[0].accuracy_before.value == 1
    assert equal(weights(repairs[0].classifier), weights(repairs[1].classifier))


def test_as_they_come_they_leave_a_clean_network_as_good_as_it_was_even_with_few_images(method, clean_twin):
    few = clean_twin.clean.sample(20, seed=0)
    before = worth(clean_twin.classifier, clean_twin).accuracy
    for data in (clean_twin.clean, few):
        repaired = type(method)().repair(clean_twin.classifier, data, seed=0).classifier
        assert worth(repaired, clean_twin).accuracy >= before - 0.02


def test_data_that_does_not_fit(method, deepid, tiny_classifier, tiny_data):
    with pytest.raises(WrongShape, match="takes images of shape"):
        method.repair(deepid, tiny_data, seed=0)
    foreign = Dataset.from_arrays(np.zeros((4, 3, 12, 12), np.uint8), [0, 1, 2, 4])
    with pytest.raises(UnreadableData, match="expected labels from 0 to 3"):
        method.repair(tiny_classifier, foreign, seed=0)
