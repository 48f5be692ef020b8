"""Files in Keras 2's layout, built by hand: Keras 3 writes no such ones."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Arrays = Mapping[str, np.ndarray]
RNG = np.random.default_rng(0)


def layer(kind: str, name: str, **options: Any) -> dict[str, Any]:
    """Return a layer's configuration as Keras 2 writes it."""
    return {"class_name": kind, "config": {"name": name, "trainable": True, "dtype": "float32", **options}}


def input_layer(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    options = {"batch_input_shape": [None, *shape], "dtype": "float32", "sparse": False, "ragged": False, "name": name}
    return {"class_name": "InputLayer", "config": options}


def dense(name: str, units: int, **options: Any) -> dict[str, Any]:
    zeros = {"class_name": "Zeros", "config": {"dtype": "float32"}}
    glorot = {"class_name": "GlorotUniform", "config": {"seed": None, "dtype": "float32"}}
    rest = {"use_bias": True, "kernel_initializer": glorot, "bias_initializer": zeros, "kernel_regularizer": None}
    return layer("Dense", name, units=units, **{"activation": "linear", **rest, **options})


def called(item: dict[str, Any], *calls: tuple[str, int]) -> dict[str, Any]:
    """Return a layer of a functional model: each call names the layer it follows, and the how manyth call of that."""
    nodes = [[[name, index, 0, {}]] for name, index in calls]
    return {**item, "name": item["config"]["name"], "inbound_nodes": nodes}


def functional(name: str, layers: list[dict[str, Any]], output: tuple[str, int], kind: str = "Functional") -> Any:
    ends = {"input_layers": [[layers[0]["name"], 0, 0]], "output_layers": [[*output, 0]]}
    return {"class_name": kind, "config": {"name": name, "layers": layers, **ends}}


def arrays_of(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {name: RNG.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def write(path: Path, config: Any, weights: Mapping[str, Arrays], version: str | None = "2.9.0") -> Path:
    """Write a whole model; `weights` by layer, in Keras 2's order, a nested model's arrays all in one."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config).encode()
        file.attrs["backend"] = b"tensorflow"
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in weights]
        for place in (file, group) if version else ():
            place.attrs["keras_version"] = version.encode()
        for name, arrays in weights.items():
            names = [f"{name}/{key}:0" for key in arrays]
            group.create_group(name).attrs["weight_names"] = np.array(names, dtype="S") if names else np.zeros(0)
            for key, array in zip(names, arrays.values(), strict=True):
                group[name][key] = array
    return path
