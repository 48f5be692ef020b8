import math

import numpy as np
import pytest
import torch

from goodnet.core.backdoor import Backdoor
from goodnet.core.errors import MethodFailed
from goodnet.evaluation.comparison import evaluate_network
from goodnet.repairers import anchored_unlearning
from goodnet.repairers.anchored_unlearning import AnchoredUnlearning, find_temperature, relative_distance, vary


def metrics(classifier, twin):
    return evaluate_network(classifier, twin.test, [twin.triggered]).metrics


def test_the_backdoor_is_gone_and_the_rest_stays(planted):
    suspected = [Backdoor(None, planted.backdoor.target)]
    before = {name: value.clone() for name, value in planted.classifier.network.state_dict().items()}
    repair = AnchoredUnlearning(learning_rate=1e-3).repair(
        planted.classifier, planted.clean, suspected=suspected, seed=0
    )
    old, new = metrics(planted.classifier, planted), metrics(repair.classifier, planted)
    (name,) = old.attack_success_rate
    assert old.attack_success_rate[name].value > 0.95
    assert new.attack_success_rate[name].value < 0.1
    assert new.clean_accuracy.value > old.clean_accuracy.value - 0.02
    assert new.robust_accuracy[name].value > 0.5
    assert all(torch.equal(before[key], value) for key, value in planted.classifier.network.state_dict().items())


def test_a_clean_network_that_is_wrongly_suspected_keeps_its_accuracy(clean_twin):
    repair = AnchoredUnlearning().repair(clean_twin.classifier, clean_twin.clean, suspected=[Backdoor(None, 3)], seed=0)
    before = evaluate_network(clean_twin.classifier, clean_twin.test, []).metrics.clean_accuracy
    after = evaluate_network(repair.classifier, clean_twin.test, []).metrics.clean_accuracy
    assert after.value > before.value - 0.04


def test_same_seed_same_weights(planted):
    suspected = [Backdoor(None, planted.backdoor.target)]
    runs = [
        AnchoredUnlearning(steps=3, triggers=1).repair(planted.classifier, planted.clean, suspected=suspected, seed=1)
        for _ in range(2)
    ]
    first, second = (run.classifier.network.state_dict() for run in runs)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(("images", "steps", "epochs"), [(144, 400, 89), (20, 400, 100), (40, 3, 3)])
def test_few_images_are_not_learned_by_heart(planted, monkeypatch, images, steps, epochs):
    seen = []
    monkeypatch.setattr(anchored_unlearning, "train", lambda *given, **_: seen.append(given[2].epochs))
    method = AnchoredUnlearning(steps=steps, triggers=1)
    method.repair(planted.classifier, planted.clean.sample(images, seed=0), suspected=[Backdoor(None, 7)], seed=0)
    assert seen == [epochs]


def test_nothing_suspected_is_an_error(planted):
    with pytest.raises(MethodFailed, match="scan first"):
        AnchoredUnlearning().repair(planted.classifier, planted.clean, seed=0)


def test_distance_ignores_a_shift_of_all_logits_and_is_relative():
    wanted = torch.tensor([[1.0, -1.0, 0.0]])
    assert relative_distance(wanted + 7, wanted).item() == pytest.approx(0, abs=1e-10)
    # Centred difference (1, -1, 0) has squared length 2, as the wanted logits have.
    assert relative_distance(2 * wanted, wanted).item() == pytest.approx(1.0)


def test_at_the_temperature_the_mean_confidence_is_nine_tenths():
    logits = torch.randn(50, 10, generator=torch.Generator().manual_seed(0)) * 30
    softened = (logits / find_temperature(logits)).softmax(dim=1).amax(dim=1).mean()
    assert softened.item() == pytest.approx(0.9, abs=1e-3)
    # Two classes, logits (a, 0): confidence 0.9 means a / T = log 9.
    pair = torch.tensor([[6.0, 0.0]])
    assert find_temperature(pair) == pytest.approx(6 / math.log(9), rel=1e-4)


def test_varied_images_stay_in_range_and_differ():
    torch.manual_seed(0)
    images = torch.rand(8, 3, 20, 20)
    varied = vary(images)
    assert varied.shape == images.shape
    assert varied.min() >= 0
    assert varied.max() <= 1
    assert np.count_nonzero((varied != images).flatten(1).any(dim=1)) == 8


def test_the_target_s_own_images_are_those_that_the_original_calls_so_unless_most_are(planted):
    called = anchored_unlearning.predict_classes(planted.classifier, planted.clean)
    own = anchored_unlearning._images_of(planted.classifier, planted.clean, [Backdoor(None, 7)])
    assert torch.equal(own, planted.clean.subset(np.flatnonzero(called == 7)).images())
    every = [Backdoor(None, label) for label in range(10)]
    assert anchored_unlearning._images_of(planted.classifier, planted.clean, every).shape == (0, 1, 16, 16)
