from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from goodnet.surgery.agreement import Agreement, TrainedInRounds, repair_in_rounds
from goodnet.training import Training, train
from tests.conftest import make_quadrants
from tests.weights import equal, weights


def spoil(classifier, share):
    """Add a share of their own length of noise to the weights."""
    with torch.no_grad():
        for parameter in classifier.network.parameters():
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            parameter.add_(share * parameter.norm() / noise.norm() * noise)


def test_copies_are_the_images_shifted_by_at_most_a_tenth(tiny_classifier):
    agreement = Agreement(tiny_classifier, make_quadrants(10, seed=0), seed=0)
    images = make_quadrants(10, seed=0).images()
    assert agreement.images.shape == (260, 3, 12, 12)
    for index in (0, 57, 259):
        inner = images[index % 10][:, 1:-1, 1:-1]
        windows = [agreement.images[index][:, y : y + 10, x : x + 10] for y in range(3) for x in range(3)]
        assert any(torch.equal(inner, window) for window in windows)
    assert len({tuple(copy.flatten()[:40].tolist()) for copy in agreement.images}) > 40


def test_share_of_answers_that_are_the_original_s(tiny_classifier, tiny_data):
    agreement = Agreement(tiny_classifier, tiny_data, seed=0)
    assert agreement.share(tiny_classifier.copy()) == 1
    other = tiny_classifier.copy()
    other.layer("output").module.bias.data[2] += 1e6
    with torch.no_grad():
        expected = (tiny_classifier(agreement.images).argmax(dim=1) == 2).float().mean()
    assert agreement.share(other) == pytest.approx(expected.item())


def test_the_first_round_that_spoils_the_answers_is_undone_and_the_last(tiny_classifier, tiny_data):
    before, calls, rounds = weights(tiny_classifier), [], []

    def train_round(classifier, turn):
        rounds.append(turn)
        spoil(classifier, [0.02, 0.02, 5.0, 0.02][turn])

    kept, shares = Agreement(tiny_classifier, tiny_data, seed=0).train_in_rounds(
        tiny_classifier, 4, train_round, least=0.9, progress=lambda *steps: calls.append(steps)
    )
    expected = tiny_classifier.copy()
    spoil(expected, 0.02)
    spoil(expected, 0.02)
    assert equal(weights(kept), weights(expected))
    assert equal(weights(tiny_classifier), before)
    assert rounds == [0, 1, 2]
    assert np.array(shares[:2]).min() >= 0.9 > shares[2]
    assert calls == [(1, 4), (2, 4), (3, 4)]


def test_where_even_the_first_round_spoils_them_a_copy_of_the_original_comes_back(tiny_classifier, tiny_data):
    agreement = Agreement(tiny_classifier, tiny_data, seed=0)
    kept, shares = agreement.train_in_rounds(tiny_classifier, 3, lambda network, _: spoil(network, 9.0), least=0.9)
    assert len(shares) == 1
    assert kept is not tiny_classifier
    assert equal(weights(kept), weights(tiny_classifier))


@pytest.mark.parametrize(("least", "kept"), [(0.0, 3), (1.1, 0)])
def test_a_repair_in_rounds_finds_a_loss_for_each_and_counts_those_that_hold(least, kept, tiny_classifier, tiny_data):
    options = {"rounds": 3, "steps": 5, "learning_rate": 1e-4, "batch_size": 50, "least_agreement": least}
    method, begun = SimpleNamespace(name=lambda: "in_rounds", **options), []

    def find_loss(network):
        begun.append(weights(network))
        return lambda classifier, images, labels: F.cross_entropy(classifier(images), labels)

    repair = repair_in_rounds(method, tiny_classifier, tiny_data, find_loss, seed=2)
    expected = tiny_classifier.copy()
    for turn in range(max(1, kept)):
        assert equal(begun[turn], weights(expected))
        training = Training(epochs=2, learning_rate=1e-4, batch_size=50, schedule="constant")
        train(expected, tiny_data, training, seed=6 + turn)
    assert equal(weights(repair.classifier), weights(expected if kept else tiny_classifier))
    assert repair.recommended.changes == TrainedInRounds(images=120, rounds=kept, steps=kept * 6)
    assert len(repair.trace.agreement) == max(1, kept)
