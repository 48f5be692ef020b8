import numpy as np

from goodnet.scanners.neural_cleanse import NeuralCleanse
from tests.suspects import measure_success


def test_the_planted_target_is_found_and_its_trigger_works_on_images_not_seen(planted):
    found = NeuralCleanse(steps=200, images=16).scan(planted.classifier, planted.clean, seed=0)
    assert found.verdict == "backdoored"
    assert [backdoor.target for backdoor in found.suspected] == [planted.backdoor.target]
    trigger = found.suspected[0].trigger
    attacked = planted.test.subset(np.flatnonzero(planted.test.targets != planted.backdoor.target))
    success = measure_success(planted.classifier, attacked.images(), trigger, planted.backdoor.target)
    assert success.value >= 0.8


def test_the_clean_twin_is_called_clean(clean_twin):
    found = NeuralCleanse(steps=200, images=16).scan(clean_twin.classifier, clean_twin.clean, seed=0)
    assert (found.verdict, found.suspected, found.unscanned) == ("clean", (), ())


def test_classes_left_out_are_named_and_forbid_the_verdict_clean(clean_twin):
    found = NeuralCleanse(labels=(0, 3, 5), steps=30).scan(clean_twin.classifier, clean_twin.clean, seed=0)
    assert found.unscanned == (1, 2, 4, 6, 7, 8, 9)
    assert found.scores[1] == -np.inf
    assert found.verdict != "clean"


def test_a_search_too_short_to_find_triggers_is_no_verdict(planted):
    found = NeuralCleanse(steps=5).scan(planted.classifier, planted.clean, seed=0)
    assert (found.verdict, found.suspected) == ("inconclusive", ())
    assert "take more steps" in found.reason
