import numpy as np
import pytest
import torch

from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnreadableModel
from goodnet.evidence.judgement import BLEND, MARGIN, SIZE, Evidence
from goodnet.formats.pytorch import from_module
from goodnet.pipelines.scan_ensemble import ScanEnsemble, choose_inverted, choose_labels
from goodnet.triggers.patch_probe import Probes, Shares


def test_the_planted_network_is_guilty_of_its_target_and_no_other(planted):
    found = ScanEnsemble().scan(planted.classifier, planted.clean, seed=0)
    assert found.verdict == "backdoored"
    assert [backdoor.target for backdoor in found.suspected] == [planted.backdoor.target]
    assert found.suspected[0].trigger is not None


def test_its_clean_twin_is_not(clean_twin):
    found = ScanEnsemble().scan(clean_twin.classifier, clean_twin.clean, seed=0)
    assert (found.verdict, found.suspected) == ("clean", ())
    assert max(found.scores) < -np.log(5 * ScanEnsemble().alpha)
    assert "clean networks look like this" in found.reason


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


def test_alpha_is_the_p_value_from_which_on_a_class_is_suspected(planted):
    found = ScanEnsemble().scan(planted.classifier, planted.clean, seed=0)
    assert found.threshold == pytest.approx(-np.log(0.01))
    p = float(np.exp(-max(found.scores)))
    stricter = ScanEnsemble(alpha=p / 2).scan(planted.classifier, planted.clean, seed=0)
    assert (stricter.verdict, stricter.suspected) == ("inconclusive", ())
    assert stricter.scores == found.scores
    strictest = ScanEnsemble(alpha=p / 6).scan(planted.classifier, planted.clean, seed=0)
    assert strictest.verdict == "clean"


def test_of_many_classes_those_with_large_margins_and_some_controls_are_looked_into():
    margins = np.random.default_rng(0).normal(size=(1, 1283))
    labels = choose_labels(margins, seed=0)
    assert len(labels) == len(set(labels)) == 144
    assert set(np.argsort(-margins[0])[:112]) <= set(labels)
    assert choose_labels(margins[:, :150], seed=0) == list(range(150))
    margins[0, 3] = np.nan
    assert 3 not in choose_labels(margins[:, :150], seed=0)


def test_with_few_images_small_patches_are_not_tried_and_that_is_said(clean_twin):
    few, enough = (
        ScanEnsemble(steps=2).scan(clean_twin.classifier, clean_twin.clean.subset(range(count)), seed=0)
        for count in (29, 30)
    )
    assert "no small patches were tried: that takes 30 clean images" in few.reason
    assert "no small patches" not in enough.reason


def network_with(classes):
    """Return a network of random weights for images (3, 4, 4)."""
    torch.manual_seed(0)
    return from_module(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, classes)), (3, 4, 4))


@pytest.mark.parametrize("classes", [25, 20])
def test_triggers_are_inverted_for_twenty_classes_at_most(classes):
    images = np.random.default_rng(0).integers(0, 256, (60, 3, 4, 4), dtype=np.uint8)
    data = Dataset.from_arrays(images, np.arange(60) % classes)
    found = ScanEnsemble(steps=2).examine(network_with(classes), data, seed=0)
    assert np.isfinite(found.evidence[SIZE]).sum() == 20


def test_the_kinds_of_evidence_take_turns_to_name_the_classes_that_are_inverted():
    free, faint, patch = np.arange(40.0), -np.arange(40.0), torch.zeros(40)
    free[5], patch[33] = 100.0, 1.0
    faint[[0, 1]] = np.nan
    nowhere = torch.zeros(40, dtype=torch.int64)
    shares = Shares((), (), (), probes=Probes(patch, nowhere, nowhere, nowhere, nowhere))
    chosen = choose_inverted(Evidence(40, {MARGIN: free, BLEND: faint}), shares)
    # Maximum margins name 5, 39, 38 ... 34; the universal blend 2, 3, 4, then who is named already; patches 33, 0, 1 ...
    assert len(chosen) == 20
    assert {5, 39, 38, 37, 2, 3, 4, 33, 0, 1} <= set(chosen)
    assert not set(range(20, 30)) & set(chosen)
    alone = choose_inverted(Evidence(40, {MARGIN: free}), Shares((), (), ()))
    assert alone == sorted([5, *range(21, 40)])


def test_a_class_that_free_images_alone_reach_makes_the_verdict_of_few_classes_inconclusive(clean_twin, monkeypatch):
    alike = np.array([1.0, 1.2, 0.9, 1.1, 1.05, 0.95, 1.15, 0.85, 1.3, 1.25])
    evidence = Evidence(10, {MARGIN: np.where(np.arange(10) == 4, 40.0, alike), BLEND: alike})
    monkeypatch.setattr(ScanEnsemble, "gather", lambda *_, **__: evidence)
    found = ScanEnsemble().scan(clean_twin.classifier, clean_twin.clean, seed=0)
    assert (found.verdict, found.suspected) == ("inconclusive", ())
    assert "gradient ascent reaches class 4 far more easily than the others" in found.reason
    evidence.values[MARGIN] = alike
    assert ScanEnsemble().scan(clean_twin.classifier, clean_twin.clean, seed=0).verdict == "clean"
