from goodnet.scanners.max_margin import MaxMargin, margin_scores


def test_the_planted_target_has_the_largest_margin(planted, clean_twin):
    with_backdoor = margin_scores(planted.classifier, starts=2, steps=40, seed=0)
    without = margin_scores(clean_twin.classifier, starts=2, steps=40, seed=0)
    target = planted.backdoor.target
    assert with_backdoor.argmax() == target
    assert with_backdoor[target] > without[target]


def test_verdicts_follow_the_threshold_and_never_say_clean(planted, clean_twin):
    low = MaxMargin(threshold=0.1).scan(clean_twin.classifier, clean_twin.clean, seed=0)
    assert low.verdict == "inconclusive", "with 10 classes the threshold is never below the expected maximum"
    assert low.threshold > 3
    high = MaxMargin().scan(planted.classifier, planted.clean, seed=0)
    assert (high.verdict, len(high.scores), high.threshold) == ("inconclusive", 10, 6.0)
