import numpy as np
import pytest

from goodnet.core.errors import InvalidOption
from goodnet.scanners.patch_probe import PatchProbe
from tests.suspects import measure_success


def test_the_planted_target_is_found_with_a_patch_that_works(planted):
    found = PatchProbe().scan(planted.classifier, planted.clean, seed=0)
    assert found.verdict == "backdoored"
    (backdoor,) = found.suspected
    assert backdoor.target == planted.backdoor.target
    assert backdoor.trigger.size in (9, 25)
    attacked = planted.test.subset(np.flatnonzero(planted.test.targets != planted.backdoor.target))
    success = measure_success(planted.classifier, attacked.images(), backdoor.trigger, backdoor.target)
    assert success.value >= 0.8
    assert "of further images to class 7" in found.reason


def test_of_the_clean_twin_nothing_is_said(clean_twin):
    found = PatchProbe().scan(clean_twin.classifier, clean_twin.clean, seed=0)
    assert (found.verdict, found.suspected) == ("inconclusive", ())
    assert max(found.scores) < 3


def test_sides_of_nothing_are_refused():
    with pytest.raises(InvalidOption, match="sides of at least 1 pixel"):
        PatchProbe.from_options(sides=(0, 3))
