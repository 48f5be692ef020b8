import numpy as np
import torch

from goodnet.algorithms.maximum_margin import maximum_margins
from goodnet.scanners.max_margin import MaxMargin, margin_scores


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
