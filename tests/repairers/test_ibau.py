import numpy as np
import pytest
import torch

from goodnet.repairers.ibau import Ibau, with_implicit_gradient
from tests.repairers.twins import worth

A = np.array([[2.0, 0.5, 0.0], [0.5, 1.5, -0.3], [0.0, -0.3, 1.0]])
B = np.array([[1.0, -0.5], [0.2, 0.8], [-0.7, 0.4]])
CENTRE = np.array([0.3, -1.0, 0.5])
WEIGHTS = np.array([0.9, -0.4])
RATE = 0.4


def quadratic(terms):
    """Return the gradient for inner = d'Ad/2 - d'Bw and outer = (|d - c|^2 + |w|^2) / 2, at the inner minimum."""
    a, b, c = (torch.from_numpy(value) for value in (A, B, CENTRE))
    w = torch.from_numpy(WEIGHTS.copy()).requires_grad_()
    point = torch.from_numpy(np.linalg.solve(A, B @ WEIGHTS))

    def inner(d):
        return d @ a @ d / 2 - d @ b @ w

    def outer(d):
        return ((d - c).square().sum() + w.square().sum()) / 2

    value = with_implicit_gradient(inner, outer, point, terms=terms, rate=RATE)
    assert value.item() == pytest.approx(((point - c).square().sum() + (w.detach() ** 2).sum()).item() / 2)
    return torch.autograd.grad(value, w)[0].numpy()


def test_with_many_terms_the_gradient_is_the_exact_one():
    minimum = np.linalg.solve(A, B @ WEIGHTS)
    exact = WEIGHTS + B.T @ np.linalg.solve(A, minimum - CENTRE)
    np.testing.assert_allclose(quadratic(400), exact, rtol=1e-10)
    # And so it is that of the function w -> outer(minimum(w), w), by differences.
    whole = lambda w: (np.sum((np.linalg.solve(A, B @ w) - CENTRE) ** 2) + w @ w) / 2  # noqa: E731
    steps = 1e-6 * np.eye(2)
    np.testing.assert_allclose(exact, [(whole(WEIGHTS + s) - whole(WEIGHTS - s)) / 2e-6 for s in steps], rtol=1e-6)


@pytest.mark.parametrize("terms", [1, 2, 5])
def test_few_terms_are_the_first_of_the_series(terms):
    jacobian = np.eye(3) - RATE * A
    slope = np.linalg.solve(A, B @ WEIGHTS) - CENTRE
    vector = sum(np.linalg.matrix_power(jacobian, power) @ slope for power in range(terms))
    np.testing.assert_allclose(quadratic(terms), WEIGHTS + RATE * B.T @ vector, rtol=1e-10)


def test_the_perturbation_of_all_images_misleads_and_keeps_to_its_radius(planted):
    images = planted.clean.images()
    method = Ibau(radius=0.15)
    perturbation = method.mislead_all(planted.classifier, images)
    assert perturbation.shape == (1, 1, 16, 16)
    assert perturbation.square().mean().sqrt() <= 0.15 + 1e-6
    with torch.no_grad():
        predictions = planted.classifier(images).argmax(dim=1)
        misled = planted.classifier((images + perturbation).clamp(0, 1)).argmax(dim=1)
        noise = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.15
        disturbed = planted.classifier((images + noise).clamp(0, 1)).argmax(dim=1)
    assert (misled != predictions).float().mean() > 0.5
    assert (misled != predictions).sum() > 3 * (disturbed != predictions).sum()


def test_the_attack_is_unlearnt_at_a_rate_that_a_small_network_needs(planted):
    method = Ibau(steps=30, learning_rate=1e-3, least_agreement=0)
    before = worth(planted.classifier, planted)
    after = worth(method.repair(planted.classifier, planted.clean, seed=0).classifier, planted)
    assert before.attack_success > 0.99
    assert after.attack_success < 0.75
    assert after.robust_accuracy > 0.25
    assert after.accuracy > before.accuracy - 0.08
