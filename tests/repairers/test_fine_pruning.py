"""Fine-pruning in both forms: what is pruned, that it stays pruned, and what it costs."""

import numpy as np
import pytest
import torch

from goodnet.core.errors import InvalidOption, UnknownMethod
from goodnet.formats.pytorch import from_module
from goodnet.inference.predictions import measure_accuracy
from goodnet.repairers.fine_pruning import FinePruning, last_allowed
from tests.small_networks import Untraceable


def kernels(classifier):
    return {name: value for name, value in classifier.network.named_parameters() if value.ndim > 1}


def share_of_zeros(classifier):
    return {name: float((value == 0).float().mean()) for name, value in kernels(classifier).items()}


@pytest.mark.parametrize(
    ("correct", "n", "drop", "level"),
    [
        ([50, 50, 49, 47, 49], 50, 0.02, 2),  # one of fifty is exactly 0.02, and is allowed
        ([50, 50, 49, 47, 49], 50, 0.06, 4),
        ([98, 96, 98, 90], 100, 0.01, 0),  # what lies beyond a first fall is out of reach
        ([98, 99, 98, 97], 100, 0.0, 2),
        ([98, 0, 0], 100, 1.0, 2),
    ],
)
def test_last_allowed(correct, n, drop, level):
    assert last_allowed(correct, n, drop) == level


@pytest.mark.parametrize("drop", [0.0, 0.05, 0.3])
def test_as_many_dormant_channels_go_as_the_drop_allows(tiny_classifier, tiny_data, drop):
    repair = FinePruning(max_accuracy_drop=drop, epochs=1).repair(tiny_classifier, tiny_data, seed=0)
    pruned = repair.steps[0]
    means = tiny_classifier.features(tiny_data.images(), "pool_2").detach().double().mean(dim=(0, 2, 3)).numpy()
    gone = list(pruned.changes.channels_pruned)
    assert gone == np.argsort(means, kind="stable")[: len(gone)].tolist()
    before = repair.accuracy_before.value
    assert before - measure_accuracy(pruned.classifier, tiny_data).value <= drop + 1e-9
    one_more = tiny_classifier.copy()
    one_more.layer("pool_2").silence(repair.trace.sweep.channels[: len(gone) + 1])
    assert before - measure_accuracy(one_more, tiny_data).value > drop
    assert repair.trace.sweep.pruned_at_threshold == {drop: len(gone)}
    assert repair.trace.sweep.accuracy[len(gone)] == pruned.accuracy.value


def test_silenced_channels_stay_silent_in_training(tiny_classifier, tiny_data):
    method = FinePruning(max_accuracy_drop=0.3, epochs=3, learning_rate=1e-2)
    repair = method.repair(tiny_classifier, tiny_data, seed=0)
    gone = list(repair.recommended.changes.channels_pruned)
    assert gone
    assert [network.name for network in (*repair.steps, *repair.networks)] == ["pruned", "repaired"]
    assert repair.recommended.accuracy.value > repair.steps[0].accuracy.value, "training makes good what pruning took"
    features = repair.classifier.features(tiny_data.images(), "pool_2").detach()
    active = (features != 0).any(dim=3).any(dim=2).any(dim=0)
    assert (~active).nonzero().flatten().tolist() == sorted(gone)
    for name in ("weight", "bias"):
        values = getattr(repair.classifier.layer("conv_2").module, name)
        assert not values[gone].any()


def test_sparsity_rises_along_the_schedule_and_zeros_stay(tiny_classifier, tiny_data):
    method = FinePruning(rounds=3, sparsity=0.6, max_accuracy_drop=1, epochs=2, learning_rate=1e-3)
    repair = method.repair(tiny_classifier, tiny_data, seed=0)
    networks = (*repair.steps, *repair.networks)
    assert [network.name for network in networks] == [
        f"round_{number}_{state}" for number in (1, 2, 3) for state in ("pruned", "repaired")
    ]
    # 0.6 * (1 - (2/3)^3), 0.6 * (1 - (1/3)^3), 0.6
    for pair, wanted in zip(zip(networks[::2], networks[1::2], strict=True), (19 / 45, 26 / 45, 0.6), strict=True):
        pruned, repaired = pair
        assert pruned.changes.sparsity == pytest.approx(wanted, abs=1e-4)
        for name, value in kernels(pruned.classifier).items():
            zeros = value == 0
            assert int(zeros.sum()) == round(wanted * value.numel())
            assert torch.equal(kernels(repaired.classifier)[name] == 0, zeros), "masked in training, and only those"
        assert not torch.equal(*(kernels(item.classifier)["output.weight"] for item in pair))
    first, last = kernels(networks[0].classifier), kernels(networks[-1].classifier)
    assert all((last[name][value == 0] == 0).all() for name, value in first.items())
    assert repair.recommended.changes.weights_pruned == sum(int((v == 0).sum()) for v in last.values())


def test_a_round_stops_where_accuracy_would_fall_further_than_allowed(tiny_classifier, tiny_data):
    limited = FinePruning(rounds=2, sparsity=0.97, max_accuracy_drop=0.02, epochs=1, learning_rate=1e-6)
    repair = limited.repair(tiny_classifier, tiny_data, seed=0)
    before = repair.accuracy_before.value
    for network in repair.steps[::2]:
        assert before - network.accuracy.value <= 0.02 + 1e-9
    first, second = (network.changes.sparsity for network in repair.steps[::2])
    assert first <= second < 0.97
    free = FinePruning(rounds=2, sparsity=0.97, max_accuracy_drop=1, epochs=1, learning_rate=1e-6)
    assert before - free.repair(tiny_classifier, tiny_data, seed=0).recommended.accuracy.value > 0.02


@pytest.mark.parametrize("rounds", [0, 3])
def test_the_clean_twin_keeps_its_accuracy(clean_twin, rounds):
    repair = FinePruning(rounds=rounds).repair(clean_twin.classifier, clean_twin.clean, seed=0)
    before = measure_accuracy(clean_twin.classifier, clean_twin.test).value
    assert measure_accuracy(repair.classifier, clean_twin.test).value >= before - 0.02


def test_layer_by_name_and_networks_without_one(tiny_classifier, tiny_data):
    repair = FinePruning(layer="conv_1", epochs=1).repair(tiny_classifier, tiny_data, seed=0)
    assert repair.recommended.changes.layer == "conv_1"
    with pytest.raises(UnknownMethod, match="no layer 'nowhere'"):
        FinePruning(layer="nowhere").repair(tiny_classifier, tiny_data, seed=0)
    closed = from_module(Untraceable(4), (3, 12, 12))
    with pytest.raises(UnknownMethod, match="no layer of feature maps"):
        FinePruning().repair(closed, tiny_data, seed=0)


@pytest.mark.parametrize("options", [{"sparsity": 1.0}, {"sparsity": 0.0}, {"rounds": -1}, {"max_accuracy_drop": 1.1}])
def test_options_outside_their_bounds(options):
    with pytest.raises(InvalidOption, match="fine_pruning: option"):
        FinePruning.from_options(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"rounds": 2, "layer": "conv_2"}, "'layer' is for channels"), ({"sparsity": 0.5}, "'sparsity' is for rounds")],
)
def test_an_option_that_would_do_nothing_is_refused(options, words):
    with pytest.raises(InvalidOption, match=words):
        FinePruning.from_options(**options)
