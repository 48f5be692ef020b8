"""ONNX files as plain data, and back: the graph as JSON, and the long numbers of its tensors as arrays."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf import json_format
from google.protobuf.message import Message

from goodnet.confinement.answers import Answer, Blob
from goodnet.core.errors import UnreadableModel
from goodnet.core.one_line import one_line
from goodnet.formats.onnx_graphs import require_bounded

#: Versions of the operators that were compared; later ones are tried all the same, since outputs are compared.
_OLDEST_OPSET = 7
#: Fields of a tensor that hold its numbers: their type in an array, and in the words of safetensors.
_NUMBERS = {
    "raw_data": ("<u1", "U8"),
    "float_data": ("<f4", "F32"),
    "int32_data": ("<i4", "I32"),
    "int64_data": ("<i8", "I64"),
    "double_data": ("<f8", "F64"),
    "uint64_data": ("<u8", "U64"),
}
#: Fields with fewer numbers stay in the JSON.
_LONG = 256
_KEY = re.compile(r"tensor (\d+) (\w+)")


def parse_graph(content: bytes, path: Path) -> Any:
    """Return the bytes of an ONNX file as onnx.ModelProto.

    Raises:
        UnreadableModel: they are damaged, would compute without end, or need operators that are not known.
    """
    require_bounded(content, path)
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's errors have no root of their own
        raise UnreadableModel(
            f"{path}: expected an ONNX file, but it is damaged or of another kind ({one_line(str(error))[:80]})"
        ) from error
    versions = [item.version for item in model.opset_import if item.domain in ("", "ai.onnx")]
    if not versions or versions[0] < _OLDEST_OPSET or not model.graph.node:
        raise UnreadableModel(
            f"{path}: expected an ONNX graph of opset {_OLDEST_OPSET} or later, got {versions or 'none'}; export it again"
        )
    if model.functions:
        raise UnreadableModel(f"{path}: expected plain operators, got functions of the file's own; export it again")
    return model


def take_graph(model: Any) -> Answer:
    """Return onnx.ModelProto as plain data: "graph" as JSON gives it, and the long numbers of its tensors, in their order.

    The model is emptied of them. What the format does not know is left out.
    """
    arrays = {}
    for number, tensor in enumerate(_tensors(model)):
        for name, (kind, word) in _NUMBERS.items():
            values = getattr(tensor, name)
            if len(values) > _LONG:
                data = values if name == "raw_data" else np.array(values, dtype=kind).tobytes()
                arrays[f"tensor {number} {name}"] = Blob(word, (len(values),), data)
                tensor.ClearField(name)
    return Answer({"graph": json_format.MessageToDict(model, preserving_proto_field_name=True)}, arrays)


def write_graph(record: Mapping[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> bytes:
    """Return the ONNX file with what `take_graph` took; `arrays` is emptied.

    Raises:
        ValueError: it did not take this.
    """
    try:
        model = json_format.ParseDict(record["graph"], onnx.ModelProto())
        tensors = list(_tensors(model))
        for key in list(arrays):
            values = arrays.pop(key)
            number, name = _KEY.fullmatch(key).groups()  # type: ignore[union-attr]
            _put_back(tensors[int(number)], name, values.astype(_NUMBERS[name][0], casting="equiv"))
    except (json_format.ParseError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    return bytes(model.SerializeToString())


def _put_back(tensor: Any, name: str, values: npt.NDArray[Any]) -> None:
    if name == "raw_data":
        tensor.raw_data = values.tobytes()
    else:
        getattr(tensor, name).extend(values.tolist())  # four times as fast as numbers of numpy


def _tensors(message: Any) -> Iterator[Any]:
    """Yield all tensors in a message, those of attributes and of graphs within graphs among them."""
    if message.DESCRIPTOR.full_name == "onnx.TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for item in [value] if isinstance(value, Message) else value:
                yield from _tensors(item)
