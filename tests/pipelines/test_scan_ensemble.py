import numpy as np
import pytest
import torch

from goodnet.core.errors import UnreadableModel
from goodnet.pipelines.scan_ensemble import Evidence, ScanEnsemble, choose_labels


def test_the_planted_network_is_guilty_of_its_target_and_no_other(planted):
    found = ScanEnsemble().scan(planted.classifier, planted.clean, seed=0)
    assert found.verdict == "backdoored"
    assert [backdoor.target for backdoor in found.suspected] == [planted.backdoor.target]
    assert found.suspected[0].trigger is not None


def test_its_clean_twin_is_not(clean_twin):
    found = ScanEnsemble().scan(clean_twin.classifier, clean_twin.clean, seed=0)
    assert (found.verdict, found.suspected) == ("clean", ())
    assert max(found.scores) < 6


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
    assert found.verdict != "clean"


def test_outputs_that_are_not_finite_are_an_error(clean_twin):
    with torch.no_grad():
        next(clean_twin.classifier.network.parameters()).fill_(torch.nan)
    with pytest.raises(UnreadableModel, match="expected finite outputs"):
        ScanEnsemble().scan(clean_twin.classifier, clean_twin.clean, seed=0)


def test_scores_sum_the_positive_evidence_each_kind_capped():
    evidence = Evidence(4)
    evidence.kinds = {
        "one": np.array([40.0, 3.0, -2.0, np.nan]),
        "two": np.array([1.5, 2.5, 4.0, -1.0]),
    }
    assert evidence.scores.tolist() == [11.5, 5.5, 4.0, 0.0]
    assert evidence.suspects(5.0) == [0]


def test_a_further_target_has_a_fair_share_of_all_the_first_one_s_evidence():
    evidence = Evidence(3)
    evidence.kinds = {"one": np.array([20.0, 5.0, 1.0])}
    assert evidence.suspects(4.5) == [0, 1]
    evidence.kinds = {"one": np.array([40.0, 5.0, 1.0])}
    assert evidence.suspects(4.5) == [0]


def test_classes_without_time_are_counted_and_get_no_evidence():
    evidence = Evidence(5)
    evidence.add_margins("one", range(5), torch.tensor([1.0, torch.nan, 1.1, 1.2, 9.0]))
    assert evidence.unfinished == 1
    assert np.isnan(evidence.kinds["one"]).tolist() == [False, True, False, False, False]
    assert evidence.scores.argmax() == 4


def test_of_many_classes_those_with_large_margins_and_some_controls_are_inverted():
    margins = np.random.default_rng(0).normal(size=(1, 1283))
    labels = choose_labels(margins, seed=0)
    assert len(labels) == len(set(labels)) == 144
    assert set(np.argsort(-margins[0])[:112]) <= set(labels)
    assert choose_labels(margins[:, :150], seed=0) == list(range(150))
