import numpy as np
import pytest
import torch

from goodnet.core.errors import UnknownMethod
from goodnet.formats.pytorch import from_module
from goodnet.surgery import channels
from goodnet.surgery.channels import (
    HeadOutputs,
    count_matches,
    find_prunable_layer,
    mean_activations,
    sweep_predictions,
)
from tests.small_networks import Residual


def test_mean_activations_are_the_mean_over_images_and_places(tiny_classifier, tiny_data):
    features = tiny_classifier.features(tiny_data.images(), "pool_2")
    expected = features.detach().double().mean(dim=(0, 2, 3)).numpy()
    np.testing.assert_allclose(mean_activations(HeadOutputs(tiny_classifier, tiny_data, "pool_2")), expected, rtol=1e-6)


def test_sweep_gives_the_answers_of_networks_that_are_really_pruned(tiny_classifier, tiny_data):
    order = [5, 0, 3, 1, 2, 4]
    predictions = sweep_predictions(HeadOutputs(tiny_classifier, tiny_data, "pool_2"), order)
    assert predictions.shape == (7, len(tiny_data))
    for level in range(7):
        pruned = tiny_classifier.copy()
        pruned.layer("pool_2").silence(order[:level])
        with torch.no_grad():
            expected = pruned(tiny_data.images()).argmax(dim=1).numpy()
        np.testing.assert_array_equal(predictions[level], expected, err_msg=f"level {level}")


def test_sweep_through_a_residual_network(tiny_data):
    torch.manual_seed(0)
    classifier = from_module(Residual(), (3, 12, 12))
    layer = find_prunable_layer(classifier)
    order = list(range(layer.channels))
    predictions = sweep_predictions(HeadOutputs(classifier, tiny_data, layer.name), order)
    pruned = classifier.copy()
    pruned.layer(layer.name).silence(order[:4])
    with torch.no_grad():
        np.testing.assert_array_equal(predictions[4], pruned(tiny_data.images()).argmax(dim=1).numpy())


def test_head_runs_once_per_image_and_the_tail_only_where_a_channel_was_active(tiny_classifier, tiny_data):
    outputs = HeadOutputs(tiny_classifier, tiny_data, "pool_2")
    head, tail = outputs.head, outputs.tail
    runs = {"head": 0, "tail": 0}

    def count_head(images):
        runs["head"] += len(images)
        return head(images)

    def count_tail(values):
        runs["tail"] += len(values[0])
        return tail(values)

    outputs.head, outputs.tail = count_head, count_tail
    features = tiny_classifier.features(tiny_data.images(), "pool_2")
    active = int((features.flatten(2).amax(dim=2) > 0).sum())

    mean_activations(outputs)
    sweep_predictions(outputs, range(6))

    assert runs == {"head": len(tiny_data), "tail": len(tiny_data) + active}
    assert active < 6 * len(tiny_data), "the test needs channels that are silent on some images"


def test_head_outputs_that_do_not_fit_in_memory_are_computed_again(tiny_classifier, tiny_data, monkeypatch):
    monkeypatch.setattr(channels, "_MEMORY", 1_000)
    outputs = HeadOutputs(tiny_classifier, tiny_data, "pool_2")
    first = [values[0].clone() for values in outputs]
    assert outputs._kept is None
    assert all(torch.equal(a, b[0]) for a, b in zip(first, outputs, strict=True))


def test_layer_is_the_last_pooling_stage_of_deepid(deepid):
    assert find_prunable_layer(deepid).name == "pool_3"
    assert find_prunable_layer(deepid, "conv_2").channels == 40


def test_layer_of_a_network_without_prunable_pooling_is_its_last_prunable_map():
    layer = find_prunable_layer(from_module(Residual(), (3, 12, 12)))
    assert layer.prunable
    assert len(layer.output_shape) == 3
    assert "pool" not in layer.kind.lower()


def test_layers_that_cannot_be_pruned_are_named(deepid):
    with pytest.raises(UnknownMethod, match=r"'fc_1' \(Linear\) cannot be pruned; these can: .*pool_3"):
        find_prunable_layer(deepid, "fc_1")
    with pytest.raises(UnknownMethod, match=r"no layer 'pool_9'; its layers are: .*pool_3"):
        find_prunable_layer(deepid, "pool_9")


def test_count_matches():
    predictions = np.array([[0, 1, 2], [0, 0, 2]], np.int32)
    assert count_matches(predictions, np.array([0, 1, 1])) == [2, 1]
