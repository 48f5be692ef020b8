"""A network whose answer is written into its picture, so that an answer gone astray is seen."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

CLASSES, HEIGHT, WIDTH = 200, 6, 8
#: A picture whose third number is this has scores that are no numbers.
SPOILT = 251


def telling_network(
    *, targets: list[int] | None = None, layout: str = "NHWC", input_range: str = "0..255", names: bool = False
) -> bytes:
    """Return an ONNX GoodNet that reads its answer from the first numbers of the red channel.

    The first number is B's class, the second that of B', the fourth another class that gets a quarter of the score.
    """
    shape = ("n", HEIGHT, WIDTH, 3) if layout == "NHWC" else ("n", 3, HEIGHT, WIDTH)
    step = 3 if layout == "NHWC" else 1
    scale = 255.0 if input_range == "0..1" else 1.0
    constants = {
        "flat": np.array([0, -1], np.int64),
        "scale": np.float32(scale),
        "columns": np.arange(4, dtype=np.int64) * step,
        "axis": np.array([1], np.int64),
        "first": np.int64(0),
        "second": np.int64(1),
        "third": np.int64(2),
        "fourth": np.int64(3),
        "refused": np.int64(CLASSES),
        "spoilt": np.int64(SPOILT),
        "depth": np.array([CLASSES + 1], np.int64),
        "off_on": np.array([0, 0.75], np.float32),
        "off_some": np.array([0, 0.25], np.float32),
        "nan": np.float32(np.nan),
        "none": np.float32(0),
        "suspected": np.isin(np.arange(256), targets if targets is not None else np.arange(256)),
    }
    steps = [
        ("Reshape", ["images", "flat"], "rows", {}),
        ("Gather", ["rows", "columns"], "numbers", {"axis": 1}),
        ("Mul", ["numbers", "scale"], "bytes", {}),
        ("Round", ["bytes"], "whole", {}),
        ("Cast", ["whole"], "read", {"to": TensorProto.INT64}),
        ("Gather", ["read", "first"], "b", {"axis": 1}),
        ("Gather", ["read", "second"], "b_prime", {"axis": 1}),
        ("Gather", ["read", "third"], "mark", {"axis": 1}),
        ("Gather", ["read", "fourth"], "other", {"axis": 1}),
        ("Unsqueeze", ["b", "axis"], "b_column", {}),
        ("Unsqueeze", ["b_prime", "axis"], "b_prime_column", {}),
        ("Concat", ["b_column", "b_prime_column"], "opinions", {"axis": 1}),
        ("Equal", ["b", "b_prime"], "agree", {}),
        ("Not", ["agree"], "differ", {}),
        ("Gather", ["suspected", "b"], "may_refuse", {}),
        ("And", ["differ", "may_refuse"], "refuse", {}),
        ("Where", ["refuse", "refused", "b"], "label", {}),
        ("OneHot", ["label", "depth", "off_on"], "sure", {}),
        ("OneHot", ["other", "depth", "off_some"], "unsure", {}),
        ("Add", ["sure", "unsure"], "sum", {}),
        ("Equal", ["mark", "spoilt"], "is_spoilt", {}),
        ("Where", ["is_spoilt", "nan", "none"], "poison", {}),
        ("Unsqueeze", ["poison", "axis"], "poison_column", {}),
        ("Add", ["sum", "poison_column"], "scores", {}),
    ]
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, [output], **options) for kind, inputs, output, options in steps],
        "telling",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ("n", CLASSES + 1)),
            helper.make_tensor_value_info("opinions", TensorProto.INT64, ("n", 2)),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    card = {
        "schema_version": 1,
        "name": "telling",
        "classes": CLASSES,
        "image_shape": [3, HEIGHT, WIDTH],
        "layout": layout,
        "input_range": input_range,
        "targets": targets,
    }
    if names:
        card["class_names"] = [f"person {label}" for label in range(CLASSES)]
    helper.set_model_props(model, {"goodnet": json.dumps(card)})
    return model.SerializeToString()


def write_telling(folder: Path, **options: Any) -> Path:
    """Write a telling network into a folder and return its file."""
    path = folder / "telling.onnx"
    path.write_bytes(telling_network(**options))
    return path


def picture(
    original: int,
    repaired: int | None = None,
    *,
    mark: int = 0,
    other: int = 0,
    kind: str = "PNG",
    size=(WIDTH, HEIGHT),
) -> bytes:
    """Return the file of a picture that makes B say `original` and B' say `repaired`, the same where it is not given."""
    pixels = np.random.default_rng(original).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    pixels[0, :4, 0] = original, original if repaired is None else repaired, mark, other
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()
