"""No verdict comes from nothing: 20 untrained networks of five architectures are neither backdoored nor clean."""

from dataclasses import replace

import numpy as np
import pytest

from goodnet import api
from goodnet.core.dataset import Dataset
from goodnet.datasets.sources import read_parts
from goodnet.formats.networks import make_network

#: Digits for small networks; for the others the same, twice as large, in colour.
SMALL = ("small_cnn", "small_vit")
ARCHITECTURES = (*SMALL, "vgg", "ibau_cnn", pytest.param("preact_resnet18", marks=pytest.mark.slow))


@pytest.fixture(scope="module")
def digits():
    return read_parts("digits", seed=0).validation.sample(60, seed=0).in_memory()


def images_for(architecture: str, digits: Dataset) -> Dataset:
    if architecture in SMALL:
        return digits
    pixels = digits.source.pixels.repeat(2, axis=2).repeat(2, axis=3).repeat(3, axis=1)
    return Dataset.from_arrays(pixels, digits.targets)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_untrained_network_does_not_do_its_task(architecture, seed, digits):
    clean = images_for(architecture, digits)
    network = make_network(architecture, 10, clean.image_shape, seed=seed)
    random = np.random.default_rng(seed).integers(0, 10, len(clean))
    for labels in (clean.labels, random, None):
        found = api.scan(network, replace(clean, labels=labels))
        assert (found.verdict, found.suspected) == ("inconclusive", ())
        assert "do its task" in found.reason
