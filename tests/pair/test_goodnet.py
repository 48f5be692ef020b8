"""The GoodNet against the plain predictions of its two networks."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from goodnet.core.errors import InvalidOption, WrongShape
from goodnet.formats.pytorch import from_module
from goodnet.pair.goodnet import GoodNet
from tests.plain_goodnet import combine, logits
from tests.small_networks import settle, tiny


def test_the_class_where_both_agree_and_n_where_they_differ(pair, images):
    expected = combine(logits(pair[0], images), logits(pair[1], images))
    assert 0 < (expected == 4).sum() < len(images)
    scores = GoodNet(*pair)(images)
    assert scores.shape == (150, 5)
    assert np.array_equal(scores.argmax(1).numpy(), expected)
    torch.testing.assert_close(scores.sum(1), torch.ones(150))


def test_the_scores_are_the_original_s_probabilities_or_all_on_n(pair, images):
    expected = combine(logits(pair[0], images), logits(pair[1], images))
    exponentials = np.exp(logits(pair[0], images).astype(np.float64))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    probabilities[expected == 4] = 0
    scores = GoodNet(*pair)(images).numpy()
    np.testing.assert_allclose(scores[:, :4], probabilities, atol=1e-6)
    assert np.array_equal(scores[:, 4], (expected == 4).astype(np.float32))


@pytest.mark.parametrize("input_range", ["0..1", "0..255"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_every_way_to_give_the_same_images_gives_the_same_answer(input_range, layout, pair, tiny_data):
    guard = GoodNet(*pair, input_range=input_range)
    pixels = tiny_data.source.pixels[:70]
    expected = combine(*(logits(net.with_input_range(input_range), torch.from_numpy(pixels) / 255) for net in pair))
    assert len(set(expected)) > 2
    given = pixels if layout == "NCHW" else pixels.transpose(0, 2, 3, 1)
    floats = given.astype(np.float32) / (1 if input_range == "0..255" else 255)
    for version in (given, floats, floats.astype(np.float64)):
        in_numpy, in_torch = guard(version), guard(torch.from_numpy(version.copy()))
        assert isinstance(in_numpy, np.ndarray)
        assert isinstance(in_torch, torch.Tensor)
        assert np.array_equal(in_numpy.argmax(axis=1), expected)
        assert np.array_equal(in_torch.argmax(1).numpy(), expected)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_a_shape_that_could_be_either_layout_is_read_as_the_original_s(layout):
    module = settle(nn.Sequential(nn.Flatten(), nn.Linear(27, 4)))
    original = from_module(module, (3, 3, 3))
    original.layout = layout
    given = np.random.default_rng(0).random((20, 3, 3, 3), dtype=np.float32)
    as_nchw = given if layout == "NCHW" else given.transpose(0, 3, 1, 2)
    expected = logits(original, torch.from_numpy(as_nchw.copy())).argmax(axis=1)
    assert np.array_equal(GoodNet(original, original.copy())(given).argmax(axis=1), expected)


@pytest.mark.parametrize("shape", [(3, 12, 12), (2, 3, 12, 13), (2, 1, 12, 12), (2, 12, 3, 12), (2, 3 * 144)])
def test_images_of_another_shape(shape, pair):
    with pytest.raises(WrongShape, match=r"expected images \(n, 12, 12, 3\) or \(n, 3, 12, 12\), got "):
        GoodNet(*pair)(np.zeros(shape, np.float32))


def test_no_images_give_no_answers(pair):
    assert GoodNet(*pair)(np.zeros((0, 12, 12, 3), np.uint8)).shape == (0, 5)


def test_two_networks_for_different_jobs(pair):
    other = from_module(tiny(classes=5), (3, 12, 12), name="other.pt")
    with pytest.raises(WrongShape, match=r"other\.pt takes .* knows 5; a GoodNet needs two networks for the same job"):
        GoodNet(pair[0], other)


def test_scores_are_above_zero_exactly_where_the_input_is_refused(pair, images):
    guard = GoodNet(*pair)
    original, repaired = logits(pair[0], images), logits(pair[1], images)
    refused = original.argmax(axis=1) != repaired.argmax(axis=1)
    scores = guard.scores(images).detach().numpy()
    assert guard.threshold == 0
    assert np.array_equal(scores > guard.threshold, refused)
    # The margin, image by image.
    for score, b, b_prime in zip(scores, original, repaired, strict=True):
        chosen = b.argmax()
        assert score == pytest.approx(np.delete(b_prime, chosen).max() - b_prime[chosen], abs=1e-5)


def test_answers_over_a_data_set(pair, tiny_data):
    predictions = GoodNet(*pair).predict_all(tiny_data)
    expected = [logits(net, tiny_data.images()) for net in pair]
    assert np.array_equal(predictions.original, expected[0].argmax(axis=1))
    assert np.array_equal(predictions.repaired, expected[1].argmax(axis=1))
    assert np.array_equal(predictions.goodnet, combine(*expected))
    assert np.array_equal(predictions.refused, combine(*expected) == 4)


@pytest.mark.parametrize("targets", [[0], [3, 1, 3], range(4)])
def test_outside_the_targets_nothing_is_refused(targets, pair, tiny_data):
    images = tiny_data.images()
    of_b, of_b_prime = (logits(net, images) for net in pair)
    expected = combine(of_b, of_b_prime, targets)
    guard = GoodNet(*pair, targets=targets)
    assert guard.targets == tuple(sorted(set(targets)))
    assert 0 < (expected == 4).sum() < 120
    if len(guard.targets) < 4:
        assert (expected == 4).sum() < (combine(of_b, of_b_prime) == 4).sum()
    assert np.array_equal(guard(images).argmax(1).numpy(), expected)
    predictions = guard.predict_all(tiny_data)
    assert np.array_equal(predictions.goodnet, expected)
    assert np.array_equal(predictions.refused, expected == 4)
    assert np.array_equal(guard.scores(images).detach().numpy() > 0, expected == 4)


def test_with_targets_a_score_is_the_smaller_of_two_margins(pair, images):
    scores = GoodNet(*pair, targets=[0, 2]).scores(images).detach().numpy()
    assert np.isfinite(scores).all()
    for score, b, b_prime in zip(scores, *(logits(net, images) for net in pair), strict=True):
        chosen = b.argmax()
        disagreement = np.delete(b_prime, chosen).max() - b_prime[chosen]
        prefers_a_target = max(b[0], b[2]) - max(b[1], b[3])
        assert score == pytest.approx(min(disagreement, prefers_a_target), abs=1e-5)


def test_every_class_as_target_is_no_targets(pair, images):
    torch.testing.assert_close(GoodNet(*pair, targets=range(4)).scores(images), GoodNet(*pair).scores(images))


@pytest.mark.parametrize("targets", [[], [4], [0, -1]])
def test_targets_that_are_no_classes(targets, pair):
    with pytest.raises(InvalidOption, match=r"expected targets out of its classes 0\.\.3, at least one .*; got \["):
        GoodNet(*pair, targets=targets)


def calls_of_layers(guard, images):
    """Run a GoodNet and count how often each layer, of B or B', runs."""
    calls = Counter()
    hooks = []
    for network in (guard.original.network, guard.repaired.network):
        for name, module in network.named_modules():
            if name and not list(module.children()):
                hooks.append(module.register_forward_hook(lambda *_, name=name: calls.update([name])))
    guard(images)
    for hook in hooks:
        hook.remove()
    return calls


def change(classifier, *layers):
    changed = classifier.copy()
    with torch.no_grad():
        for name in layers:
            changed.layer(name).weight.mul_(1.5)
    return changed


def test_shared_layers_run_once(deepid):
    guard = GoodNet(deepid, change(deepid, "conv_3"))
    images = torch.rand(5, 3, 55, 47, generator=torch.Generator().manual_seed(0))
    calls = calls_of_layers(guard, images)
    once = {"conv_1", "relu_1", "pool_1", "conv_2", "relu_2", "pool_2"}
    assert {name for name, count in calls.items() if count == 1} == once
    twice = {"conv_3", "relu_3", "pool_3", "conv_4", "relu_4", "fc_1", "fc_2", "activation_1", "output"}
    assert {name for name, count in calls.items() if count == 2} == twice
    for mine, plain in zip(guard.logits(images), (guard.original(images), guard.repaired(images)), strict=True):
        torch.testing.assert_close(mine, plain)


def test_pruned_channels_cost_no_second_convolution(deepid):
    pruned = deepid.copy()
    pruned.layer("pool_3").silence([0, 7, 30])
    guard = GoodNet(deepid, pruned)
    images = torch.rand(5, 3, 55, 47, generator=torch.Generator().manual_seed(0))
    assert calls_of_layers(guard, images)["conv_3"] == 1
    torch.testing.assert_close(guard.logits(images)[0], deepid(images))
    torch.testing.assert_close(guard.logits(images)[1], pruned(images))
    assert not torch.allclose(pruned(images), deepid(images))


def test_identical_networks_refuse_nothing_and_run_once(tiny_classifier, images):
    guard = GoodNet(tiny_classifier, tiny_classifier.copy())
    assert set(calls_of_layers(guard, images[:10]).values()) == {1}
    assert np.array_equal(guard(images).argmax(1).numpy(), logits(tiny_classifier, images).argmax(axis=1))


def test_networks_that_share_nothing(tiny_classifier, images):
    other = from_module(settle(tiny()), (3, 12, 12))
    guard = GoodNet(tiny_classifier, other)
    calls = calls_of_layers(guard, images[:10])
    assert set(calls.values()) == {2}
    expected = combine(logits(tiny_classifier, images), logits(other, images))
    assert np.array_equal(guard(images).argmax(1).numpy(), expected)


def test_networks_of_different_structure(tiny_classifier, images):
    other = from_module(settle(nn.Sequential(nn.Conv2d(3, 4, 5), nn.Flatten(), nn.Linear(256, 4))), (3, 12, 12))
    expected = combine(logits(tiny_classifier, images), logits(other, images))
    assert 4 in expected
    assert np.array_equal(GoodNet(tiny_classifier, other)(images).argmax(1).numpy(), expected)


def test_the_repaired_network_is_fed_as_the_original_is(pair):
    guard = GoodNet(pair[0].with_input_range("0..255"), pair[1])
    assert (guard.original.input_range, guard.repaired.input_range) == ("0..255", "0..255")


@pytest.mark.parametrize("targets", [None, [0, 2]])
def test_within_the_tolerance_nothing_is_refused(targets, pair, tiny_data, tmp_path):
    images = tiny_data.images()
    margins = GoodNet(*pair, targets=targets).disagreements(images).detach().numpy()
    before = GoodNet(*pair, targets=targets).predict_all(tiny_data).refused
    assert np.array_equal(margins > 0, before)
    # Between two margins: float32 rounds differently from one way of asking to another.
    ranked = np.sort(margins[before])
    tolerance = float(ranked[len(ranked) // 2 - 1 : len(ranked) // 2 + 1].mean())
    guard = GoodNet(*pair, targets=targets, tolerance=tolerance, input_range="0..1")
    expected = margins > tolerance
    assert 0 < expected.sum() < before.sum()
    for one in (
        guard,
        GoodNet.load(guard.save(tmp_path / "goodnet"), architecture="tests.small_networks:tiny"),
        guard.with_original(guard.original),
    ):
        assert np.array_equal(one.predict_all(tiny_data).refused, expected)
        assert np.array_equal(one(images).argmax(1).numpy() == 4, expected)
        assert np.array_equal(one.scores(images).detach().numpy() > one.threshold, expected)


@pytest.mark.parametrize("tolerance", [-0.1, float("nan"), float("inf")])
def test_a_tolerance_that_is_none(tolerance, pair):
    with pytest.raises(InvalidOption, match="expected a finite tolerance of 0 or more"):
        GoodNet(*pair, tolerance=tolerance)
