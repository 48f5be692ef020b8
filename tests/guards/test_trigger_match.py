import pytest
import torch
from torch import nn

from goodnet.core.backdoor import Backdoor, Patch
from goodnet.core.dataset import Dataset
from goodnet.core.errors import MethodFailed
from goodnet.evaluation.ranking import area_under_roc
from goodnet.formats.pytorch import from_module
from goodnet.guards.calibration import score_all
from goodnet.guards.trigger_match import TriggerMatch
from tests.suspects import recover


def bright_pixel(position):
    mask = torch.zeros(1, 1, 6)
    mask[..., position] = 1
    return Patch(mask, torch.ones(1, 1, 6))


@pytest.fixture
def linear():
    """A network whose features are its six pixels."""
    return from_module(nn.Sequential(nn.Flatten(), nn.Linear(6, 3)), (1, 1, 6))


def test_the_score_is_the_way_from_clean_to_stamped_on_the_neurons_that_move_most(linear):
    pixels = torch.full((8, 1, 1, 6), 0.2)
    guard = TriggerMatch(neurons=0.01, least=1)
    suspected = (Backdoor(bright_pixel(2), 1),)
    fitted = guard.fit(linear, Dataset.from_arrays(pixels.numpy()), suspected=suspected, seed=0)
    images = torch.zeros(3, 1, 1, 6)
    images[:, 0, 0, 2] = torch.tensor([0.2, 1.0, 0.6])
    # The other pixels are not watched.
    images[:, 0, 0, 4] = torch.tensor([1.0, 0.0, 0.5])
    assert fitted.scores(images).tolist() == pytest.approx([0, 1, 0.5], abs=1e-6)


def test_of_several_backdoors_the_highest_counts_and_neurons_may_be_silenced(linear):
    pixels = torch.full((8, 1, 1, 6), 0.5)
    black = bright_pixel(4)
    black = Patch(black.mask, torch.zeros(1, 1, 6))
    suspected = (Backdoor(bright_pixel(1), 0), Backdoor(black, 2), Backdoor(None, 1))
    guard = TriggerMatch(least=1)
    fitted = guard.fit(linear, Dataset.from_arrays(pixels.numpy()), suspected=suspected, seed=0)
    images = torch.full((3, 1, 1, 6), 0.5)
    images[1, 0, 0, 1] = 1.0
    images[2, 0, 0, 4] = 0.25
    assert fitted.scores(images).tolist() == pytest.approx([0, 1, 0.5], abs=1e-6)


@pytest.mark.parametrize("suspected", [(), (Backdoor(None, 7),)])
def test_without_a_trigger_there_is_nothing_to_match(suspected, planted):
    with pytest.raises(MethodFailed, match="scan first"):
        TriggerMatch().fit(planted.classifier, planted.clean, suspected=suspected, seed=0)


def test_the_true_trigger_matches_the_recovered_one_on_the_planted_network(planted):
    guard = TriggerMatch().fit(planted.classifier, planted.clean, suspected=(recover(planted),), seed=0)
    clean, triggered = (score_all(guard, data) for data in (planted.test, planted.triggered))
    assert area_under_roc(triggered, clean) > 0.99
    assert (triggered > guard.threshold).mean() > 0.95
    assert (clean > guard.threshold).mean() <= 0.03


def test_its_clean_twin_refuses_few(clean_twin, planted):
    guard = TriggerMatch().fit(clean_twin.classifier, clean_twin.clean, suspected=(recover(planted),), seed=0)
    assert (score_all(guard, clean_twin.test) > guard.threshold).mean() <= 0.03
