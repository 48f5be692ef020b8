"""Every layer rule against plain Keras, there and back: read, compare, change, save, load in Keras, compare."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers as kl

from goodnet.core.classifier import Classifier
from goodnet.core.errors import UnreadableModel, WrongShape
from goodnet.formats.keras import from_keras, read_keras

SHAPE = (9, 7, 3)
FIRST = "channels_first"
Layers = Callable[[], list[Any]]


def randomise(model: Any, seed: int = 0) -> Any:
    """Give every array of a model values with which a wrong order of axes, or a forgotten array, shows."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if hasattr(layer, "layers"):
            continue
        arrays = []
        for variable in layer.weights:
            positive = any(word in variable.name for word in ("variance", "gamma"))
            values = rng.uniform(0.3, 2, variable.shape) if positive else rng.normal(0, 0.4, variable.shape)
            arrays.append(np.asarray(variable) if "count" in variable.name else values)
        if arrays:
            layer.set_weights(arrays)
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
    return model


def sequential(layers: list[Any], shape: tuple[int, int, int] = SHAPE) -> Any:
    return randomise(keras.Sequential([keras.Input(shape), *layers]))


def images_for(model: Any, layout: str = "NHWC", count: int = 4) -> tuple[np.ndarray, torch.Tensor]:
    """Return the same images as the Keras model takes them and as the Classifier does."""
    nhwc = np.random.default_rng(5).random((count, *model.input_shape[1:]), dtype=np.float32)
    nchw = nhwc.transpose(0, 3, 1, 2) if layout == "NHWC" else nhwc
    return nhwc, torch.from_numpy(np.ascontiguousarray(nchw))


def logits_of(model: Any, images: np.ndarray) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(model(images, training=False)))


def run(classifier: Classifier, images: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return classifier(images).numpy()


def disturb(classifier: Classifier) -> None:
    """Change every parameter and every statistic."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in classifier.network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        for name, buffer in classifier.network.named_buffers():
            if "running" in name:
                buffer.add_(0.1 * torch.rand(buffer.shape, generator=generator))


def close(ours: np.ndarray, theirs: np.ndarray) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def check(model: Any, folder: Path, layout: str = "NHWC", suffixes: tuple[str, ...] = (".keras",)) -> Classifier:
    """Pin a model without a softmax: reading, and writing what was changed."""
    theirs, ours = images_for(model, layout)
    classifier = from_keras(model)
    assert classifier.layout == layout
    before = run(classifier, ours)
    close(before, logits_of(model, theirs))
    disturb(classifier)
    changed = run(classifier, ours)
    assert not list(classifier.network.parameters()) or np.abs(changed - before).max() > 1e-3
    for suffix in suffixes:
        path = classifier.save(folder / f"saved{suffix}")
        close(logits_of(keras.models.load_model(path, compile=False), theirs), changed)
        close(run(read_keras(path), ours), changed)
    return classifier


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


def merged(merge: Callable[[Any, Any], Any]) -> Any:
    images = keras.Input(SHAPE)
    left = kl.Conv2D(4, 3, padding="same", activation="relu")(images)
    right = kl.Conv2D(4, 1)(images)
    output = kl.Dense(3)(kl.Flatten()(merge(left, right)))
    return randomise(keras.Model(images, output))


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
    "scalar operand": lambda a, b: a * 2.0,
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
    "prelu per pixel": lambda a, b: kl.PReLU()(a),
    "bicubic": lambda a, b: kl.UpSampling2D(2, interpolation="bicubic")(a),
    "activation without a rule": lambda a, b: kl.Activation("log_softmax")(a),
    "a layer named relu as activation": lambda a, b: kl.Dense(3, activation=kl.LeakyReLU(name="relu"))(a),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_has_no_counterpart_is_refused_not_guessed(case: str) -> None:
    with pytest.raises(UnreadableModel, match="cannot be translated") as caught:
        from_keras(merged(UNSUPPORTED[case]), name="net.keras")
    assert str(caught.value).startswith("net.keras: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("end", ["dense softmax", "softmax layer", "activation layer", "none"])
def test_a_final_softmax_is_taken_off_and_put_back(end: str, suffix: str, tmp_path: Path) -> None:
    ends = {
        "dense softmax": [kl.Dense(3, activation="softmax")],
        "softmax layer": [kl.Dense(3), kl.Softmax()],
        "activation layer": [kl.Dense(3), kl.Activation("softmax")],
        "none": [kl.Dense(3)],
    }
    model = sequential([kl.Conv2D(4, 3, activation="relu"), kl.BatchNormalization(), kl.Flatten(), *ends[end]])
    theirs, ours = images_for(model)
    classifier = from_keras(model, suffix)
    disturb(classifier)
    logits = torch.from_numpy(run(classifier, ours))
    assert classifier.layers()[-1].kind == "Linear"
    assert not torch.allclose(logits.sum(1), torch.ones(4))
    saved = keras.models.load_model(classifier.save(tmp_path / f"m{suffix}"), compile=False)
    close(logits_of(saved, theirs), (logits if end == "none" else logits.softmax(1)).numpy())


def test_nested_and_shared_layers(tmp_path: Path) -> None:
    images = keras.Input((8, 8, 3))
    shared = kl.Conv2D(3, 3, padding="same", activation="tanh", name="shared")
    inner_images = keras.Input((8, 8, 3))
    inner = keras.Model(inner_images, kl.Add()([kl.Conv2D(3, 1, name="shared")(inner_images), inner_images]), name="in")
    block = keras.Sequential([keras.Input((8, 8, 3)), kl.Conv2D(4, 3), kl.BatchNormalization(), kl.ReLU()], name="b-1")
    values = shared(inner(shared(images)))
    model = randomise(keras.Model(images, kl.Dense(3)(kl.Flatten()(block(values)))))
    classifier = check(model, tmp_path, suffixes=(".keras", ".h5"))
    names = [layer.name for layer in classifier.layers()]
    assert len(names) == len(set(names))
    assert names[:2] == ["shared", "in__shared"]


def test_a_layer_shared_with_a_nested_model_is_saved_in_both_places(tmp_path: Path) -> None:
    layer, inner_images, images = kl.Conv2D(3, 3, padding="same"), keras.Input(SHAPE), keras.Input(SHAPE)
    inner = keras.Model(inner_images, layer(inner_images))
    model = randomise(keras.Model(images, kl.Dense(2)(kl.Flatten()(layer(inner(images))))))
    check(model, tmp_path)


CHANNELS_FIRST: dict[str, Layers] = {
    "conv": lambda: [
        kl.Conv2D(4, 3, strides=2, padding="same", data_format=FIRST),
        kl.BatchNormalization(axis=1),
    ],
    "depthwise": lambda: [kl.DepthwiseConv2D(3, depth_multiplier=2, data_format=FIRST)],
    "pool": lambda: [
        kl.Conv2D(4, 3, data_format=FIRST, activation="relu"),
        kl.MaxPooling2D(2, padding="same", data_format=FIRST),
        kl.AveragePooling2D(2, padding="same", data_format=FIRST),
    ],
    "global pool": lambda: [kl.Conv2D(4, 3, data_format=FIRST), kl.GlobalAveragePooling2D(data_format=FIRST)],
    "padding": lambda: [
        kl.ZeroPadding2D(((1, 0), (2, 0)), data_format=FIRST),
        kl.Conv2D(4, 3, data_format=FIRST),
    ],
    "rescaling": lambda: [kl.Rescaling(2.0, 0.5), kl.Conv2D(4, 3, data_format=FIRST)],
}


@pytest.mark.parametrize("flatten", ["channels_first", "channels_last"])
@pytest.mark.parametrize("trunk", CHANNELS_FIRST)
def test_channels_first(trunk: str, flatten: str, tmp_path: Path) -> None:
    layers = [*CHANNELS_FIRST[trunk](), kl.Flatten(data_format=flatten), kl.Dense(3)]
    classifier = check(sequential(layers, (3, 9, 7)), tmp_path, layout="NCHW")
    assert classifier.image_shape == (3, 9, 7)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: kl.Dense(4),
        kl.BatchNormalization,
        kl.LayerNormalization,
        lambda: kl.Reshape((6, 6, 6)),
        lambda: kl.PReLU(shared_axes=[1, 2]),
        lambda: kl.Rescaling([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        lambda: kl.Activation("softmax"),
        lambda: kl.MaxPooling2D(2, data_format="channels_last"),
    ],
)
def test_layers_on_the_last_axis_are_refused_with_channels_first(layer: Callable[[], Any]) -> None:
    """All sizes are 6 here: taking the width for the channels would go unnoticed."""
    layers = [kl.Conv2D(6, 3, data_format=FIRST), layer(), kl.Flatten(data_format=FIRST), kl.Dense(3)]
    with pytest.raises(UnreadableModel, match="cannot be translated"):
        from_keras(sequential(layers, (3, 8, 8)))


def test_training_mode_means_what_it_means_in_torch() -> None:
    model = sequential(
        [kl.Conv2D(4, 3), kl.BatchNormalization(momentum=0.9), kl.Dropout(0.5), kl.Flatten(), kl.Dense(3)]
    )
    _, ours = images_for(model, count=16)
    classifier = from_keras(model)
    name = next(layer.name for layer in classifier.layers() if layer.kind == "BatchNorm")
    norm = classifier.layer(name).module
    assert norm is not None
    before = norm.running_mean.clone()
    convolved = classifier.features(ours, classifier.layers()[0].name)
    first = run(classifier, ours)
    assert np.array_equal(first, run(classifier, ours))
    classifier.network.train()
    assert not np.array_equal(run(classifier, ours), run(classifier, ours))
    mean = convolved.mean(dim=(0, 2, 3)).detach()
    # Two passes with momentum 0.9: each moves a tenth of the way to the batch's mean.
    expected = mean + 0.9**2 * (before - mean)
    torch.testing.assert_close(norm.running_mean, expected, rtol=1e-4, atol=1e-5)
    classifier.network.eval()
    assert np.array_equal(run(classifier, ours), run(classifier, ours))


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_silenced_channels_are_zero_in_keras(suffix: str, tmp_path: Path) -> None:
    model = sequential(
        [
            kl.Conv2D(6, 3, activation="relu", name="c"),
            kl.BatchNormalization(name="n"),
            kl.MaxPooling2D(2, name="p"),
            kl.Flatten(),
            kl.Dense(3),
        ]
    )
    theirs, ours = images_for(model)
    classifier = from_keras(model, suffix)
    classifier.layer("p").silence([1, 4])
    saved = keras.models.load_model(classifier.save(tmp_path / f"m{suffix}"), compile=False)
    maps = logits_of(keras.Model(saved.inputs, saved.get_layer("p").output), theirs)
    assert (maps[..., [1, 4]] == 0).all()
    original = logits_of(keras.Model(model.inputs, model.get_layer("p").output), theirs)
    np.testing.assert_array_equal(maps[..., [0, 2, 3, 5]], original[..., [0, 2, 3, 5]])
    close(logits_of(saved, theirs), run(classifier, ours))


def test_the_classifier_has_weights_of_its_own() -> None:
    model = sequential([kl.Conv2D(4, 3), kl.Flatten(), kl.Dense(3)])
    theirs, _ = images_for(model)
    before = logits_of(model, theirs)
    disturb(from_keras(model))
    assert np.array_equal(before, logits_of(model, theirs))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (
            lambda: keras.Sequential([keras.Input((None, None, 3)), kl.GlobalMaxPooling2D(), kl.Dense(2)]),
            UnreadableModel,
            "fixed size",
        ),
        (lambda: keras.Sequential([keras.Input((12,)), kl.Dense(2)]), UnreadableModel, "fixed size"),
        (
            lambda: keras.Sequential([keras.Input(SHAPE), kl.Flatten(), kl.Dense(1)]),
            WrongShape,
            "at least 2 classes",
        ),
        (lambda: keras.Sequential([keras.Input(SHAPE), kl.Conv2D(3, 2)]), WrongShape, "at least 2 classes"),
    ],
)
def test_networks_that_are_no_image_classifiers_are_refused(make: Callable[[], Any], error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        from_keras(make(), name="n.h5")


def test_several_inputs_or_outputs_and_subclassed_models_are_refused() -> None:
    one, two = keras.Input(SHAPE), keras.Input(SHAPE)
    features = kl.Flatten()(kl.Add()([one, two]))
    with pytest.raises(UnreadableModel, match="got 2 and 1"):
        from_keras(keras.Model([one, two], kl.Dense(2)(features)))
    flat = kl.Flatten()(one)
    with pytest.raises(UnreadableModel, match="got 1 and 2"):
        from_keras(keras.Model(one, [kl.Dense(2)(flat), kl.Dense(3)(flat)]))

    class Own(keras.Model):
        def call(self, images: Any) -> Any:
            return images

    with pytest.raises(UnreadableModel, match="subclassed Own"):
        from_keras(Own())


def test_weights_that_are_not_finite_are_refused() -> None:
    model = sequential([kl.Flatten(), kl.Dense(2, name="head")])
    model.get_layer("head").set_weights([np.full((189, 2), np.nan), np.zeros(2)])
    with pytest.raises(UnreadableModel, match="NaN or infinity in layer 'head'"):
        from_keras(model)
