"""What a child hands back: one safetensors file, its metadata a record in JSON. Plain numbers and text, no code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

#: The longest header that the safetensors library reads.
_LONGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class Blob:
    """The bytes of an array: `dtype` in the words of safetensors ("F32"), `shape`, and `data`, little-endian, in C order."""

    dtype: str
    shape: tuple[int, ...]
    data: Any


@dataclass(frozen=True)
class Answer:
    """What a reader found: `record`, ready for JSON, and arrays by name."""

    record: Mapping[str, Any]
    arrays: Mapping[str, Blob] = field(default_factory=dict)


def write_answer(answer: Answer, stream: BinaryIO) -> None:
    """Write an answer; the arrays go out one after the other, so that no second copy of them is made.

    Raises:
        ValueError: the record and the names of the arrays take more than safetensors reads.
    """
    header: dict[str, Any] = {"__metadata__": {"record": json.dumps(answer.record)}}
    end = 0
    for name, blob in answer.arrays.items():
        begin, end = end, end + memoryview(blob.data).nbytes
        header[name] = {"dtype": blob.dtype, "shape": list(blob.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _LONGEST_HEADER:
        raise ValueError(f"names and structure take {len(text)} bytes, expected at most {_LONGEST_HEADER}")
    stream.write(len(text).to_bytes(8, "little") + text)
    for blob in answer.arrays.values():
        stream.write(memoryview(blob.data).cast("B"))
    stream.flush()
