import numpy as np
import pytest
import torch

from goodnet.core.dataset import Dataset
from goodnet.core.errors import InvalidOption
from goodnet.formats.pytorch import from_module
from goodnet.scanners.adversarial_patch import AdversarialPatch
from tests.spot_networks import BACKDOORED, CLEAN, COLUMNS, ROWS, TARGET, draw_spots
from tests.suspects import measure_success


def test_the_planted_target_is_found_with_a_square_that_works():
    found = AdversarialPatch().scan(BACKDOORED, draw_spots(120), seed=0)
    assert found.verdict == "backdoored"
    (backdoor,) = found.suspected
    assert (backdoor.target, backdoor.name) == (TARGET, "adversarial_patch")
    assert backdoor.trigger.mask[0, ROWS, COLUMNS].min() == 1
    assert backdoor.trigger.size == 9
    further = draw_spots(120, seed=1)
    attacked = further.subset(np.flatnonzero(further.targets != TARGET))
    assert measure_success(BACKDOORED, attacked.images(), backdoor.trigger, TARGET).value >= 0.9
    assert found.reason.startswith("class 4 stands out most, with p = ")


def test_of_the_clean_twin_nothing_is_said():
    found = AdversarialPatch().scan(CLEAN, draw_spots(120), seed=0)
    assert (found.verdict, found.suspected) == ("inconclusive", ())
    assert max(found.scores) < 1


def test_three_classes_are_not_compared():
    network = from_module(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)), (1, 8, 8))
    pixels = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = network(pixels).argmax(dim=1).numpy()
    found = AdversarialPatch(steps=1).scan(network, Dataset.from_arrays(pixels.numpy(), labels), seed=0)
    assert (found.verdict, found.unscanned) == ("inconclusive", (0, 1, 2))
    assert "fewer than 4 classes" in found.reason


@pytest.mark.parametrize("option", ["side", "grid", "steps", "images"])
def test_nothing_to_do_is_refused(option):
    with pytest.raises(InvalidOption, match=option):
        AdversarialPatch.from_options(**{option: 0})


def test_a_square_larger_than_the_image_is_refused():
    with pytest.raises(InvalidOption, match="side"):
        AdversarialPatch.from_options(side=33)
