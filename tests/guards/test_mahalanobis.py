import numpy as np
import pytest
import torch

from goodnet.core.dataset import Dataset
from goodnet.evaluation.ranking import area_under_roc
from goodnet.formats.data import read_data
from goodnet.formats.networks import read_network
from goodnet.formats.pytorch import from_module
from goodnet.guards.calibration import score_all
from goodnet.guards.mahalanobis import Mahalanobis, fit_classes
from tests.small_networks import Residual, settle


def drawn(classes, per_class, dimensions, *, spread, seed=0):
    """Features of classes whose means are drawn, with the covariance diag(1, 4, 1, 4, ...) within; and their classes."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(classes, dimensions)) * spread
    labels = np.repeat(np.arange(classes), per_class)
    scale = np.where(np.arange(dimensions) % 2, 2.0, 1.0)
    features = means[labels] + rng.normal(size=(len(labels), dimensions)) * scale
    return torch.from_numpy(features), torch.from_numpy(labels), means, scale


def test_with_many_images_it_is_the_textbook_s_distance():
    features, labels, means, scale = drawn(6, 4000, 4, spread=5)
    found = fit_classes(features, labels, 6)
    point = np.array([1.0, -2.0, 0.5, 3.0])
    for label in range(6):
        expected = (((point - means[label]) / scale) ** 2).mean()
        distance = found.distances(torch.from_numpy(point)[None], torch.tensor([label])).item()
        assert distance == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("per_class", [2, 3, 9])
def test_with_few_images_a_class_s_further_images_lie_at_distance_one(per_class, monkeypatch):
    monkeypatch.setattr("goodnet.guards.mahalanobis._PRIOR", 1)
    features, labels, means, scale = drawn(300, per_class, 6, spread=3)
    found = fit_classes(features, labels, 301)
    rng = np.random.default_rng(1)
    fresh = torch.from_numpy(means[labels] + rng.normal(size=features.shape) * scale)
    assert found.distances(fresh, labels).mean().item() == pytest.approx(1, abs=0.12)
    # Class 300 has no image: it can be anywhere among the others.
    unseen = torch.from_numpy(rng.normal(size=(1800, 6)) * np.sqrt(9 + scale**2))
    assert found.distances(unseen, torch.full((1800,), 300)).mean().item() == pytest.approx(1, abs=0.15)


def test_one_image_a_class_and_equal_images_give_finite_distances():
    features = torch.randn(50, 160, generator=torch.Generator().manual_seed(0)).double()
    for given in (features, features[:1].expand(50, -1)):
        found = fit_classes(given, torch.arange(50), 1283)
        assert torch.isfinite(found.distances(features, torch.arange(1200, 1250))).all()


def test_more_features_than_can_be_afforded_are_projected():
    features, labels, _, _ = drawn(5, 20, 1500, spread=3)
    found = fit_classes(features, labels, 5)
    assert found.projection.shape == (1500, 1024)
    own = found.distances(features, labels)
    other = found.distances(features, (labels + 1) % 5)
    assert (other > own).all()


def test_labels_are_not_used(planted):
    unlabelled = Dataset(planted.clean.source, None, indices=planted.clean.indices)
    images = planted.test.images()[:50]
    scores = [
        Mahalanobis().fit(planted.classifier, data, seed=0).scores(images) for data in (planted.clean, unlabelled)
    ]
    assert torch.equal(*scores)


def test_a_network_with_batch_norm():
    classifier = from_module(settle(Residual()), (3, 16, 16))
    images = np.random.default_rng(0).random((40, 3, 16, 16), dtype=np.float32)
    guard = Mahalanobis().fit(classifier, Dataset.from_arrays(images), seed=0)
    assert guard.calibration.n == 40
    assert (guard.scores(torch.from_numpy(1 - images * 3).clamp(-5, 5)) > guard.threshold).float().mean() > 0.9


def test_triggered_images_of_the_planted_network_are_refused(planted):
    guard = Mahalanobis().fit(planted.classifier, planted.clean, seed=0)
    clean, triggered = (score_all(guard, data) for data in (planted.test, planted.triggered))
    assert area_under_roc(triggered, clean) > 0.99
    assert (triggered > guard.threshold).mean() > 0.95
    assert (clean > guard.threshold).mean() <= guard.calibration.bound


def test_its_clean_twin_refuses_few(clean_twin):
    guard = Mahalanobis().fit(clean_twin.classifier, clean_twin.clean, seed=0)
    assert (score_all(guard, clean_twin.test) > guard.threshold).mean() <= 0.03


def test_fifty_images_for_1283_classes(csaw):
    classifier = read_network(csaw / "bd_net.h5").with_input_range("0..255")
    guard = Mahalanobis().fit(classifier, read_data(csaw / "clean_validation_data.h5"), seed=0)
    clean, triggered = (
        score_all(guard, read_data(csaw / name)) for name in ("clean_test_data.h5", "sunglasses_poisoned_data.h5")
    )
    assert area_under_roc(triggered, clean) > 0.95
    assert (clean > guard.threshold).mean() <= guard.calibration.bound
