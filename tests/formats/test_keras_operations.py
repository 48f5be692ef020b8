"""Operations of `keras.ops` between layers, each against Keras itself, and written back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers as kl

from goodnet.core.errors import UnreadableModel
from goodnet.formats.keras import from_keras, read_keras
from tests.formats.keras_networks import SHAPE, check, close, images_for, logits_of, randomise, run

applications = keras.applications
PREPARED: dict[str, Callable[[Any], Any]] = {
    "divided": lambda x: x / 255.0,
    "divided and moved": lambda x: x / 127.5 - 1.0,
    "number first": lambda x: 1.0 - x,
    "a number for each channel": lambda x: x - np.array([0.1, 0.2, 0.3], np.float32),
    "hard sigmoid of MobileNetV3": lambda x: x * (kl.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)),
    "preprocess_input of caffe mode": applications.resnet50.preprocess_input,
    "preprocess_input of tf mode": applications.mobilenet_v2.preprocess_input,
    "preprocess_input of torch mode": applications.densenet.preprocess_input,
    "every second row": lambda x: x[:, ::2],
    "a window": lambda x: x[:, 1:-1, 2:5],
    "two channels": lambda x: x[..., 1:],
    "one channel, with its axis": lambda x: x[..., 1][..., None],
    "stacked in front": lambda x: kl.Permute((2, 3, 1))(keras.ops.stack([x[..., 2], x[..., 0]], axis=1)),
}


def network(prepare: Callable[[Any], Any], shape: tuple[int, ...] = SHAPE) -> Any:
    images = keras.Input(shape)
    hidden = kl.GlobalAveragePooling2D()(kl.Conv2D(4, 2)(prepare(images)))
    return randomise(keras.Model(images, kl.Dense(4)(hidden)))


@pytest.mark.parametrize("case", PREPARED)
def test_what_prepares_images(case: str, tmp_path: Path) -> None:
    check(network(PREPARED[case]), tmp_path)


MORE = {
    "operations and layers of one name": lambda x: kl.Add()([keras.ops.add(x, kl.ReLU()(x)), x + 1.0]),
    "half a key": lambda x: x[..., 1:, :],
}


@pytest.mark.parametrize("case", [*PREPARED, *MORE])
def test_hdf5_of_keras_3_which_keras_cannot_read(case: str, tmp_path: Path) -> None:
    model = network({**PREPARED, **MORE}[case])
    theirs, ours = images_for(model)
    first = from_keras(model, ".h5").save(tmp_path / "m.h5")
    again = read_keras(first).save(tmp_path / "again.h5")
    for path in (first, again):
        close(run(read_keras(path), ours), logits_of(model, theirs))


KEYS: dict[str, Any] = {
    "channels the other way round": (..., slice(None, None, -1)),
    "turned": (slice(None), slice(None, None, -1)),
    "mirrored, every second row": (slice(None), slice(None, None, 2), slice(-2, None, -1), slice(None)),
}


@pytest.mark.parametrize("case", KEYS)
def test_steps_back(case: str) -> None:
    """Keras itself cannot take them on torch: its network without them gets images that numpy has turned."""
    prepared = network(lambda x: x[KEYS[case]])
    theirs, ours = images_for(prepared)
    plain = network(lambda x: x, theirs[KEYS[case]].shape[1:])
    plain.set_weights(prepared.get_weights())
    close(run(from_keras(prepared), ours), logits_of(plain, theirs[KEYS[case]]))


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    **{
        name: getattr(keras.activations, name)
        for name in ("relu", "relu6", "elu", "leaky_relu", "selu", "gelu", "silu")
    },
    **{name: getattr(keras.activations, name) for name in ("sigmoid", "hard_sigmoid", "tanh", "softmax")},
    "relu, its options": lambda x: keras.activations.relu(x, negative_slope=0.1, max_value=0.3, threshold=0.05),
    "gelu, the fast form": lambda x: keras.ops.gelu(x, approximate=True),
    "relu of keras.ops": keras.ops.relu,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_that_are_called(name: str, tmp_path: Path) -> None:
    check(network(lambda x: ACTIVATIONS[name](x - 0.5)), tmp_path)


def test_a_softmax_that_is_called_is_left_out_of_the_logits() -> None:
    images = keras.Input(SHAPE)
    logits = kl.Dense(4)(kl.GlobalAveragePooling2D()(images))
    model = randomise(keras.Model(images, keras.ops.softmax(logits)))
    theirs, ours = images_for(model)
    close(run(from_keras(model), ours), logits_of(keras.Model(images, logits), theirs))


def test_gradients_come_back_through_channels_the_other_way_round() -> None:
    classifier = from_keras(network(lambda x: x[..., ::-1]))
    images = torch.rand(2, *classifier.image_shape, requires_grad=True)
    classifier(images).sum().backward()
    assert images.grad is not None
    assert bool((images.grad != 0).any(dim=0).any(dim=2).any(dim=1).all())


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda x: keras.ops.softmax(x, axis=1), "Softmax along another axis than the channels"),
        (lambda x: x[1:, :], "of some of the images"),
        (keras.ops.exp, "layer kind 'Exp' is not supported"),
    ],
)
def test_operations_without_a_counterpart_are_named(prepare: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(UnreadableModel, match=words):
        from_keras(network(prepare))
