"""What holds for every scanner: the order of the images says nothing, and nothing is said of a network without a task."""

import numpy as np
import pytest
import torch

from goodnet import api, catalog
from goodnet.core.dataset import Dataset
from goodnet.pipelines.scan_ensemble import ScanEnsemble

#: Little work: what is tested does not hang on how long a scan looks.
SHORT = {"neural_cleanse": {"steps": 3}, "clean_student": {"steps": 3, "lessons": 100}}
SCANNERS = [
    ScanEnsemble(steps=3),
    *(catalog.find("scanners", name)(**SHORT.get(name, {})) for name in catalog.own_names("scanners")),
]


@pytest.mark.slow
@pytest.mark.parametrize("scanner", SCANNERS, ids=lambda scanner: scanner.name())
def test_three_orders_of_the_same_images_give_the_same_bytes(scanner, planted):
    clean = planted.clean.sample(100, seed=1).in_memory()
    draws = np.random.default_rng(0)
    orders = [np.argsort(clean.targets, kind="stable"), *(draws.permutation(len(clean)) for _ in range(2))]
    found = set()
    for order in orders:
        again = Dataset.from_arrays(clean.source.pixels[order], clean.targets[order])
        found.add(api.scan(planted.classifier, again, method=scanner).to_json())
    assert len(found) == 1


@pytest.mark.parametrize("scanner", SCANNERS, ids=lambda scanner: scanner.name())
def test_nothing_is_said_of_a_network_that_does_not_do_its_task(scanner, clean_twin):
    with torch.no_grad():
        clean_twin.classifier.layer("output").module.weight.zero_()
    for clean in (clean_twin.clean, Dataset.from_arrays(clean_twin.clean.in_memory().source.pixels)):
        found = scanner.scan(clean_twin.classifier, clean, seed=0)
        assert (found.verdict, found.suspected, len(found.unscanned)) == ("inconclusive", (), 10)
        assert "do its task" in found.reason


@pytest.mark.parametrize("scanner", SCANNERS, ids=lambda scanner: scanner.name())
@pytest.mark.parametrize(
    ("choose", "why"),
    [
        (lambda labels: np.arange(5), "only 5 clean images"),
        (lambda labels: np.flatnonzero(labels == 7), "of one class"),
    ],
)
def test_images_that_cannot_carry_a_verdict_are_inconclusive(choose, why, scanner, planted):
    clean = planted.clean.subset(choose(planted.clean.targets))
    found = scanner.scan(planted.classifier, clean, seed=0)
    assert (found.verdict, found.suspected) == ("inconclusive", ())
    assert why in found.reason
