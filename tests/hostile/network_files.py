"""Sound networks for fuzzing: ONNX, and Keras 2 with operations of TensorFlow. They are the same in every run."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np


def onnx_networks() -> list[bytes]:
    """Return a small network in ONNX."""
    from onnx import numpy_helper

    from tests.formats.test_onnx_networks import small

    model = small()
    for tensor in model.graph.initializer:
        numbers = np.linspace(-1, 1, int(np.prod(tensor.dims)), dtype=np.float32).reshape(tensor.dims)
        tensor.CopyFrom(numpy_helper.from_array(numbers, tensor.name))
    return [model.SerializeToString()]


def read_onnx(content: bytes, folder: Path) -> object:
    """Read a network as the child and the main process do it, one after the other."""
    from goodnet.formats.onnx_networks import read_onnx_network
    from goodnet.formats.onnx_trees import parse_graph, take_graph, write_graph
    from tests.formats.test_onnx_trees import arrays_of

    path = folder / "net.onnx"
    taken = take_graph(parse_graph(content, path))
    graph = write_graph(json.loads(json.dumps(taken.record)), arrays_of(taken))
    return read_onnx_network(path, read=lambda: graph)


def keras_2_networks() -> list[bytes]:
    """Return files with operations of TensorFlow between their layers."""
    from tests.formats.keras_2_files import write
    from tests.formats.test_keras_tensorflow import CASES, network

    head = {"kernel": np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2), "bias": np.zeros(2, np.float32)}
    with tempfile.TemporaryDirectory() as folder:
        return [
            write(Path(folder) / "m.h5", network(*CASES[case][0]), {"head": head}).read_bytes()
            for case in ("caffe mode", "torch mode", "joined", "twice as large")
        ]
