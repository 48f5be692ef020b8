"""What an ONNX file would do, read from its bytes before onnxruntime sees them.

Only what is looked for is read: the operations by name, and the small integers that say how large their results are.

Source: the ONNX intermediate representation (onnx.proto) and the encoding of protocol buffers.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from goodnet.core.errors import UnreadableModel
from goodnet.formats.declared_sizes import MOST_NUMBERS

#: Operations that go on for as long as the file says. A network of images that is exported has none.
_ENDLESS = frozenset({"Loop", "Scan", "SequenceMap"})
#: Operations whose results are as large as a constant says, and which of their inputs that is.
_MAKERS = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1, "OneHot": 1, "Range": 1, "Pad": 1, "Resize": 3, "Upsample": 1}
#: Whose operations onnxruntime brings along and torch's exporter writes.
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "pkg.onnxscript.torch_lib"})
_DEEPEST = 20
#: A shape has no more numbers.
_MOST_SIZES = 16
#: Kinds of tensors, by their numbers in onnx.proto, that hold sizes: int32 and int64, with struct's letters.
_INTEGERS = {6: "i", 7: "q"}
#: Fields of onnx.proto.
_MODEL_GRAPH, _GRAPH_NODE, _GRAPH_INITIALIZER = 7, 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 2, 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 5, 6, 11
_TENSOR_KIND, _TENSOR_32, _TENSOR_64, _TENSOR_NAME, _TENSOR_RAW = 2, 5, 7, 8, 9


@dataclass
class _Found:
    """Operations (name, inputs), and small tensors of integers by their names."""

    operations: list[tuple[str, list[str]]] = field(default_factory=list)
    domains: set[str] = field(default_factory=set)
    sizes: dict[str, list[int]] = field(default_factory=dict)


def require_bounded(content: bytes, path: Path) -> None:
    """Check that a file has no operation that goes on without end, is not onnxruntime's, or makes an enormous tensor.

    Raises:
        UnreadableModel: it has, or its bytes are no protocol buffer.
    """
    found = _Found()
    try:
        for number, value in _fields(memoryview(content)):
            if number == _MODEL_GRAPH:
                _read_graph(_message(value), found, depth=0)
    except (ValueError, IndexError, struct.error) as error:
        raise UnreadableModel(
            f"{path}: expected an ONNX file in one piece, but it is damaged or of another kind; goodnet export writes one"
        ) from error
    endless = sorted({name for name, _ in found.operations} & _ENDLESS)
    if endless:
        raise UnreadableModel(
            f"{path}: refused, it has a loop ({', '.join(endless)}), which may go on without end; export it again without loops"
        )
    if found.domains - _DOMAINS:
        raise UnreadableModel(
            f"{path}: refused, it has operations that are neither ONNX's nor onnxruntime's own; export it again with standard "
            "operations"
        )
    for name, inputs in found.operations:
        place = _MAKERS.get(name, len(inputs))
        sizes = found.sizes.get(inputs[place], []) if place < len(inputs) else []
        if math.prod(max(1, abs(size)) for size in sizes) > MOST_NUMBERS:
            raise UnreadableModel(
                f"{path}: refused, its operation {name} makes a tensor of more than {MOST_NUMBERS:,} numbers; export it again "
                "with smaller tensors"
            )


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the fields of a message: its number, and its value as a number or as bytes."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = _varint(message, place)
            yield number, value
            continue
        length = {1: 8, 5: 4}.get(wire)
        if wire == 2:
            length, place = _varint(message, place)
        if length is None or place + length > len(message):
            raise ValueError("no field")
        yield number, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("no number")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where there should be bytes")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)).decode("utf-8", "replace")


def _read_graph(graph: memoryview, found: _Found, depth: int) -> None:
    if depth > _DEEPEST:
        raise ValueError("graphs within graphs")
    for number, value in _fields(graph):
        if number == _GRAPH_NODE:
            _read_node(_message(value), found, depth)
        elif number == _GRAPH_INITIALIZER:
            name, sizes = _read_tensor(_message(value))
            found.sizes[name] = sizes


def _read_node(node: memoryview, found: _Found, depth: int) -> None:
    inputs: list[str] = []
    outputs: list[str] = []
    kind = ""
    for number, value in _fields(node):
        if number == _NODE_INPUT:
            inputs.append(_text(value))
        elif number == _NODE_OUTPUT:
            outputs.append(_text(value))
        elif number == _NODE_TYPE:
            kind = _text(value)
        elif number == _NODE_DOMAIN:
            found.domains.add(_text(value))
        elif number == _NODE_ATTRIBUTE:
            _read_attribute(_message(value), outputs, found, depth)
    found.operations.append((kind, inputs))


def _read_attribute(attribute: memoryview, outputs: list[str], found: _Found, depth: int) -> None:
    for number, value in _fields(attribute):
        if number == _ATTRIBUTE_TENSOR and outputs:
            found.sizes[outputs[0]] = _read_tensor(_message(value))[1]
        elif number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
            _read_graph(_message(value), found, depth + 1)


def _read_tensor(tensor: memoryview) -> tuple[str, list[int]]:
    """Return a tensor's name and, where it is small and holds integers, its values."""
    fields = list(_fields(tensor))
    name = next((_text(value) for number, value in fields if number == _TENSOR_NAME), "")
    letter = next((_INTEGERS.get(int(v)) for n, v in fields if n == _TENSOR_KIND and isinstance(v, int)), None)
    values: list[int] = []
    for number, value in fields:
        if letter is not None and number == _TENSOR_RAW and len(raw := _message(value)) <= 8 * _MOST_SIZES:
            values += struct.unpack(f"<{len(raw) // struct.calcsize(letter)}{letter}", raw)
        elif number in (_TENSOR_32, _TENSOR_64):
            values += _integers(value)
    return name, values[:_MOST_SIZES]


def _integers(value: int | memoryview) -> list[int]:
    """Return the numbers in a field, one or packed."""
    if isinstance(value, int):
        return [value]
    numbers: list[int] = []
    place = 0
    while place < len(value) and len(numbers) < _MOST_SIZES:
        number, place = _varint(value, place)
        numbers.append(number)
    return numbers
