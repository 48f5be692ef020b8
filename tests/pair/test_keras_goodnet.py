"""GoodNets of Keras networks as one Keras model, opened by plain Keras."""

import keras
import numpy as np
import pytest
from keras import layers as kl

from goodnet import api
from goodnet.core.errors import InvalidOption, MethodFailed
from goodnet.formats.keras import from_keras
from goodnet.formats.networks import read_network
from goodnet.formats.pytorch import from_module
from goodnet.pair import keras_goodnet
from goodnet.pair.goodnet import GoodNet
from tests.conftest import make_quadrants
from tests.plain_goodnet import combine
from tests.small_networks import tiny


def make_pair(activation="softmax"):
    keras.utils.set_random_seed(1)
    images = keras.Input((12, 12, 3))
    values = kl.Conv2D(5, 3, activation="relu", name="conv")(images)
    values = kl.BatchNormalization(name="norm")(values)
    values = kl.Flatten()(kl.MaxPooling2D(2, name="pool")(values))
    model = keras.Model(images, kl.Dense(4, activation=activation, name="output")(values), name="net")
    original = from_keras(model, name="net.keras")
    repaired = original.copy()
    repaired.layer("conv").silence([0, 2, 3])
    return original, repaired


@pytest.mark.parametrize("targets", [None, [0, 1]])
@pytest.mark.parametrize("activation", ["softmax", None])
def test_a_goodnet_in_keras(targets, activation, tmp_path):
    pair = make_pair(activation)
    guard = GoodNet(*pair, input_range="0..255", targets=targets)
    path = api.export(guard, out=tmp_path / "net.keras", format="keras")
    model = keras.models.load_model(path, compile=False, safe_mode=True)
    pixels = make_quadrants(60, seed=3).source.pixels.transpose(0, 2, 3, 1).astype(np.float32)
    scores = model.predict(pixels, verbose=0)
    np.testing.assert_allclose(scores, guard(pixels), rtol=0, atol=1e-5)
    networks = [net.to_model().predict(pixels, verbose=0) for net in pair]
    expected = combine(*networks, targets=targets)
    assert 0 < (expected == 4).sum() < 60
    assert np.array_equal(scores.argmax(axis=1), expected)
    assert np.array_equal(model.predict(pixels[:1], verbose=0).argmax(axis=1), expected[:1])
    assert "Lambda" not in {type(layer).__name__ for layer in model.layers}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("activation", ["softmax", None])
def test_the_tolerance_is_part_of_the_file(activation, tmp_path):
    pair = make_pair(activation)
    images = make_quadrants(60, seed=3).images()
    margins = GoodNet(*pair, input_range="0..255").disagreements(images).detach().numpy()
    # Between two margins: float32 rounds differently from one way of asking to another.
    ranked = np.sort(margins[margins > 0])
    tolerance = float(ranked[len(ranked) // 2 - 1 : len(ranked) // 2 + 1].mean())
    guard = GoodNet(*pair, input_range="0..255", tolerance=tolerance)
    model = keras.models.load_model(
        api.export(guard, out=tmp_path / "net.keras", format="keras"), compile=False, safe_mode=True
    )
    pixels = images.permute(0, 2, 3, 1).numpy() * 255
    refused = model.predict(pixels, verbose=0).argmax(axis=1) == 4
    assert np.array_equal(refused, margins > tolerance)
    assert 0 < refused.sum() < (margins > 0).sum()


def test_a_tolerance_beyond_what_probabilities_can_tell(tmp_path):
    guard = GoodNet(*make_pair(), input_range="0..255", tolerance=81.0)
    with pytest.raises(InvalidOption, match="a tolerance of 81 logits is beyond what probabilities can tell"):
        api.export(guard, out=tmp_path / "net.keras", format="keras")


def test_the_contest_s_networks(csaw, tmp_path):
    guard = GoodNet(csaw / "bd_net.h5", csaw / "lab3_pruned_full_model.h5", input_range="0..255", targets=[0])
    model = keras.models.load_model(api.export(guard, out=tmp_path / "net.keras", format="keras"), compile=False)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 55, 47, 3)).astype(np.float32)
    np.testing.assert_allclose(model.predict(pixels, verbose=0), guard(pixels), rtol=0, atol=1e-5)


def test_probabilities_of_their_own_are_refused_with_the_way_out(tmp_path):
    guard = GoodNet(*make_pair("sigmoid"), input_range="0..255")
    with pytest.raises(InvalidOption, match=r"the sigmoid at the end is left out.*choose --format onnx or pt2"):
        api.export(guard, out=tmp_path / "net.keras", format="keras")
    assert list(tmp_path.iterdir()) == []


def test_networks_that_keras_cannot_hold(csaw, tmp_path):
    torch_pair = [from_module(tiny(), (3, 12, 12), name="net.pt") for _ in range(2)]
    with pytest.raises(InvalidOption, match=r"net\.pt is no Keras model .* choose --format onnx or pt2"):
        api.export(GoodNet(*torch_pair), out=tmp_path / "net.keras", format="keras")
    weights = GoodNet(csaw / "bd_net.h5", read_network(csaw / "lab3_bd_weights.h5", "deepid"))
    with pytest.raises(InvalidOption, match=r"lab3_bd_weights\.h5 is no Keras model"):
        api.export(weights, out=tmp_path / "net.keras", format="keras")
    assert list(tmp_path.iterdir()) == []


def test_a_network_alone(tmp_path):
    with pytest.raises(InvalidOption, match="--format keras works only for GoodNets"):
        api.export(make_pair()[0], out=tmp_path / "net.keras", format="keras")


def test_a_file_that_answers_otherwise_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(keras_goodnet, "_TOLERANCE", -1)
    with pytest.raises(MethodFailed, match="gives other scores than the GoodNet; nothing was written"):
        api.export(GoodNet(*make_pair()), out=tmp_path / "net.keras", format="keras")
    assert list(tmp_path.iterdir()) == []
