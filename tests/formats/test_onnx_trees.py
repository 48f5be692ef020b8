"""An ONNX file as plain data and back is the same file."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from goodnet.core.errors import UnreadableModel
from goodnet.formats.onnx_trees import parse_graph, take_graph, write_graph
from tests.formats.test_onnx_networks import model_of, small, weight

#: More numbers than stay in the JSON, and fewer.
LONG, SHORT = 300, 3


def arrays_of(answer: object) -> dict[str, np.ndarray]:
    kinds = {"U8": "<u1", "F32": "<f4", "I32": "<i4", "I64": "<i8", "F64": "<f8", "U64": "<u8"}
    return {
        name: np.frombuffer(bytes(blob.data), kinds[blob.dtype])
        for name, blob in answer.arrays.items()  # type: ignore[attr-defined]
    }


def model() -> onnx.ModelProto:
    """A graph with tensors in every field, in initializers, in attributes, and in a graph within the graph."""
    rng = np.random.default_rng(0)
    found = small()
    for size in (LONG, SHORT):
        numbers = rng.integers(0, 100, size).tolist()
        for kind in ("FLOAT", "INT32", "INT64", "DOUBLE", "UINT64", "FLOAT16"):
            name = f"{kind} {size}"
            found.graph.initializer.append(helper.make_tensor(name, getattr(TensorProto, kind), [size], numbers))
        found.graph.initializer.append(numpy_helper.from_array(rng.random(size), f"raw {size}"))
    constant = helper.make_tensor("inside", TensorProto.FLOAT, [LONG], rng.random(LONG).tolist())
    inner = helper.make_graph([helper.make_node("Constant", [], ["x"], value=constant)], "inner", [], [], [constant])
    found.graph.node.append(
        helper.make_node("If", ["c"], ["d"], then_branch=inner, else_branch=inner, alpha=0.1, text="é")
    )
    found.graph.node[-1].attribute.append(helper.make_attribute("endless", float("inf")))
    return found


def test_a_file_comes_back_as_it_was() -> None:
    whole = model()
    expected = onnx.ModelProto.FromString(whole.SerializeToString())
    answer = take_graph(whole)
    record = json.loads(json.dumps(answer.record))
    # One of the small network, seven long initializers, and one in the node and the initializer of either branch.
    assert len(answer.arrays) == 1 + 7 + 4
    assert onnx.load_model_from_string(write_graph(record, arrays_of(answer))) == expected


def test_fields_that_the_format_does_not_know_are_left_out() -> None:
    unknown = b"\xfa\x3e\x03abc"  # field 1007 with three bytes
    content = small().SerializeToString()
    taken = take_graph(parse_graph(content + unknown, Path("net.onnx")))
    assert write_graph(taken.record, arrays_of(taken)) == content


def test_operators_and_files_that_are_not_known_are_refused() -> None:
    old = small()
    old.opset_import[0].version = 6
    with pytest.raises(UnreadableModel, match=r"opset 7 or later, got \[6\]"):
        parse_graph(old.SerializeToString(), Path("net.onnx"))
    own = small()
    own.functions.add().name = "own"
    with pytest.raises(UnreadableModel, match="functions of the file's own"):
        parse_graph(own.SerializeToString(), Path("net.onnx"))


GRAPH = take_graph(model_of([helper.make_node("Relu", ["images"], ["scores"])], [weight("k", 2)])).record


@pytest.mark.parametrize(
    ("record", "arrays"),
    [
        ({}, {}),
        ({"graph": 5}, {}),
        ({"graph": {"no such field": 1}}, {}),
        (GRAPH, {"tensor 1 raw_data": np.zeros(4, np.uint8)}),
        (GRAPH, {"tensor 0 name": np.zeros(4, np.uint8)}),
        (GRAPH, {"tensor": np.zeros(4, np.uint8)}),
        (GRAPH, {"tensor 0 int64_data": np.zeros(4, np.float32)}),
    ],
)
def test_what_no_child_says_has_no_sense(record: dict[str, object], arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match=r"."):
        write_graph(record, arrays)
