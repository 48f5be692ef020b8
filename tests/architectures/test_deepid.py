"""DeepID against the contest's own Keras code."""

from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from keras import layers as kl

from goodnet import architectures
from goodnet.core.errors import InvalidOption
from goodnet.formats.networks import read_network
from goodnet.formats.pytorch import from_module


def contest_network(classes: int, rows: int = 55, columns: int = 47) -> keras.Model:
    images = keras.Input((rows, columns, 3), name="input")
    values = kl.Conv2D(20, 4, activation="relu", name="conv_1")(images)
    values = kl.MaxPooling2D(2, name="pool_1")(values)
    values = kl.Conv2D(40, 3, activation="relu", name="conv_2")(values)
    values = kl.MaxPooling2D(2, name="pool_2")(values)
    values = kl.Conv2D(60, 3, activation="relu", name="conv_3")(values)
    values = kl.MaxPooling2D(2, name="pool_3")(values)
    first = kl.Dense(160, name="fc_1")(kl.Flatten()(values))
    deeper = kl.Conv2D(80, 2, activation="relu", name="conv_4")(values)
    second = kl.Dense(160, name="fc_2")(kl.Flatten()(deeper))
    return keras.Model(images, kl.Dense(classes, name="output")(kl.ReLU()(kl.Add()([first, second]))))


@pytest.mark.parametrize(("rows", "columns"), [(55, 47), (64, 50), (46, 46)])
def test_deepid_computes_what_the_contest_s_network_computes(rows: int, columns: int) -> None:
    model = contest_network(9, rows, columns)
    ours = architectures.find("deepid").build(classes=9, image_shape=(3, rows, columns))
    with torch.no_grad():
        for name, module in ours.named_children():
            if hasattr(module, "weight"):
                kernel, bias = (np.asarray(item) for item in model.get_layer(name).get_weights())
                axes = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
                module.weight.copy_(torch.from_numpy(kernel.transpose(axes).copy()))
                module.bias.copy_(torch.from_numpy(bias + 0.1))
                model.get_layer(name).set_weights([kernel, bias + 0.1])
    pixels = np.random.default_rng(0).random((3, rows, columns, 3), dtype=np.float32)
    theirs = np.array(keras.ops.convert_to_numpy(model(pixels, training=False)))
    with torch.no_grad():
        logits = ours(torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))).numpy()
    np.testing.assert_allclose(logits, theirs, rtol=0, atol=1e-5)


def test_the_contest_s_size_is_the_default() -> None:
    deepid = architectures.find("DeepID")
    assert (deepid.name, deepid.image_shape) == ("deepid", (3, 55, 47))
    parameters = sum(p.numel() for p in deepid.factory().parameters())
    # By hand: convolutions 980 + 7240 + 21660 + 19280, 1200 and 960 inputs to 160 features, 160 to 1283 classes.
    assert parameters == 980 + 7240 + 21660 + 19280 + 1200 * 160 + 160 + 960 * 160 + 160 + 161 * 1283


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 30, 47), (3, 55, 30)])
def test_images_that_are_too_small_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidOption, match=r"architecture 'deepid' failed.*at least 31 x 31 pixels") as caught:
        architectures.find("deepid").build(classes=4, image_shape=shape)
    assert "\n" not in str(caught.value)


def test_the_smallest_images() -> None:
    network = architectures.find("deepid").build(classes=4, image_shape=(1, 31, 31))
    assert network(torch.rand(2, 1, 31, 31)).shape == (2, 4)


def test_it_is_saved_and_read(tmp_path: Path) -> None:
    architecture = architectures.find("deepid")
    assert "deepid" in architectures.names()
    module = architecture.build(classes=5, image_shape=(3, 55, 47))
    classifier = from_module(module, (3, 55, 47))
    images = torch.rand(2, 3, 55, 47)
    again = read_network(classifier.save(tmp_path / "net.pt"), "deepid")
    with torch.no_grad():
        assert torch.equal(again(images), classifier(images))
