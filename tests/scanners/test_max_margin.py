import numpy as np
import pytest
import torch

from goodnet.scanners.max_margin import MaxMargin, gamma_p_value, margin_scores
from goodnet.triggers.maximum_margin import maximum_margins, published_margins


def score(classifier):
    return margin_scores(classifier, maximum_margins(classifier, starts=2, readings=(40,), seed=0)[0])


def test_the_planted_target_has_the_largest_margin(planted, clean_twin):
    with_backdoor, without = score(planted.classifier), score(clean_twin.classifier)
    target = planted.backdoor.target
    assert with_backdoor.argmax() == target
    assert with_backdoor[target] > without[target]


def test_classes_without_a_margin_are_unscanned(planted):
    margins = maximum_margins(planted.classifier, starts=1, readings=(2,), seed=0)[0]
    margins[3] = torch.nan
    scores = margin_scores(planted.classifier, margins)
    assert np.flatnonzero(np.isneginf(scores)).tolist() == [3]


def test_verdicts_follow_the_threshold_and_never_say_clean(planted, clean_twin):
    low = MaxMargin(threshold=0.1).scan(clean_twin.classifier, clean_twin.clean, seed=0)
    assert low.verdict == "inconclusive", "with 10 classes the threshold is never below the expected maximum"
    assert low.threshold > 3
    high = MaxMargin().scan(planted.classifier, planted.clean, seed=0)
    assert (high.verdict, len(high.scores), high.threshold) == ("inconclusive", 10, 6.0)


def test_as_published_the_largest_margin_is_tested_against_a_gamma_distribution_of_the_others():
    draws = np.random.default_rng(0)
    alike = [gamma_p_value(draws.gamma(9.0, 2.0, 12)) for _ in range(60)]
    assert 0.05 < np.median(alike) < 0.9
    outlier = draws.gamma(9.0, 2.0, 12)
    outlier[5] = 90.0
    assert gamma_p_value(outlier) < 1e-3


def test_as_published_the_verdict_is_that_of_the_p_value(planted, clean_twin):
    scanner = MaxMargin(published=True, starts=4, steps=60)
    found = scanner.scan(clean_twin.classifier, clean_twin.clean, seed=0)
    margins = published_margins(clean_twin.classifier, starts=4, steps=60, seed=0)
    p, label = gamma_p_value(margins.double().numpy()), int(margins.argmax())
    assert found.scores[label] == pytest.approx(-np.log(p))
    assert sum(score != 0 for score in found.scores) == 1
    assert found.verdict == ("backdoored" if p < 0.05 else "clean")
    assert [item.target for item in found.suspected] == ([label] if p < 0.05 else [])


def test_without_time_for_all_classes_the_published_test_says_nothing(planted):
    found = MaxMargin(published=True).examine(
        planted.classifier, planted.clean, seed=0, run_parts=lambda stage, f, common, parts, p: [None] * len(parts)
    )
    assert found.verdict == "inconclusive"
