import numpy as np
import pytest
import torch

from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnreadableData, WrongShape
from goodnet.core.repairs import NO_TRACE, Change
from goodnet.core.results import Rate
from goodnet.inference.predictions import measure_accuracy, measured_repair, predict_classes, require_fit


def test_predictions_are_those_of_the_plain_network_in_order(tiny_classifier, tiny_data):
    expected = tiny_classifier(tiny_data.images()).argmax(dim=1).numpy()
    seen: list[tuple[int, int]] = []

    classes = predict_classes(tiny_classifier, tiny_data, progress=lambda done, total: seen.append((done, total)))

    np.testing.assert_array_equal(classes, expected)
    assert seen[-1] == (len(tiny_data), len(tiny_data))
    assert measure_accuracy(tiny_classifier, tiny_data).value == pytest.approx((expected == tiny_data.targets).mean())


def test_images_of_another_size_are_refused(tiny_classifier):
    data = Dataset.from_arrays(np.zeros((2, 3, 9, 9), np.uint8), [0, 1], name="odd.h5")
    with pytest.raises(WrongShape, match=r"odd\.h5: .*\(3, 12, 12\).*got \(3, 9, 9\)"):
        require_fit(tiny_classifier, data)


def test_labels_outside_the_classes_are_refused(tiny_classifier):
    data = Dataset.from_arrays(np.zeros((2, 3, 12, 12), np.uint8), [0, 4], name="wide.h5")
    with pytest.raises(UnreadableData, match=r"wide\.h5: expected labels from 0 to 3 .* got 4"):
        require_fit(tiny_classifier, data)


def test_predicting_leaves_no_gradients(tiny_classifier, tiny_data):
    predict_classes(tiny_classifier, tiny_data)
    assert all(parameter.grad is None for parameter in tiny_classifier.network.parameters())
    assert torch.is_grad_enabled()


def test_a_measured_repair_holds_the_accuracy_of_both_networks(tiny_classifier, tiny_data):
    spoilt = tiny_classifier.copy()
    spoilt.layer("output").module.bias.data[2] += 1e6
    repair = measured_repair("spoilt", tiny_classifier, spoilt, tiny_data, Change(targets=(2,)), NO_TRACE)
    assert repair.accuracy_before == measure_accuracy(tiny_classifier, tiny_data)
    (network,) = repair.networks
    assert network.accuracy == Rate.of(int((tiny_data.targets == 2).sum()), len(tiny_data))
    assert (network.name, network.changes, repair.trace) == ("spoilt", Change(targets=(2,)), NO_TRACE)
