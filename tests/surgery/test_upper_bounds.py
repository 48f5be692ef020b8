import numpy as np
import pytest
import torch

from goodnet.core.errors import UnwritableOutput
from goodnet.formats.pytorch import from_module
from goodnet.surgery.upper_bounds import UpperBounds, add_upper_bounds
from tests.small_networks import Residual, settle
from tests.weights import equal, weights


def test_bounds_are_numpy_s_minimum():
    values = torch.randn(2, 3, 4, 5)
    module = UpperBounds(torch.tensor([0.5, 0.0, 10.0]))
    expected = np.minimum(values.numpy(), np.array([0.5, 0.0, 10.0], np.float32)[None, :, None, None])
    np.testing.assert_array_equal(module(values).detach().numpy(), expected)
    with torch.no_grad():
        module.shares.copy_(torch.tensor([0.5, 1.0, 0.01]))
    np.testing.assert_allclose(module.bounds.detach(), [0.25, 0, 0.1], rtol=1e-6)
    vectors = torch.randn(4, 3)
    np.testing.assert_allclose(module(vectors).detach(), np.minimum(vectors.numpy(), [[0.25, 0, 0.1]]), rtol=1e-6)


def test_all_that_follows_a_layer_sees_its_bounded_output(tiny_classifier, tiny_data):
    images = tiny_data.images()
    features = tiny_classifier.features(images, "conv_1")
    most = 0.5 * features.flatten(2).amax(dim=(0, 2)).detach()
    bounded = add_upper_bounds(tiny_classifier, {"conv_1": UpperBounds(most)})
    _, tail = tiny_classifier.split("conv_1")
    expected = tail((torch.minimum(features, most[:, None, None]),))
    torch.testing.assert_close(bounded(images), expected)
    assert not torch.equal(bounded(images), tiny_classifier(images))
    assert torch.equal(bounded.features(images, "conv_1"), features)


def test_a_value_that_goes_two_ways_is_bounded_on_both():
    classifier = from_module(settle(Residual()), (3, 12, 12))
    images = torch.rand(3, 3, 12, 12)
    most = torch.full((6,), 0.2)
    bounded = add_upper_bounds(classifier, {"max_pool2d": UpperBounds(most)})
    head, tail = classifier.split("max_pool2d")
    torch.testing.assert_close(bounded(images), tail((head(images)[0].clamp_max(0.2),)))


def test_the_original_stays_and_the_bounded_network_lives_but_has_no_file(tiny_classifier, tiny_data, tmp_path):
    before, images = weights(tiny_classifier), tiny_data.images()
    bounded = add_upper_bounds(tiny_classifier, {"conv_2": UpperBounds(torch.full((6,), 0.1))})
    with pytest.raises(UnwritableOutput, match="bounds on its channels, which a file of weights alone cannot carry"):
        bounded.save(tmp_path / "bounded.pt")
    assert not any(tmp_path.iterdir())
    live = bounded.to_model()
    assert torch.equal(live(images), bounded(images))
    with torch.no_grad():
        next(live.parameters()).zero_()
    assert equal(weights(tiny_classifier), before)
    assert not torch.equal(live(images), bounded(images))
