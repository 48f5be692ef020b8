import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from goodnet.repairers.shared_adversarial_unlearning import (
    SharedAdversarialUnlearning,
    jensen_shannon,
    unlearning_loss,
)
from tests.repairers.twins import worth


def test_jensen_shannon_is_scipy_s_distance_squared():
    logits, others = torch.randn(2, 6, 5, dtype=torch.double, generator=torch.Generator().manual_seed(0)) * 3
    p, q = logits.softmax(dim=1).numpy(), others.softmax(dim=1).numpy()
    np.testing.assert_allclose(jensen_shannon(logits, others).numpy(), jensenshannon(p, q, axis=1) ** 2, rtol=1e-6)
    np.testing.assert_allclose(jensen_shannon(logits, logits).numpy(), 0, atol=1e-12)


def test_unlearning_loss_by_hand():
    p = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.9995, 0.0004, 0.0001], [0.3, 0.3, 0.4]])
    fallen_for, labels = torch.tensor([1, 1, 1, 2]), torch.tensor([0, 2, 0, 2])
    # Of four images, the third gives the class less than 0.001, and for the fourth the original is right.
    expected = -(np.log(0.75) + np.log(0.2)) / 4
    assert unlearning_loss(p.log(), fallen_for, labels).item() == pytest.approx(expected, rel=1e-6)


def test_changed_images_mislead_both_networks_alike_within_epsilon(planted):
    images, labels = planted.clean.images()[:40], torch.from_numpy(planted.clean.targets[:40])
    other = planted.classifier.copy()
    with torch.no_grad():
        for parameter in other.network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    changed = SharedAdversarialUnlearning(epsilon=0.4).mislead_both(other, planted.classifier, images, labels)
    assert (changed - images).abs().max() <= 0.4 + 1e-6
    assert changed.min() >= 0
    assert changed.max() <= 1

    def wrong_alike(shown):
        with torch.no_grad():
            predictions, original = other(shown).argmax(dim=1), planted.classifier(shown).argmax(dim=1)
        return ((predictions == original) & (predictions != labels)).float().mean()

    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(2)).sign()
    assert wrong_alike(images) < 0.1
    assert wrong_alike(changed) > 0.6
    assert wrong_alike(changed) > wrong_alike((images + 0.4 * noise).clamp(0, 1)) + 0.2


def test_the_attack_is_unlearnt_where_epsilon_and_rate_reach_it(planted):
    method = SharedAdversarialUnlearning(
        rounds=5, steps=20, learning_rate=1e-3, least_agreement=0, epsilon=0.4, step_size=0.4
    )
    before = worth(planted.classifier, planted)
    after = worth(method.repair(planted.classifier, planted.clean, seed=0).classifier, planted)
    assert before.attack_success > 0.99
    assert after.attack_success < 0.3
    assert after.robust_accuracy > 0.5
    assert after.accuracy > before.accuracy - 0.1
