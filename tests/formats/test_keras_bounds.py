import keras
import numpy as np
import pytest
import torch
from keras import layers as kl

from goodnet.core.errors import UnwritableOutput
from goodnet.formats.keras import from_keras, read_keras
from goodnet.formats.keras_bounds import add_keras_bounds, require_keras_bounds
from goodnet.surgery.upper_bounds import UpperBounds, add_upper_bounds
from tests.formats.keras_networks import FIRST, images_for, logits_of, randomise, run, sequential


def branching():
    images = keras.Input((9, 7, 3))
    values = kl.Conv2D(5, 3, activation="relu", name="conv-one")(images)
    left, right = kl.Conv2D(4, 1, name="left")(values), kl.DepthwiseConv2D(1, name="right")(values)
    values = kl.Concatenate()([left, right])
    return randomise(keras.Model(images, kl.Dense(3, activation="softmax")(kl.Flatten()(values))))


def bounds_of(classifier, images, names):
    largest = {name: classifier.features(images, name).detach().flatten(2).amax(dim=(0, 2)) for name in names}
    return {name: 0.5 * values.clamp_min(0) for name, values in largest.items()}


@pytest.mark.parametrize(
    "make", [branching, lambda: sequential([kl.Conv2D(5, 3, name="conv-one"), kl.Flatten(), kl.Dense(3)])]
)
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_the_bounded_model_clamps_and_is_a_keras_model_like_any_other(make, suffix, tmp_path):
    model = make()
    theirs, ours = images_for(model)
    classifier = from_keras(model, suffix).with_input_range("0..255")
    bounds = bounds_of(classifier, ours, ["conv_one"])
    require_keras_bounds(classifier, list(bounds))
    bounded = add_keras_bounds(classifier, bounds)
    exact = add_upper_bounds(classifier, {name: UpperBounds(values) for name, values in bounds.items()})
    np.testing.assert_allclose(run(bounded, ours), run(exact, ours), rtol=1e-5, atol=1e-3)
    assert np.abs(run(exact, ours) - run(classifier, ours)).max() > 1
    assert bounded.input_range == "0..255"

    bounded.save(tmp_path / f"bounded{suffix}")
    assert np.array_equal(
        run(read_keras(tmp_path / f"bounded{suffix}").with_input_range("0..255"), ours), run(bounded, ours)
    )
    loaded = keras.models.load_model(tmp_path / f"bounded{suffix}", compile=False)
    predictions = logits_of(loaded, 255 * theirs)
    expected = run(bounded, ours)
    if make is branching:
        expected = np.exp(expected - expected.max(axis=1, keepdims=True))
        expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predictions, expected, rtol=1e-3, atol=1e-4)


def test_weights_come_along_and_the_original_keeps_its_own():
    classifier = from_keras(branching())
    _, ours = images_for(branching())
    before = run(classifier, ours)
    bounded = add_keras_bounds(classifier, {"conv_one": torch.full((5,), 1e3)})
    np.testing.assert_allclose(run(bounded, ours), before, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        for parameter in bounded.network.parameters():
            parameter.zero_()
    assert np.array_equal(run(classifier, ours), before)


def test_networks_in_which_bounds_have_no_place(tiny_classifier):
    with pytest.raises(
        UnwritableOutput, match=r"a \.pt file of weights alone cannot carry them: give the whole Keras model"
    ):
        require_keras_bounds(tiny_classifier, ["conv_1"])
    inner = keras.Sequential([keras.Input((9, 7, 3)), kl.Conv2D(4, 3, name="deep")], name="inner")
    nested = from_keras(sequential([inner, kl.Flatten(), kl.Dense(3)]))
    with pytest.raises(UnwritableOutput, match=r"inside a nested model \(inner__deep\)"):
        require_keras_bounds(nested, ["inner__deep"])
    first = sequential([kl.Conv2D(4, 3, data_format=FIRST), kl.Flatten(data_format=FIRST), kl.Dense(3)], (3, 9, 7))
    with pytest.raises(UnwritableOutput, match="into a channels_first Keras model"):
        require_keras_bounds(from_keras(first), ["conv2d"])
