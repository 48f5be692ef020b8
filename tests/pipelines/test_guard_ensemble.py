import numpy as np
import pytest
import torch
from torch import nn

from goodnet.core.backdoor import Backdoor
from goodnet.core.dataset import Dataset
from goodnet.core.errors import MethodFailed, WrongShape
from goodnet.evaluation.ranking import area_under_roc
from goodnet.formats.data import read_data
from goodnet.formats.networks import read_network
from goodnet.formats.pytorch import from_module
from goodnet.guards.calibration import score_all
from goodnet.guards.mahalanobis import Mahalanobis
from goodnet.pipelines.guard_ensemble import GuardEnsemble, Opinion, oddity
from goodnet.repairers.unlearning import Unlearning
from tests.small_networks import Residual, Untraceable, settle, tiny
from tests.suspects import recover


def rates(guard, twin):
    """AUROC of triggered against clean test images, and the shares of both that are refused."""
    clean, triggered = (score_all(guard, data) for data in (twin.test, twin.triggered))
    return (
        area_under_roc(triggered, clean),
        (triggered > guard.threshold).mean(),
        (clean > guard.threshold).mean(),
    )


def test_deviations_are_measured_by_the_wider_of_middle_and_upper_tail():
    even = np.arange(101.0)  # median 50, median absolute deviation 25, 0.95 of them up to 95
    opinion = Opinion.of(None, even)
    assert (opinion.median, opinion.spread) == (50, pytest.approx(1.4826 * 25))
    np.testing.assert_allclose(opinion.clean, (even - 50) / opinion.spread)
    tailed = np.where(even > 90, 1000 * even, even)
    assert Opinion.of(None, tailed).spread == pytest.approx((95_000 - 50) / 1.645)
    assert Opinion.of(None, np.ones(5)).clean.tolist() == [0] * 5


@pytest.mark.parametrize(("general", "expected"), [(3, [1.5, 5.5]), (2, [1.0, 5.5]), (5, [5.5, 5.5])])
def test_oddity_is_the_sum_of_what_is_above_0_and_all_opinions_count_on_targets_only(general, expected):
    deviations = np.array([[1.0, 1.0], [-3.0, -3.0], [0.5, 0.5], [4.0, 4.0], [-9.0, -9.0]])
    assert oddity(deviations, np.array([False, True]), general).tolist() == expected


def test_what_is_nearly_called_a_target_stands_out_with_a_repaired_network(planted):
    suspected = [Backdoor(None, planted.backdoor.target)]
    repaired = Unlearning().repair(planted.classifier, planted.clean, suspected=(recover(planted),), seed=0).classifier
    clean = planted.test.images()
    nearly = torch.lerp(clean, planted.backdoor.trigger(clean), 0.35)
    with torch.inference_mode():
        calls = [planted.classifier(images).argmax(dim=1) for images in (clean, nearly)]
    nearly, clean = (
        images[call != planted.backdoor.target] for images, call in zip((nearly, clean), calls[::-1], strict=True)
    )
    areas = []
    for network in (None, repaired):
        guard = GuardEnsemble().fit(planted.classifier, planted.clean, suspected=suspected, repaired=network, seed=0)
        areas.append(area_under_roc(guard.scores(nearly).numpy(), guard.scores(clean).numpy()))
    assert len(nearly) > 50
    assert areas[1] > areas[0] + 0.02


def test_with_suspects_triggered_images_of_the_planted_network_are_refused(planted):
    suspected = (recover(planted),)
    repaired = Unlearning().repair(planted.classifier, planted.clean, suspected=suspected, seed=0).classifier
    guard = GuardEnsemble().fit(planted.classifier, planted.clean, suspected=suspected, repaired=repaired, seed=0)
    assert guard.targets == (planted.backdoor.target,)
    assert len(guard.opinions) == 5
    area, caught, refused = rates(guard, planted)
    assert area > 0.99
    assert caught > 0.95
    assert refused <= guard.calibration.bound


def test_with_nothing_suspected_it_fuses_and_is_hardly_worse_than_the_best(planted):
    guard = GuardEnsemble().fit(planted.classifier, planted.clean, seed=0)
    assert guard.targets == ()
    assert len(guard.opinions) == 3
    area, caught, refused = rates(guard, planted)
    best, _, _ = rates(Mahalanobis().fit(planted.classifier, planted.clean, seed=0), planted)
    assert area >= best - 0.01
    assert caught > 0.9
    assert refused <= guard.calibration.bound


@pytest.mark.parametrize("targets", [(), (7,), (1, 2)])
def test_its_clean_twin_refuses_few_whatever_is_suspected(clean_twin, targets):
    suspected = tuple(Backdoor(None, target) for target in targets)
    guard = GuardEnsemble().fit(clean_twin.classifier, clean_twin.clean, suspected=suspected, seed=0)
    refused = score_all(guard, clean_twin.test) > guard.threshold
    assert refused.mean() <= 0.03
    if targets:
        classes = clean_twin.classifier(clean_twin.test.images()).argmax(dim=1).numpy()
        assert refused[~np.isin(classes, targets)].mean() <= 0.01


def test_on_a_suspected_target_an_image_leads_those_of_other_classes(planted):
    suspected = (Backdoor(None, 3),)
    guard = GuardEnsemble().fit(planted.classifier, planted.clean, suspected=suspected, seed=0)
    images = planted.test.images()
    on_target = planted.classifier(images).argmax(dim=1) == 3
    scores = guard.scores(images)
    assert guard.lead > 0
    assert (scores[on_target] >= guard.lead - 1e-5).all()
    assert (scores[~on_target] < guard.lead).float().mean() > 0.95
    deviations = torch.stack([opinion.judge(images) for opinion in guard.opinions]).detach()
    torch.testing.assert_close(scores, deviations.clamp_min(0).sum(dim=0) + guard.lead * on_target)


def test_fifty_images_of_the_contest_s_network(csaw):
    classifier, clean = read_network(csaw / "sunglasses_bd_net.h5"), read_data(csaw / "clean_validation_data.h5")
    guard = GuardEnsemble().fit(classifier, clean, suspected=(Backdoor(None, 0),), seed=0)
    test, triggered = (
        score_all(guard, read_data(csaw / name)) for name in ("clean_test_data.h5", "sunglasses_poisoned_data.h5")
    )
    assert (triggered > guard.threshold).mean() >= 0.98
    assert (test > guard.threshold).mean() <= 0.02
    assert guard.calibration.n == 50


@pytest.mark.parametrize(
    "module", [tiny(), settle(Residual()), settle(Untraceable())], ids=["no batch norm", "batch norm", "one node"]
)
def test_any_network_and_few_images(module):
    classifier = from_module(module, (3, 12, 12))
    images = np.random.default_rng(0).random((12, 3, 12, 12), dtype=np.float32)
    guard = GuardEnsemble().fit(classifier, Dataset.from_arrays(images), seed=0)
    assert guard.calibration.expected == pytest.approx(1 / 13)
    assert torch.isfinite(guard.scores(torch.from_numpy(images))).all()


def test_what_cannot_be_guarded(planted):
    with pytest.raises(MethodFailed, match="at least 2 clean images"):
        GuardEnsemble().fit(planted.classifier, planted.clean.subset([0]), seed=0)
    with pytest.raises(WrongShape):
        GuardEnsemble().fit(planted.classifier, Dataset.from_arrays(np.zeros((9, 3, 16, 16), np.float32)), seed=0)
    other = from_module(nn.Sequential(nn.Flatten(), nn.Linear(256, 4)), (1, 16, 16))
    with pytest.raises(WrongShape, match="two networks for the same job"):
        GuardEnsemble().fit(planted.classifier, planted.clean, suspected=(Backdoor(None, 7),), repaired=other, seed=0)
