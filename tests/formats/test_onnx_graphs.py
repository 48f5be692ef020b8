"""Operations and sizes, read from the bytes of ONNX files that the onnx package wrote."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from goodnet.core.errors import UnreadableModel
from goodnet.formats.onnx_graphs import require_bounded

PATH = Path("net.onnx")


def content(nodes: list[Any], **constants: Any) -> bytes:
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [], [], tensors)
    return bytes(helper.make_model(graph).SerializeToString())


def packed(name: str, values: list[int]) -> Any:
    """Return a tensor whose values lie in int64_data, not in raw_data."""
    return helper.make_tensor(name, TensorProto.INT64, [len(values)], values)


def test_an_ordinary_graph_passes() -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("Slice", ["zeros", "start", "end"], ["part"]),
        helper.make_node("Conv", ["part", "kernel"], ["out"]),
    ]
    require_bounded(
        content(nodes, shape=[2, 3, 100, 100], start=[0], end=[2**63 - 1], kernel=np.zeros((4, 3, 3, 3), np.float32)),
        PATH,
    )


@pytest.mark.parametrize("sizes", [[1 << 30], [1 << 14, 1 << 14], [2**40, 2]])
@pytest.mark.parametrize("operation", ["ConstantOfShape", "Expand"])
def test_an_operation_that_makes_an_enormous_tensor(operation: str, sizes: list[int]) -> None:
    inputs = ["shape"] if operation == "ConstantOfShape" else ["one", "shape"]
    node = helper.make_node(operation, inputs, ["wide"])
    for graph in (
        helper.make_graph([node], "g", [], [], [packed("shape", sizes)]),
        helper.make_graph([node], "g", [], [], [numpy_helper.from_array(np.array(sizes, np.int64), "shape")]),
        helper.make_graph([helper.make_node("Constant", [], ["shape"], value=packed("x", sizes)), node], "g", [], []),
    ):
        with pytest.raises(UnreadableModel, match=f"its operation {operation} makes a tensor of more than"):
            require_bounded(helper.make_model(graph).SerializeToString(), PATH)


def test_a_loop_inside_a_branch() -> None:
    body = helper.make_graph([helper.make_node("Loop", ["n", "go"], [])], "branch", [], [])
    with pytest.raises(UnreadableModel, match=r"it has a loop \(Loop\)"):
        require_bounded(content([helper.make_node("If", ["x"], [], then_branch=body, else_branch=body)]), PATH)


def test_operations_of_others() -> None:
    with pytest.raises(UnreadableModel, match="neither ONNX's nor onnxruntime's own"):
        require_bounded(content([helper.make_node("Evil", ["x"], ["y"], domain="com.evil")]), PATH)


@pytest.mark.parametrize("text", [b"\x3a\xff\xff\xff\xff\x0f", b"\x3a\x02\x0b\x0b", b"\xff" * 20, b"\x38"])
def test_bytes_that_are_no_protocol_buffer(text: bytes) -> None:
    with pytest.raises(UnreadableModel, match="damaged or of another kind"):
        require_bounded(text, PATH)
