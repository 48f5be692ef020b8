import numpy as np
import pytest
import torch

from goodnet.algorithms.evidence import Measured
from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnreadableModel
from goodnet.formats.pytorch import from_module
from goodnet.pipelines.scan_ensemble import ScanEnsemble, choose_labels
from goodnet.scanners.last_layer import row_scores


def test_the_planted_network_is_guilty_of_its_target_and_no_other(planted):
    found = ScanEnsemble().scan(planted.classifier, planted.clean, seed=0)
    assert found.verdict == "backdoored"
    assert [backdoor.target for backdoor in found.suspected] == [planted.backdoor.target]
    assert found.suspected[0].trigger is not None


def test_its_clean_twin_is_not(clean_twin):
    found = ScanEnsemble().scan(clean_twin.classifier, clean_twin.clean, seed=0)
    assert (found.verdict, found.suspected) == ("clean", ())
    assert max(found.scores) < ScanEnsemble().doubt


def test_an_all_to_all_backdoor_makes_each_class_the_target_of_the_one_before(all_to_all, clean_twin):
    found = ScanEnsemble().scan(all_to_all, clean_twin.clean, seed=0)
    assert found.verdict == "backdoored"
    assert sorted((item.target, item.sources) for item in found.suspected) == [
        (label, ((label - 1) % 10,)) for label in range(10)
    ]
    assert "all to all" in found.reason


@pytest.mark.parametrize(
    ("choose", "why"),
    [
        (lambda labels: np.arange(5), "only 5 clean images"),
        (lambda labels: np.flatnonzero(labels == 3), "of one class|the same class"),
    ],
)
def test_data_that_cannot_carry_a_verdict_is_inconclusive(clean_twin, choose, why):
    clean = clean_twin.clean.subset(choose(clean_twin.clean.targets))
    found = ScanEnsemble(steps=5).scan(clean_twin.classifier, clean, seed=0)
    assert found.verdict == "inconclusive"
    assert any(words in found.reason for words in why.split("|"))


def test_a_network_with_one_answer_for_everything_is_never_clean(clean_twin):
    with torch.no_grad():
        for parameter in clean_twin.classifier.network.parameters():
            parameter.zero_()
    found = ScanEnsemble(steps=5).scan(clean_twin.classifier, clean_twin.clean, seed=0)
    assert (found.verdict, found.suspected) == ("inconclusive", ())


def test_outputs_that_are_not_finite_are_an_error(clean_twin):
    with torch.no_grad():
        next(clean_twin.classifier.network.parameters()).fill_(torch.nan)
    with pytest.raises(UnreadableModel, match="expected finite outputs"):
        ScanEnsemble().scan(clean_twin.classifier, clean_twin.clean, seed=0)


def test_of_many_classes_those_with_large_margins_and_some_controls_are_inverted():
    margins = np.random.default_rng(0).normal(size=(1, 1283))
    labels = choose_labels(margins, seed=0)
    assert len(labels) == len(set(labels)) == 144
    assert set(np.argsort(-margins[0])[:112]) <= set(labels)
    assert choose_labels(margins[:, :150], seed=0) == list(range(150))


def ends(classes, linear):
    """Return a network of random weights for images (3, 4, 4) that ends in a linear layer, or in a mean over the image."""
    torch.manual_seed(0)
    pool = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    last = [torch.nn.Flatten(), torch.nn.Linear(48, classes)] if linear else [torch.nn.Conv2d(3, classes, 1), *pool]
    return from_module(torch.nn.Sequential(*last), (3, 4, 4))


@pytest.mark.parametrize(("classes", "linear", "counted"), [(25, True, True), (20, True, False), (25, False, False)])
def test_rows_of_a_linear_end_count_among_many_classes(classes, linear, counted):
    network = ends(classes, linear)
    images = np.random.default_rng(0).integers(0, 256, (30, 3, 4, 4), dtype=np.uint8)
    found = ScanEnsemble(steps=2).examine(network, Dataset.from_arrays(images, np.arange(30) % classes), seed=0)
    assert ("last layer" in found.evidence) is counted
    if counted:
        expected = Measured(row_scores(network), normal=False, floor=0.0).surprise(np.ones(classes, bool))
        assert found.evidence["last layer"] == pytest.approx(expected)
