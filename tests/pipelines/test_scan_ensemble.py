import numpy as np
import pytest
import torch

from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnreadableModel
from goodnet.evidence.judgement import BLEND, MARGIN, PAIR, SIZE, Evidence
from goodnet.formats.pytorch import from_module
from goodnet.pipelines.scan_ensemble import ScanEnsemble
from goodnet.pipelines.scan_rounds import Gathering
from tests.quadrant_networks import BACKDOORED, CLEAN, SOURCE, TARGET, draw_quadrants
from tests.suspects import measure_success


@pytest.mark.slow
def test_the_planted_network_is_guilty_of_its_target_and_no_other(planted):
    found = ScanEnsemble().scan(planted.classifier, planted.clean, seed=0)
    assert found.verdict == "backdoored"
    assert [backdoor.target for backdoor in found.suspected] == [planted.backdoor.target]
    # What is shown moves nearly all images, though evidence asks for three of four.
    trigger, images = found.suspected[0].trigger, planted.clean.images()
    assert measure_success(planted.classifier, images, trigger, planted.backdoor.target).value >= 0.9


@pytest.mark.slow
def test_its_clean_twin_is_not(clean_twin):
    found = ScanEnsemble().scan(clean_twin.classifier, clean_twin.clean, seed=0)
    assert (found.verdict, found.suspected) == ("clean", ())
    assert max(found.scores) < -np.log(5 * ScanEnsemble().alpha)
    assert "clean networks look like this" in found.reason


@pytest.mark.slow
def test_an_all_to_all_backdoor_makes_each_class_the_target_of_the_one_before(all_to_all, clean_twin):
    found = ScanEnsemble().scan(all_to_all, clean_twin.clean, seed=0)
    assert found.verdict == "backdoored"
    assert sorted((item.target, item.sources) for item in found.suspected) == [
        (label, ((label - 1) % 10,)) for label in range(10)
    ]
    assert "all to all" in found.reason


@pytest.mark.slow
def test_a_backdoor_from_one_class_is_found_with_its_source_and_its_clean_twin_is_clean():
    clean = Dataset.from_arrays(draw_quadrants(300).numpy(), np.arange(300) % 4)
    found, twin = (ScanEnsemble().scan(network, clean, seed=0) for network in (BACKDOORED, CLEAN))
    assert found.verdict == "backdoored"
    assert [(item.target, item.sources, item.name) for item in found.suspected] == [(TARGET, (SOURCE,), "ensemble")]
    assert "class 2 from class 1: pair of classes (p " in found.reason
    assert found.evidence[PAIR][TARGET] > found.threshold
    assert (twin.verdict, twin.suspected) == ("clean", ())


@pytest.mark.slow
def test_the_classes_that_are_too_few_to_be_a_source_are_named():
    labels = np.arange(300) % 4
    kept = np.concatenate([np.flatnonzero(labels != SOURCE), np.flatnonzero(labels == SOURCE)[:7]])
    clean = Dataset.from_arrays(draw_quadrants(300).numpy(), labels).subset(np.sort(kept))
    found = ScanEnsemble().scan(CLEAN, clean, seed=0)
    assert f"triggers that work on one of these classes alone were not looked for: {SOURCE};" in found.reason


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


def of_scores(*scores):
    """Return a stand-in for evidence that is judged like that, and for the mean of several rounds."""
    return Evidence(len(scores), {MARGIN: np.array(scores), BLEND: np.array(scores)})


def test_alpha_is_the_p_value_from_which_on_a_class_is_suspected(planted, monkeypatch):
    evidence = of_scores(*np.linspace(1.0, 1.1, 9), 2.0)
    monkeypatch.setattr(Gathering, "gather", lambda *_: evidence)
    monkeypatch.setattr(Gathering, "gather_again", lambda *_: evidence)
    found = ScanEnsemble().scan(planted.classifier, planted.clean, seed=0)
    assert found.threshold == pytest.approx(-np.log(0.01))
    p = float(np.exp(-max(found.scores)))
    verdicts = [
        ScanEnsemble(alpha=alpha).scan(planted.classifier, planted.clean, seed=0).verdict
        for alpha in (p * 1.01, p / 2, p / 4.9, p / 5.1)
    ]
    assert verdicts == ["backdoored", "inconclusive", "inconclusive", "clean"]


@pytest.mark.parametrize(("distance", "rounds"), [(-2.4, 1), (-2.2, 3), (0.0, 3), (2.2, 3), (2.4, 1)])
def test_where_a_p_value_is_within_a_factor_of_ten_of_alpha_three_rounds_are_gathered(
    planted, monkeypatch, distance, rounds
):
    gathered = []

    def gather(self, *given):
        gathered.append(self.seed)
        return of_scores(*np.linspace(1.0, 1.1, 9), 2.0)

    monkeypatch.setattr(Gathering, "gather", gather)
    monkeypatch.setattr(Gathering, "gather_like", gather)
    score = max(of_scores(*np.linspace(1.0, 1.1, 9), 2.0).judge(5.0).scores)
    found = ScanEnsemble(alpha=float(np.exp(distance - score))).examine(planted.classifier, planted.clean, seed=7)
    assert len(gathered) == rounds
    assert len(set(gathered)) == rounds
    assert ("mean of 3 rounds" in found.reason) == (rounds == 3)


def test_chance_in_one_round_accuses_nobody(clean_twin, monkeypatch):
    rows = iter([of_scores(*np.linspace(1.0, 1.1, 9), 1.9), *[of_scores(*np.linspace(1.0, 1.1, 10))] * 2])
    first = of_scores(*np.linspace(1.0, 1.1, 9), 1.9)
    alpha = float(np.exp(-max(first.judge(5.0).scores)) * 1.01)
    monkeypatch.setattr(Gathering, "gather", lambda *_: next(rows))
    monkeypatch.setattr(Gathering, "gather_like", lambda *_: next(rows))
    found = ScanEnsemble(alpha=alpha).examine(clean_twin.classifier, clean_twin.clean, seed=0)
    assert found.suspected == ()


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


def test_a_class_that_free_images_alone_reach_makes_the_verdict_of_few_classes_inconclusive(clean_twin, monkeypatch):
    alike = np.array([1.0, 1.2, 0.9, 1.1, 1.05, 0.95, 1.15, 0.85, 1.3, 1.25])
    evidence = Evidence(10, {MARGIN: np.where(np.arange(10) == 4, 40.0, alike), BLEND: alike})
    monkeypatch.setattr(Gathering, "gather", lambda *_: evidence)
    found = ScanEnsemble().scan(clean_twin.classifier, clean_twin.clean, seed=0)
    assert (found.verdict, found.suspected) == ("inconclusive", ())
    assert "gradient ascent reaches class 4 far more easily than the others" in found.reason
    evidence.values[MARGIN] = alike
    assert ScanEnsemble().scan(clean_twin.classifier, clean_twin.clean, seed=0).verdict == "clean"
