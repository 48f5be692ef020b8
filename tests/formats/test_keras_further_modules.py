"""Further Keras layers: sizes and crops, norms, attention, each against Keras itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers as kl

from goodnet.core.errors import UnknownImageSize
from goodnet.formats.keras import from_keras, read_keras
from tests.formats.keras_networks import SHAPE, check, close, images_for, logits_of, randomise, run, sequential


def end() -> list[Any]:
    return [kl.GlobalAveragePooling2D(), kl.Dense(4)]


LAYERS: dict[str, Callable[[], list[Any]]] = {
    "resizing": lambda: [kl.Resizing(5, 6), *end()],
    "resizing to the nearest": lambda: [kl.Resizing(18, 14, interpolation="nearest"), *end()],
    "larger, to the nearest": lambda: [kl.Resizing(11, 13, interpolation="nearest"), *end()],
    "smaller, to the nearest": lambda: [kl.Resizing(5, 4, interpolation="nearest"), *end()],
    "to a wider aspect ratio": lambda: [kl.Resizing(5, 8, crop_to_aspect_ratio=True), *end()],
    "to a higher aspect ratio": lambda: [kl.Resizing(16, 7, crop_to_aspect_ratio=True), *end()],
    "middle": lambda: [kl.CenterCrop(4, 5), *end()],
    "random middle": lambda: [kl.RandomCrop(4, 5), *end()],
    "alpha dropout": lambda: [kl.Conv2D(4, 3), kl.AlphaDropout(0.3), *end()],
    "group norm": lambda: [kl.Conv2D(6, 3), kl.GroupNormalization(3), *end()],
    "group norm of each channel": lambda: [kl.Conv2D(4, 3), kl.GroupNormalization(-1), kl.Flatten(), kl.Dense(4)],
    "group norm, as many groups": lambda: [kl.Conv2D(4, 3), kl.GroupNormalization(4), kl.Flatten(), kl.Dense(4)],
    "a slope for each pixel": lambda: [kl.Conv2D(4, 3), kl.PReLU(), *end()],
    "a slope for each column": lambda: [kl.Conv2D(4, 3), kl.PReLU(shared_axes=[1]), *end()],
    "permute": lambda: [kl.Permute((2, 1, 3)), kl.Conv2D(4, (3, 2)), *end()],
    "permute channels": lambda: [kl.Permute((3, 1, 2)), kl.Conv2D(4, (3, 2)), *end()],
    "unit norm": lambda: [kl.Conv2D(4, 3), kl.UnitNormalization(-1), *end()],
    "leaky activation": lambda: [kl.Conv2D(4, 3, activation=kl.LeakyReLU(0.2)), *end()],
    "bounded activation": lambda: [kl.Conv2D(4, 3, activation=kl.ReLU(max_value=0.5)), *end()],
}


@pytest.mark.parametrize("case", LAYERS)
def test_layers(case: str, tmp_path: Path) -> None:
    check(sequential(LAYERS[case]()), tmp_path)


def test_attention(tmp_path: Path) -> None:
    images = keras.Input((9, 7, 3))
    tokens = kl.Reshape((21, 9))(images)
    tokens = kl.MultiHeadAttention(2, 4)(tokens, tokens)
    check(randomise(keras.Model(images, kl.Dense(4)(kl.Flatten()(tokens)))), tmp_path)


def test_flat_images() -> None:
    model = randomise(keras.Sequential([keras.Input((189,)), kl.Dense(5)]))
    images = np.random.default_rng(0).random((3, 9, 7, 3), dtype=np.float32)
    classifier = from_keras(model, image_shape=(3, 9, 7))
    ours = run(classifier, torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    close(ours, logits_of(model, images.reshape(3, -1)))


def test_images_of_any_size(tmp_path: Path) -> None:
    model = randomise(keras.Sequential([keras.Input((None, None, 3)), kl.Conv2D(4, 3), *end()]))
    model.save(tmp_path / "net.keras")
    with pytest.raises(UnknownImageSize, match="--image-shape"):
        read_keras(tmp_path / "net.keras")
    classifier = read_keras(tmp_path / "net.keras", (3, 9, 7))
    sized = sequential([kl.Conv2D(4, 3), *end()])
    sized.set_weights(model.get_weights())
    theirs, ours = images_for(sized)
    close(run(classifier, ours), logits_of(sized, theirs))


def test_the_residual_branch_of_inception_resnet(tmp_path: Path) -> None:
    from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    images = keras.Input(SHAPE)
    left, right = kl.Conv2D(4, 3)(images), kl.Conv2D(4, 3)(images)
    hidden = kl.GlobalAveragePooling2D()(CustomScaleLayer(0.17)([left, right]))
    check(randomise(keras.Model(images, kl.Dense(4)(hidden))), tmp_path)
