"""Operations of TensorFlow between the layers of Keras 2, as tf_keras 2.21 wrote them: they compute what numpy does."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from goodnet.core.errors import UnreadableModel
from goodnet.formats.keras import read_keras
from goodnet.formats.keras_tensorflow import without_tensorflow
from tests.formats.keras_2_files import arrays_of, called, dense, functional, input_layer, layer, write
from tests.formats.keras_networks import logits_of
from tests.formats.test_keras_configs import IMAGES, SHAPE, apply, close, outputs

Node = list[Any]
HEAD = arrays_of(kernel=(3, 2), bias=(2,))
MEANS, DEVIATIONS = [-103.939, -116.779, -123.68], [0.229, 0.224, 0.225]
TENSOR = ["images", 0, 0]


def operation(function: str, node: Node, name: str | None = None, kind: str = "TFOpLambda") -> dict[str, Any]:
    name = name or f"tf.{function}"
    return {**layer(kind, name, function=function), "name": name, "inbound_nodes": [node]}


def getitem(key: list[Any]) -> dict[str, Any]:
    return operation("__operators__.getitem", [*TENSOR, {"slice_spec": key}], "turned", "SlicingOpLambda")


def y(value: Any) -> dict[str, Any]:
    return {"y": value, "name": None}


def network(*operations: dict[str, Any]) -> dict[str, Any]:
    """A network of these operations, the mean of each channel and a layer."""
    layers = [{**input_layer("images", SHAPE), "name": "images", "inbound_nodes": []}, *operations]
    pool = layer("GlobalAveragePooling2D", "pool", data_format="channels_last")
    layers += [called(pool, (operations[-1]["name"], 0)), called(dense("head", 2), ("pool", 0))]
    return functional("net", layers, ("head", 0))


ELLIPSIS, WHOLE = {"class_name": "__ellipsis__"}, dict.fromkeys(("start", "stop", "step"))
BACK = {**WHOLE, "step": -1}
CASES: dict[str, tuple[list[dict[str, Any]], Callable[[np.ndarray], np.ndarray]]] = {
    "tf mode": (
        [
            operation("math.truediv", [*TENSOR, y(0.75)]),
            operation("math.subtract", ["tf.math.truediv", 0, 0, y(1.0)]),
        ],
        lambda x: x / 0.75 - 1,
    ),
    "caffe mode": (
        [
            getitem([ELLIPSIS, BACK]),
            operation("nn.bias_add", ["turned", 0, 0, {"bias": MEANS, "data_format": "NHWC"}]),
        ],
        lambda x: x[..., ::-1] + MEANS,
    ),
    "torch mode": (
        [
            operation("nn.bias_add", [*TENSOR, {"bias": MEANS, "data_format": "NHWC"}]),
            operation("math.truediv", ["tf.nn.bias_add", 0, 0, y(DEVIATIONS)]),
        ],
        lambda x: (x + MEANS) / DEVIATIONS,
    ),
    "all axes in the key": ([getitem([WHOLE, WHOLE, WHOLE, BACK])], lambda x: x[..., ::-1]),
    "number first": ([operation("math.subtract", ["_CONSTANT_VALUE", -1, 2.5, y(TENSOR)])], lambda x: 2.5 - x),
    "times": ([operation("math.multiply", ["_CONSTANT_VALUE", -1, 2.0, y(TENSOR)])], lambda x: 2 * x),
    "plus": ([operation("__operators__.add", [*TENSOR, y(3.0)])], lambda x: x + 3),
    "added tensors": (
        [operation("nn.relu", [*TENSOR, {"name": None}]), operation("math.add", ["tf.nn.relu", 0, 0, y(TENSOR)])],
        lambda x: np.maximum(x, 0) + x,
    ),
    "taken off a tensor": (
        [operation("nn.relu", [*TENSOR, {"name": None}]), operation("math.subtract", ["tf.nn.relu", 0, 0, y(TENSOR)])],
        lambda x: np.maximum(x, 0) - x,
    ),
    "cast": (
        [operation("cast", [*TENSOR, {"dtype": "float32"}]), operation("math.truediv", ["tf.cast", 0, 0, y(0.5)])],
        lambda x: x / 0.5,
    ),
    "relu of six": ([operation("nn.relu6", [*TENSOR, {"name": None}])], lambda x: np.clip(x, 0, 6)),
    "reshaped": ([operation("reshape", [*TENSOR, {"shape": [-1, 5, 4, 3]}])], lambda x: x.reshape(-1, 5, 4, 3)),
    "twice as large": (
        [operation("image.resize", [*TENSOR, {"size": [8, 10], "method": "nearest", "antialias": False}])],
        lambda x: x.repeat(2, axis=1).repeat(2, axis=2),
    ),
    "joined": (
        [operation("concat", [[*TENSOR, {"axis": 1}], [*TENSOR, {"axis": 1}]])],
        lambda x: np.concatenate([x, x], axis=1),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_operations_compute_what_numpy_does(case: str, tmp_path: Path) -> None:
    operations, expected = CASES[case]
    path = write(tmp_path / "m.h5", network(*operations), {"head": HEAD})
    close(outputs(path), apply(HEAD, expected(IMAGES).mean((1, 2))))


@pytest.mark.parametrize("ending", ["h5", "keras"])
def test_what_is_written_back_opens_in_keras(ending: str, tmp_path: Path) -> None:
    operations, expected = CASES["caffe mode"]
    classifier = read_keras(write(tmp_path / "m.h5", network(*operations), {"head": HEAD}))
    written = classifier.save(tmp_path / f"out.{ending}")
    values = logits_of(keras.models.load_model(written, compile=False), IMAGES)
    close(values, apply(HEAD, expected(IMAGES).mean((1, 2))))


def test_what_keras_2_is_called_since_it_has_a_package_of_its_own(tmp_path: Path) -> None:
    """A .keras file as tf_keras writes it."""
    config = network(*CASES["tf mode"][0])
    config |= {"module": "tf_keras.src.engine.functional", "registered_name": "Functional"}
    for item in config["config"]["layers"]:
        own = "TFOpLambda" if item["class_name"] == "TFOpLambda" else None
        item |= {"module": "tf_keras.src.layers.core.tf_op_layer" if own else "tf_keras.layers", "registered_name": own}
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        for number, name in enumerate(("kernel", "bias")):
            file[f"layers/dense/vars/{number}"] = HEAD[name]
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", json.dumps({"keras_version": "2.21.0"}))
        archive.write(tmp_path / "weights.h5", "model.weights.h5")
    close(outputs(tmp_path / "m.keras"), apply(HEAD, CASES["tf mode"][1](IMAGES).mean((1, 2))))


UNKNOWN: dict[str, dict[str, Any]] = {
    "tf.math.pow": operation("math.pow", [*TENSOR, y(2)]),
    "tf.math.truediv": operation("math.truediv", ["_CONSTANT_VALUE", -1, 2.0, y(TENSOR)]),
    "tf.math.multiply": operation("math.multiply", [*TENSOR, y([[1.0], [2.0]])]),
    "tf.math.add": operation("math.add", [*TENSOR, y("two")]),
    "tf.cast": operation("cast", [*TENSOR, {"dtype": "uint8"}]),
    "tf.nn.bias_add": operation("nn.bias_add", [*TENSOR, {"bias": [1.0] * 4, "data_format": "NCHW"}]),
    "tf.image.resize": operation("image.resize", [*TENSOR, {"size": [8, 8], "antialias": True}]),
    "tf.reshape": operation("reshape", [*TENSOR, {"shape": [6, 4, 5, 3]}]),
    "tf.concat": operation("concat", [[*TENSOR, {"axis": 1, "more": 2}], [*TENSOR, {"axis": 1, "more": 2}]]),
    "turned": getitem([ELLIPSIS, {"start": 1, "stop": None, "step": None}]),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_other_operations_are_named(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.h5", network(UNKNOWN[name]), {"head": HEAD})
    with pytest.raises(
        UnreadableModel, match=rf"layer '{name}' cannot be translated, layer kind '\w+' is not supported"
    ):
        read_keras(path)


def test_an_operation_that_is_called_twice_stays_as_it_is() -> None:
    item = operation("nn.relu", [*TENSOR, {}])
    item["inbound_nodes"] *= 2
    config = network(item)
    assert without_tensorflow(config) == config
