from dataclasses import replace

import numpy as np
import pytest

from goodnet.core.dataset import Dataset
from goodnet.core.errors import WrongShape
from goodnet.inference.defender_labels import with_labels
from goodnet.inference.predictions import predict_classes
from tests.conftest import make_quadrants


def test_labels_of_the_data_are_kept_for_the_images_that_they_belong_to(tiny_classifier, tiny_data):
    part = tiny_data.subset([5, 2, 99])
    labelled = with_labels(tiny_classifier, part)
    np.testing.assert_array_equal(labelled.targets, tiny_data.targets[[5, 2, 99]])
    np.testing.assert_array_equal(labelled.source.read(labelled.positions), part.source.read(part.positions))
    assert labelled.source.read(labelled.positions).dtype == np.uint8


def test_without_labels_the_network_s_answers_serve(tiny_classifier):
    data = make_quadrants(30, seed=8, brightness=4)
    unlabelled = Dataset(data.source, None).subset(range(3, 20))
    predictions = predict_classes(tiny_classifier, unlabelled)
    np.testing.assert_array_equal(with_labels(tiny_classifier, unlabelled).targets, predictions)
    assert (predictions != data.targets[3:20]).any(), "dim images that the network does not know, to tell the two apart"


def test_data_that_does_not_fit(deepid, tiny_data):
    with pytest.raises(WrongShape):
        with_labels(deepid, tiny_data)


def test_which_labels_are_known_stays_known(tiny_classifier, tiny_data):
    part = replace(tiny_data, known=np.arange(120) < 60).subset([5, 70, 99])
    assert with_labels(tiny_classifier, part).known_targets.tolist() == [True, False, False]
    assert with_labels(tiny_classifier, tiny_data).known is None
