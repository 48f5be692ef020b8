"""Mahalanobis: an input whose features lie far from those of clean images of the class that it gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.guards.calibration import CalibratedGuard, Judge, Reader, Readings
from goodnet.inference.last_layer import read_features

#: More features than this are first brought down to it, by a fixed random projection.
_FEATURES = 1024
#: Images within classes that the total covariance stands for in the estimate of that within classes.
_PRIOR = 100


class Mahalanobis(CalibratedGuard):
    """Refuses an input whose features in the penultimate layer lie far from the clean images of the class it is given.

    A trigger reaches the target class by another path than the class's own images, so its features lie elsewhere. Each
    class is modelled as a normal distribution; all share one covariance, and the class means are themselves drawn from a
    normal distribution. So a class without clean images is given the spread of all classes, a class with a few is placed near
    the mean of those images, and distances to both are comparable. The network's own predictions say which class a clean
    image is of.

    **Source** K. Lee, K. Lee, H. Lee, J. Shin, "A Simple Unified Framework for Detecting Out-of-Distribution Samples
    and Adversarial Attacks", NeurIPS 2018, section 2.1 (equations 1 and 2); shrinkage by O. Ledoit, M. Wolf, "A
    well-conditioned estimator for large-dimensional covariance matrices", Journal of Multivariate Analysis 88, 2004;
    distributed means as in S. Ioffe, "Probabilistic Linear Discriminant Analysis", ECCV 2006.
    **Differs** one layer, the distance to the class that the network predicts instead of the nearest; means and
    covariance shrunk, so that zero to nine images per class are enough.
    **Needs** clean images without labels; features, no gradients.
    **Cost** one pass.
    **Fails when** the trigger makes features like those of the target's own images (latent-space attacks), or clean
    images are so few that the covariance cannot be estimated.
    """

    most_images: ClassVar[int] = 20_000

    def make_reader(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        suspected: Sequence[Backdoor] = (),
        repaired: Classifier | None = None,
        seed: int,
    ) -> Reader:
        """Return what gives the features (N, D) of images and the classes that the network predicts, (N,)."""
        read_both = read_features(classifier)

        def read(images: Tensor) -> Readings:
            features, logits = read_both(images)
            return features.cpu().double(), logits.argmax(dim=1).cpu()

        return read

    def fit_judge(self, classifier: Classifier, readings: Readings) -> Judge:
        """Estimate means and covariance."""
        features, predictions = readings
        classes = fit_classes(features, predictions, classifier.classes)
        return lambda given: classes.distances(given[0], given[1])


@dataclass(frozen=True)
class ClassDistributions:
    """Where the features of each class are expected, in coordinates in which dimensions are independent.

    `projection` (D, K) maps features to those coordinates; `means` and `variances` (classes, K).
    """

    projection: Tensor
    means: Tensor
    variances: Tensor

    def distances(self, features: Tensor, classes: Tensor) -> Tensor:
        """Return the mean squared distance per dimension, (N,): features (N, D) from where `classes` (N,) are expected."""
        residuals = features @ self.projection - self.means[classes]
        return (residuals.square() / self.variances[classes]).mean(dim=1)


def fit_classes(features: Tensor, classes: Tensor, count: int) -> ClassDistributions:
    """Return the distributions of `count` classes from features (n, D) float64 of clean images of `classes` (n,).

    Both covariances, W within and B between classes, are made diagonal together; in each dimension a class with m
    images of mean x has the expectation B / (B + W / m) x and the variance W + (W / m) B / (B + W / m).
    """
    if features.shape[1] > _FEATURES:
        generator = torch.Generator().manual_seed(0)
        reduce = torch.randn(features.shape[1], _FEATURES, generator=generator, dtype=features.dtype) / _FEATURES**0.5
        inner = fit_classes(features @ reduce, classes, count)
        return ClassDistributions(reduce @ inner.projection, inner.means, inner.variances)
    sizes = torch.bincount(classes, minlength=count).double()
    centre = features.mean(dim=0)
    sums = torch.zeros(count, features.shape[1], dtype=features.dtype).index_add_(0, classes, features - centre)
    means = sums / sizes.clamp_min(1)[:, None]
    projection, between = _diagonalise(features - centre, means[classes], sizes[classes])
    # In these coordinates W is 1 in every dimension.
    noise = 1 / sizes.clamp_min(1)[:, None]
    kept = torch.where(sizes[:, None] > 0, between / (between + noise), 0)
    expected = kept * (means @ projection) + centre @ projection
    return ClassDistributions(projection, expected, 1 + between * (1 - kept))


def _diagonalise(features: Tensor, means: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Return a projection (D, D) that makes W the identity and B diagonal, and B's diagonal (D,).

    Args:
        features: (n, D), centred.
        means: (n, D), the mean of each image's class, centred.
        sizes: (n,), the number of images of its class.
    """
    total = torch.from_numpy(ledoit_wolf(features.numpy(), assume_centered=True)[0])
    values, vectors = torch.linalg.eigh(_within(features, means, sizes, total))
    whiten = vectors / values.clamp_min(1e-9 * float(values[-1]) + 1e-12).sqrt()
    excess, axes = torch.linalg.eigh(whiten.T @ total @ whiten - torch.eye(len(total), dtype=total.dtype))
    return whiten @ axes, excess.clamp_min(0)


def _within(features: Tensor, means: Tensor, sizes: Tensor, total: Tensor) -> Tensor:
    """Return the covariance within classes, (D, D), drawn towards a multiple of the total one where little is known."""
    several = sizes > 1
    # A class's mean lies too close to its own images.
    residuals = ((features - means) * (sizes / (sizes - 1).clamp_min(1)).sqrt()[:, None])[several]
    degrees = float((1 - 1 / sizes[several]).sum())
    if degrees == 0:
        return total
    own = residuals.T @ residuals / len(residuals)
    share = degrees / (degrees + _PRIOR)
    ratio = share * float(own.trace() / total.trace().clamp_min(1e-12)) + (1 - share)
    return share * own + (1 - share) * ratio * total
