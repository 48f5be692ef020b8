"""Every layer rule against plain Keras, there and back: read, compare, change, save, load in Keras, compare."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as kl

from goodnet.core.errors import UnreadableModel
from goodnet.formats.keras import from_keras
from tests.formats.keras_networks import (
    Layers,
    check,
    close,
    images_for,
    logits_of,
    merged,
    run,
    sequential,
)

ACTIVATIONS = [
    "relu",
    "relu6",
    "elu",
    "selu",
    "gelu",
    "silu",
    "swish",
    "mish",
    "tanh",
    "sigmoid",
    "hard_sigmoid",
    "hard_swish",
    "hard_silu",
    "leaky_relu",
    "softplus",
    "softsign",
    "exponential",
    "softmax",
    "linear",
]

TRUNKS: dict[str, Layers] = {
    "conv": lambda: [kl.Conv2D(5, (4, 3), activation="relu")],
    "conv without bias": lambda: [kl.Conv2D(5, 3, use_bias=False)],
    "conv same": lambda: [kl.Conv2D(5, 4, padding="same")],
    "conv same stride 2": lambda: [kl.Conv2D(5, 3, strides=2, padding="same")],
    "conv same stride 2 even kernel": lambda: [kl.Conv2D(5, (2, 4), strides=(2, 3), padding="same")],
    "conv dilated": lambda: [kl.Conv2D(5, 3, dilation_rate=(3, 2))],
    "conv same dilated": lambda: [kl.Conv2D(5, (2, 3), dilation_rate=2, padding="same")],
    "conv grouped": lambda: [kl.Conv2D(6, 3, groups=3)],
    "depthwise": lambda: [kl.DepthwiseConv2D(3, depth_multiplier=2, activation="elu")],
    "depthwise same stride 2": lambda: [kl.DepthwiseConv2D((4, 2), strides=2, padding="same", use_bias=False)],
    "separable": lambda: [kl.SeparableConv2D(5, 3, depth_multiplier=2, activation="tanh")],
    "separable same stride 2": lambda: [kl.SeparableConv2D(5, 4, strides=2, padding="same", use_bias=False)],
    "batch norm": lambda: [kl.Conv2D(4, 3), kl.BatchNormalization(), kl.ReLU()],
    "batch norm without scale": lambda: [kl.BatchNormalization(scale=False, epsilon=0.1)],
    "batch norm without center": lambda: [kl.BatchNormalization(center=False)],
    "batch norm of statistics alone": lambda: [
        kl.BatchNormalization(center=False, scale=False),
        kl.Conv2D(3, 1),
    ],
    "dense at each place": lambda: [kl.Conv2D(4, 3), kl.TimeDistributed(kl.Dense(5, activation="relu"))],
    "dropout at each place": lambda: [kl.Reshape((63, 3)), kl.TimeDistributed(kl.Dropout(0.5)), kl.Flatten()],
    "layer norm": lambda: [kl.Conv2D(4, 3), kl.LayerNormalization(epsilon=0.05)],
    "max pool": lambda: [kl.MaxPooling2D((3, 2), strides=(2, 1))],
    "max pool same": lambda: [kl.Conv2D(4, 2), kl.MaxPooling2D(3, strides=2, padding="same")],
    "average pool": lambda: [kl.AveragePooling2D(2)],
    "average pool same": lambda: [kl.AveragePooling2D(3, padding="same", strides=1)],
    "global average pool": lambda: [kl.GlobalAveragePooling2D()],
    "global average pool keepdims": lambda: [kl.GlobalAveragePooling2D(keepdims=True)],
    "global max pool": lambda: [kl.GlobalMaxPooling2D()],
    "flatten after conv": lambda: [kl.Conv2D(4, 2), kl.Flatten(), kl.Dense(6)],
    "reshape map to map": lambda: [kl.Conv2D(4, 2), kl.Reshape((4, 6, 8)), kl.Conv2D(3, 2)],
    "reshape map to sequence": lambda: [
        kl.Conv2D(4, 2),
        kl.Reshape((12, 16)),
        kl.Dense(3),
        kl.LayerNormalization(),
    ],
    "reshape vector to map": lambda: [kl.Flatten(), kl.Dense(24), kl.Reshape((3, 4, 2)), kl.Conv2D(3, 2)],
    "dense on maps": lambda: [kl.Dense(5, activation="softmax"), kl.Dense(4, use_bias=False)],
    "batch norm of a vector": lambda: [kl.Flatten(), kl.Dense(6), kl.BatchNormalization()],
    "layer norm of a vector": lambda: [kl.Flatten(), kl.Dense(6), kl.LayerNormalization()],
    "relu capped": lambda: [kl.Conv2D(4, 2), kl.ReLU(max_value=0.5)],
    "relu with slope": lambda: [kl.Conv2D(4, 2), kl.ReLU(negative_slope=0.2)],
    "relu with threshold": lambda: [
        kl.Conv2D(4, 2),
        kl.ReLU(max_value=1.0, negative_slope=0.3, threshold=0.2),
    ],
    "leaky relu": lambda: [kl.Conv2D(4, 2), kl.LeakyReLU(negative_slope=0.15)],
    "elu with alpha": lambda: [kl.Conv2D(4, 2), kl.ELU(alpha=0.4)],
    "prelu shared": lambda: [kl.Conv2D(4, 2), kl.PReLU(shared_axes=[1, 2])],
    "prelu of a vector": lambda: [kl.Flatten(), kl.Dense(6), kl.PReLU()],
    "softmax inside": lambda: [kl.Conv2D(4, 2), kl.Softmax(), kl.Conv2D(3, 2)],
    "zero padding": lambda: [kl.ZeroPadding2D(((1, 2), (0, 3))), kl.Conv2D(3, 3)],
    "cropping": lambda: [kl.Cropping2D(((1, 2), (0, 3)))],
    "upsampling": lambda: [kl.UpSampling2D((2, 3))],
    "upsampling bilinear": lambda: [kl.UpSampling2D((2, 3), interpolation="bilinear")],
    "rescaling": lambda: [kl.Rescaling(1 / 0.7, offset=-0.3), kl.Conv2D(3, 2)],
    "rescaling per channel": lambda: [kl.Rescaling([1.0, 2.0, 3.0], offset=[0.1, 0.2, 0.3])],
    "rescaling of a vector": lambda: [kl.GlobalAveragePooling2D(), kl.Rescaling([1.0, 2.0, 3.0])],
    "normalization given": lambda: [kl.Normalization(mean=[0.1, 0.2, 0.3], variance=[0.5, 2.0, 3.0])],
    "normalization learnt": lambda: [kl.Normalization(), kl.Conv2D(3, 2)],
    "dropout": lambda: [kl.Dropout(0.5), kl.Conv2D(3, 2), kl.SpatialDropout2D(0.3), kl.GaussianDropout(0.2)],
    "noise": lambda: [kl.GaussianNoise(0.5), kl.ActivityRegularization(0.1), kl.Identity()],
    "augmentation": lambda: [kl.RandomFlip(), kl.RandomRotation(0.2), kl.RandomTranslation(0.1, 0.1)],
    "more augmentation": lambda: [
        kl.RandomZoom(0.2),
        kl.RandomContrast(0.3),
        kl.RandomBrightness(0.2, (0, 1)),
    ],
    "odd names": lambda: [
        kl.Conv2D(3, 2, name="conv-1"),
        kl.Conv2D(3, 2, name="type"),
        kl.ReLU(name="a b-c"),
    ],
    "names that collide": lambda: [kl.Conv2D(3, 2, name="a b"), kl.Conv2D(3, 2, name="a_b")],
}


@pytest.mark.parametrize("trunk", TRUNKS)
def test_a_layer_computes_what_keras_computes_and_is_saved_with_its_changes(trunk: str, tmp_path: Path) -> None:
    check(sequential([*TRUNKS[trunk](), kl.Flatten(), kl.Dense(3)]), tmp_path)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_inside_a_layer_and_as_a_layer(name: str) -> None:
    layers = [
        kl.Conv2D(4, 2, activation=name),
        kl.Conv2D(4, 2),
        kl.Activation(name),
        kl.Flatten(),
        kl.Dense(3),
    ]
    model = sequential(layers)
    theirs, ours = images_for(model)
    close(run(from_keras(model), ours * 4 - 2), logits_of(model, theirs * 4 - 2))


def test_average_pooling_leaves_padded_pixels_out_as_tensorflow_does() -> None:
    """By hand: where padding is uneven Keras on torch repeats the border instead, networks were trained otherwise."""
    model = sequential([kl.AveragePooling2D((2, 3), strides=2, padding="same", name="pool"), kl.Flatten(), kl.Dense(2)])
    _, images = images_for(model)
    pooled = from_keras(model).features(images, "pool").numpy()
    # Height 9, pool 2, stride 2: 5 rows, one row of padding below. Width 7, pool 3, stride 2: 4 columns, one on each
    # side.
    assert pooled.shape == (4, 3, 5, 4)
    pixels = images.numpy()
    close(pooled[:, :, 4, 0], pixels[:, :, 8:9, 0:2].mean((2, 3)))
    close(pooled[:, :, 4, 3], pixels[:, :, 8:9, 5:7].mean((2, 3)))
    close(pooled[:, :, 1, 1], pixels[:, :, 2:4, 1:4].mean((2, 3)))


MERGES: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: kl.Add()([a, b]),
    "add three": lambda a, b: kl.Add()([a, b, a]),
    "subtract": lambda a, b: kl.Subtract()([a, b]),
    "multiply": lambda a, b: kl.Multiply()([a, b]),
    "average": lambda a, b: kl.Average()([a, b, b]),
    "maximum": lambda a, b: kl.Maximum()([a, b]),
    "minimum": lambda a, b: kl.Minimum()([a, b]),
    "concatenate channels": lambda a, b: kl.Concatenate()([a, b]),
    "concatenate rows": lambda a, b: kl.Concatenate(axis=1)([a, b]),
    "concatenate columns": lambda a, b: kl.Concatenate(axis=2)([a, b]),
    "concatenate vectors": lambda a, b: kl.Concatenate()([kl.Flatten()(a), kl.GlobalMaxPooling2D()(b)]),
    "concatenate sequences": lambda a, b: kl.Concatenate()([kl.Reshape((63, 4))(a), kl.Reshape((63, 4))(b)]),
    "squeeze and excite": lambda a, b: kl.Multiply()([a, kl.GlobalAveragePooling2D(keepdims=True)(b)]),
    "operator +": lambda a, b: a + b,
    "operator -": lambda a, b: a - b,
    "operator *": lambda a, b: a * b,
    "x + x": lambda a, b: a + a,
    "ops.maximum": keras.ops.maximum,
}


@pytest.mark.parametrize("merge", MERGES)
def test_merges(merge: str, tmp_path: Path) -> None:
    check(merged(MERGES[merge]), tmp_path)


UNSUPPORTED: dict[str, Callable[[Any, Any], Any]] = {
    "operand of every pixel": lambda a, b: a * np.ones((1, 9, 7, 4), np.float32),
    "operation without a rule": lambda a, b: keras.ops.exp(a),
    "ops.average": lambda a, b: keras.ops.average(a, axis=1),
    "ops.concatenate": lambda a, b: keras.ops.concatenate([a, b]),
    "ranks that differ": lambda a, b: kl.Multiply()([a, kl.GlobalAveragePooling2D()(b)]),
    "layer without a rule": lambda a, b: kl.Conv2DTranspose(3, 2)(a),
    "batch norm of rows": lambda a, b: kl.BatchNormalization(axis=1)(a),
    "batch norm of a sequence": lambda a, b: kl.BatchNormalization()(kl.Reshape((63, 4))(a)),
    "layer norm of rows": lambda a, b: kl.LayerNormalization(axis=1)(a),
    "layer norm of everything": lambda a, b: kl.LayerNormalization(axis=[1, 2, 3])(a),
    "softmax of rows": lambda a, b: kl.Softmax(axis=1)(a),
    "normalization inverted": lambda a, b: kl.Normalization(mean=0.3, variance=2.0, invert=True)(a),
    "normalization at each row": lambda a, b: kl.TimeDistributed(kl.LayerNormalization())(a),
    "bicubic": lambda a, b: kl.UpSampling2D(2, interpolation="bicubic")(a),
    "activation without a rule": lambda a, b: kl.Activation("sparsemax")(a),
    "a layer named relu as activation": lambda a, b: kl.Dense(3, activation=kl.PReLU(name="relu"))(a),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_has_no_counterpart_is_refused_not_guessed(case: str) -> None:
    with pytest.raises(UnreadableModel, match="cannot be translated") as caught:
        from_keras(merged(UNSUPPORTED[case]), name="net.keras")
    assert str(caught.value).startswith("net.keras: ")
    assert "\n" not in str(caught.value)
