"""Files of Keras 2: they compute what Keras 2 defines, worked out here in numpy, or say which option stands in the way."""

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import torch

from goodnet.core.errors import UnreadableModel
from goodnet.formats.keras import read_keras
from goodnet.formats.keras_configs import in_keras_3
from tests.formats.keras_2_files import RNG, Arrays, arrays_of, called, dense, functional, input_layer, layer, write
from tests.formats.keras_networks import logits_of

SHAPE = (4, 5, 3)
IMAGES = RNG.normal(0, 1, (6, *SHAPE)).astype(np.float32)


def outputs(path: Path, images: np.ndarray = IMAGES) -> np.ndarray:
    with torch.no_grad():
        return read_keras(path).network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()


def close(ours: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def apply(arrays: Arrays, values: np.ndarray) -> np.ndarray:
    return values @ arrays["kernel"] + arrays["bias"]


def windows(values: np.ndarray, size: int) -> np.ndarray:
    """Return all windows (N, H', W', size, size, C)."""
    return np.lib.stride_tricks.sliding_window_view(values, (size, size), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)


CONV: dict[str, Any] = {
    "kernel_size": [2, 2],
    "strides": [1, 1],
    "padding": "valid",
    "data_format": "channels_last",
    "dilation_rate": [1, 1],
    "activation": "linear",
    "use_bias": True,
    "bias_initializer": {"class_name": "Zeros", "config": {"dtype": "float32"}},
    "activity_regularizer": None,
}
ZERO = {"type": "ndarray", "value": 0.0}


def depthwise(**options: Any) -> dict[str, Any]:
    return layer("DepthwiseConv2D", "d", **{**CONV, "depth_multiplier": 1, "groups": 1, **options})


def mobile_network(activation: dict[str, Any], block: dict[str, Any] | None = None) -> dict[str, Any]:
    layers = [input_layer("images", SHAPE), block or depthwise(), activation]
    layers += [layer("GlobalAveragePooling2D", "pool", data_format="channels_last"), dense("head", 2)]
    return {"class_name": "Sequential", "config": {"name": "mobile", "layers": layers}}


MOBILE = {"d": arrays_of(depthwise_kernel=(2, 2, 3, 1), bias=(3,)), "head": arrays_of(kernel=(3, 2), bias=(2,))}
ACTIVATIONS = {
    # Keras 2.2 wrote the bounds as arrays of numpy, Keras 2.12 as objects.
    "2.2.4": layer("ReLU", "r", max_value={"type": "ndarray", "value": 0.4}, negative_slope=ZERO, threshold=ZERO),
    "2.9.0": layer("LeakyReLU", "r", alpha=0.25),
    "2.12.0": layer("ReLU", "r", max_value={"class_name": "__numpy__", "config": {"value": 0.4, "dtype": "float32"}}),
}


@pytest.mark.parametrize("version", ACTIVATIONS)
def test_depthwise_convolutions_with_a_number_of_groups(version: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.h5", mobile_network(ACTIVATIONS[version]), MOBILE, version)
    maps = (
        np.einsum("nhwyxc,yxc->nhwc", windows(IMAGES, 2), MOBILE["d"]["depthwise_kernel"][..., 0]) + MOBILE["d"]["bias"]
    )
    active = np.where(maps > 0, maps, 0.25 * maps) if version == "2.9.0" else np.clip(maps, 0, 0.4)
    close(outputs(path), apply(MOBILE["head"], active.mean((1, 2))))


def test_separable_convolutions_list_options_of_a_kernel_that_they_do_not_have(tmp_path: Path) -> None:
    glorot = {"class_name": "GlorotUniform", "config": {"seed": None}}
    rest = {"kernel_initializer": glorot, "kernel_regularizer": None, "kernel_constraint": None, "groups": 1}
    block = layer("SeparableConv2D", "s", filters=4, depth_multiplier=2, **{**CONV, **rest})
    arrays = arrays_of(depthwise_kernel=(2, 2, 3, 2), pointwise_kernel=(1, 1, 6, 4), bias=(4,))
    dropout = layer("SpatialDropout2D", "r", rate=0.3, noise_shape=None, seed=None)
    head = arrays_of(kernel=(4, 2), bias=(2,))
    path = write(tmp_path / "m.h5", mobile_network(dropout, block), {"s": arrays, "head": head})
    maps = np.einsum("nhwyxc,yxcm->nhwcm", windows(IMAGES, 2), arrays["depthwise_kernel"])
    maps = maps.reshape(*maps.shape[:3], 6) @ arrays["pointwise_kernel"][0, 0] + arrays["bias"]
    close(outputs(path), apply(head, maps.mean((1, 2))))


@pytest.mark.parametrize("kind", ["BatchNormalization", "BatchNormalizationV1"], ids=["keras 2", "TensorFlow 1"])
def test_batch_normalisation_with_the_options_of_keras_2(kind: str, tmp_path: Path) -> None:
    old = {"fused": True, "renorm": False, "renorm_clipping": None, "renorm_momentum": 0.99, "virtual_batch_size": None}
    axis = {"axis": [3], "momentum": 0.99, "epsilon": 0.01, "center": True, "scale": True}
    norm = layer(kind, "n", **axis, **old, gamma_initializer={"class_name": "Ones", "config": {"dtype": "float32"}})
    norm["config"]["dtype"] = {"class_name": "Policy", "config": {"name": "float32"}}
    arrays = arrays_of(gamma=(3,), beta=(3,), moving_mean=(3,))
    arrays["moving_variance"] = RNG.uniform(0.3, 2, 3).astype(np.float32)
    path = write(
        tmp_path / "m.h5",
        mobile_network(layer("ReLU", "r", max_value=None), norm),
        {"n": arrays, "head": MOBILE["head"]},
    )
    maps = (IMAGES - arrays["moving_mean"]) / np.sqrt(arrays["moving_variance"] + 0.01) * arrays["gamma"] + arrays[
        "beta"
    ]
    close(outputs(path), apply(MOBILE["head"], np.maximum(maps, 0).mean((1, 2))))


# --- lists and nested models --------------------------------------------------------------------------------------

FIRST, SECOND = arrays_of(kernel=(3, 4), bias=(4,)), arrays_of(kernel=(80, 2), bias=(2,))
NESTED = {f"a/{name}": array for name, array in FIRST.items()}


def bare(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"class_name": "Sequential", "config": list(layers)}


def with_shape(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "config": {**item["config"], "batch_input_shape": [None, *SHAPE]}}


FLAT = layer("Flatten", "f", data_format="channels_last")
SEQUENCES = {
    "bare list": (bare(with_shape(dense("a", 4, activation="relu")), FLAT, dense("b", 2)), FIRST),
    "shape in the first layer": (
        {
            "class_name": "Sequential",
            "config": {"name": "s", "layers": [with_shape(dense("a", 4, activation="relu")), FLAT, dense("b", 2)]},
        },
        FIRST,
    ),
    "shape in the first layer, too": (
        {
            "class_name": "Sequential",
            "config": {
                "name": "s",
                "layers": [input_layer("i", SHAPE), with_shape(dense("a", 4, activation="relu")), FLAT, dense("b", 2)],
            },
        },
        FIRST,
    ),
    "bare list in a bare list": (
        bare(bare(with_shape(dense("a", 4, activation="relu"))), bare(FLAT), dense("b", 2)),
        NESTED,
    ),
    "functional model in a bare list": (
        bare(
            functional(
                "inner",
                [called(input_layer("i", SHAPE)), called(dense("a", 4, activation="relu"), ("i", 0))],
                ("a", 0),
                "Model",
            ),
            FLAT,
            dense("b", 2),
        ),
        NESTED,
    ),
}


@pytest.mark.parametrize("version", [None, "2.2.4", "2.9.0"])
@pytest.mark.parametrize("case", SEQUENCES)
def test_sequences(case: str, version: str | None, tmp_path: Path) -> None:
    config, first = SEQUENCES[case]
    path = write(tmp_path / "m.h5", config, {"first": first, "b": SECOND}, version)
    expected = apply(SECOND, np.maximum(apply(FIRST, IMAGES), 0).reshape(6, -1))
    close(outputs(path), expected)
    assert read_keras(path).image_shape == (3, 4, 5)
    for ending in (".h5", ".keras"):
        saved = read_keras(path).save(tmp_path / f"saved{ending}")
        close(logits_of(keras.models.load_model(saved, compile=False), IMAGES), expected)


def test_the_calls_of_nested_models_are_counted_as_keras_2_does(tmp_path: Path) -> None:
    """A sequential and a functional model, each called twice, in turn; names with slashes as DenseNet has them."""
    inner = {
        "class_name": "Sequential",
        "config": {"name": "s/1", "layers": [with_shape(dense("a", 3, activation="tanh"))]},
    }
    square = functional("g/1", [called(input_layer("i", SHAPE)), called(dense("a/b", 3), ("i", 0))], ("a/b", 0))
    layers = [
        called(input_layer("images", SHAPE)),
        called(inner, ("images", 0), ("g/1", 1)),
        called(square, ("s/1", 1), ("s/1", 2)),
        called(FLAT, ("g/1", 2)),
        called(dense("b", 2), ("f", 0)),
    ]
    arrays = {name: arrays_of(kernel=(3, 3), bias=(3,)) for name in ("s/1", "g/1")} | {
        "b": arrays_of(kernel=(60, 2), bias=(2,))
    }
    path = write(tmp_path / "m.h5", functional("m", layers, ("b", 0)), arrays, "2.4.0")
    values = IMAGES
    for _ in range(2):
        values = apply(arrays["g/1"], np.tanh(apply(arrays["s/1"], values)))
    close(outputs(path), apply(arrays["b"], values.reshape(6, -1)))


@pytest.mark.parametrize("kind", ["Sequential", "Functional"])
def test_a_network_may_end_in_a_nested_model(kind: str, tmp_path: Path) -> None:
    chain = [input_layer("i", (4, 5, 4)), FLAT, dense("b", 2)]
    calls = [called(chain[0]), called(chain[1], ("i", 0)), called(chain[2], ("f", 0))]
    sequence = {"class_name": "Sequential", "config": {"name": "head", "layers": chain}}
    head = sequence if kind == "Sequential" else functional("head", calls, ("b", 0))
    first = called(dense("a", 4), ("images", 0))
    config = functional("m", [called(input_layer("images", SHAPE)), first, called(head, ("a", 0))], ("head", 1))
    path = write(tmp_path / "m.h5", config, {"a": FIRST, "head": SECOND})
    close(outputs(path), apply(SECOND, apply(FIRST, IMAGES).reshape(6, -1)))


def test_an_archive_of_keras_2_15(tmp_path: Path) -> None:
    """Functional models were in another module then; Keras 3 wrote the weights here, in the layout that both share."""
    layers = [called(input_layer("images", SHAPE)), called(dense("a", 4), ("images", 0)), called(FLAT, ("a", 0))]
    config = functional("m", [*layers, called(dense("b", 2), ("f", 0))], ("b", 0))
    config |= {"module": "keras.src.engine.functional", "registered_name": "Functional"}
    images = keras.Input(SHAPE)
    flat = keras.layers.Flatten()(keras.layers.Dense(4)(images))
    model = keras.Model(images, keras.layers.Dense(2)(flat))
    model.set_weights([FIRST["kernel"], FIRST["bias"], SECOND["kernel"], SECOND["bias"]])
    model.save_weights(tmp_path / "w.weights.h5")
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "2.15.0"}))
        archive.writestr("config.json", json.dumps(config))
        archive.write(tmp_path / "w.weights.h5", "model.weights.h5")
    close(outputs(tmp_path / "m.keras"), apply(SECOND, apply(FIRST, IMAGES).reshape(6, -1)))


# --- what is refused ----------------------------------------------------------------------------------------------

RELU = layer("ReLU", "r", max_value=6.0)
HARD = {"activation": "hard_sigmoid"}
REFUSED = {
    "groups": (
        mobile_network(RELU, depthwise(groups=3)),
        r"layer 'd' cannot be translated: groups = 3 has no counterpart",
    ),
    "noise shape": (
        mobile_network(layer("SpatialDropout2D", "r", rate=0.3, noise_shape=[1, 1, 1, 3])),
        r"layer 'r' cannot be translated: noise_shape = \[1, 1, 1, 3\]",
    ),
    "virtual batch": (
        mobile_network(layer("BatchNormalization", "r", axis=[3], virtual_batch_size=8)),
        "layer 'r' cannot be translated: virtual_batch_size = 8",
    ),
    "several axes": (
        mobile_network(layer("Softmax", "r", axis=[1, 2])),
        r"layer 'r' cannot be translated: several axes, \[1, 2\], are not supported",
    ),
    "hard sigmoid": (mobile_network(layer("Activation", "r", **HARD)), "layer 'r' cannot be translated: hard_sigmoid"),
    "hard sigmoid inside": (mobile_network(RELU, depthwise(**HARD)), "layer 'd' cannot be translated: hard_sigmoid"),
    "hard sigmoid as an object": (
        mobile_network(layer("Activation", "r", activation={"class_name": "function", "config": "hard_sigmoid"})),
        "layer 'r' cannot be translated: hard_sigmoid",
    ),
    "unknown option": (
        mobile_network(RELU, depthwise(groups=1, unheard_of="x" * 999)),
        "Error when deserializing class 'DepthwiseConv2D': Unrecognized keyword arguments .* {'unheard_of': 'xxx",
    ),
    "unknown layer": (
        mobile_network(layer("TFOpLambda", "r", function="math.multiply")),
        "layer kind 'TFOpLambda' is not supported",
    ),
    "one name twice": (
        functional("m", [called(input_layer("a_b", SHAPE)), called(dense("a/b", 3), ("a_b", 0))], ("a/b", 0)),
        "unique layer names, but one occurs twice",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_changes_the_meaning_is_named(case: str, tmp_path: Path) -> None:
    config, words = REFUSED[case]
    path = write(tmp_path / "m.h5", config, MOBILE)
    with pytest.raises(UnreadableModel, match=words) as caught:
        read_keras(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 450 + len(str(path))


def test_hard_sigmoid_of_keras_3_is_what_it_says(tmp_path: Path) -> None:
    path = write(tmp_path / "m.h5", mobile_network(layer("Activation", "r", **HARD)), MOBILE, "3.15.1")
    maps = (
        np.einsum("nhwyxc,yxc->nhwc", windows(IMAGES, 2), MOBILE["d"]["depthwise_kernel"][..., 0]) + MOBILE["d"]["bias"]
    )
    close(outputs(path), apply(MOBILE["head"], np.clip(maps / 6 + 0.5, 0, 1).mean((1, 2))))


DAMAGED: list[Any] = [
    [],
    "text",
    None,
    {},
    {"class_name": "Sequential"},
    {"class_name": "Sequential", "config": 3},
    {"class_name": "Sequential", "config": []},
    {"class_name": ["Sequential"], "config": {}},
    {"class_name": "Sequential", "config": {"name": "m", "layers": [3]}},
    {"class_name": "Functional", "config": {"name": "m", "layers": [{"class_name": "Dense", "config": {}}]}},
    bare(with_shape(dense("a", 4)), layer("BatchNormalization", "n", dtype={"class_name": "Policy"})),
]


@pytest.mark.parametrize("config", DAMAGED, ids=range(len(DAMAGED)))
def test_what_is_no_configuration_is_refused(config: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "m.h5", config, MOBILE)
    with pytest.raises(UnreadableModel) as caught:
        read_keras(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_configuration_deeper_than_any_network_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.h5", {}, MOBILE)
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = '{"class_name": "Sequential", "config": [' * 400 + "]}" * 400
    with pytest.raises(UnreadableModel, match="damaged"):
        read_keras(path)


def test_a_configuration_of_keras_3_comes_out_as_it_was() -> None:
    images = keras.Input(SHAPE)
    block = keras.Sequential([keras.Input(SHAPE), keras.layers.DepthwiseConv2D(2), keras.layers.LeakyReLU(0.1)])
    inner = keras.Model((i := keras.Input(SHAPE)), keras.layers.BatchNormalization()(i))
    flat = keras.layers.Flatten()(block(inner(images)))
    model = keras.Model(images, keras.layers.Dense(2, activation="hard_sigmoid", kernel_regularizer="l2")(flat))
    config = json.loads(model.to_json())
    assert in_keras_3(config, keras.__version__, Path("m.keras")) == config


def test_the_layer_of_convnext_and_augmentations_with_their_generator(tmp_path: Path) -> None:
    flip = layer("RandomFlip", "flip", mode="horizontal", seed=None, rng_type="stateful")
    scale = layer("LayerScale", "scale", init_values=1e-6, projection_dim=3)
    arrays = arrays_of(gamma=(3,))
    path = write(tmp_path / "m.h5", mobile_network(scale, flip), {"scale": arrays, "head": MOBILE["head"]})
    close(outputs(path), apply(MOBILE["head"], (IMAGES * arrays["gamma"]).mean((1, 2))))


def test_a_random_crop_of_keras_2_scales_the_middle_when_it_predicts(tmp_path: Path) -> None:
    crop = layer("RandomCrop", "crop", height=2, width=2, seed=None, rng_type="stateful")
    path = write(tmp_path / "m.h5", mobile_network(layer("ReLU", "r", max_value=None), crop), {"head": MOBILE["head"]})
    # Of 4 x 5 pixels the middle 4 x 4, of which each 2 x 2 become one.
    halved = IMAGES[:, :, 0:4].reshape(6, 2, 2, 2, 2, 3).mean((2, 4))
    close(outputs(path), apply(MOBILE["head"], np.maximum(halved, 0).mean((1, 2))))
