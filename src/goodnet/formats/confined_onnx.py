"""What the confined child does with an ONNX file: it takes the graph out of it as plain data."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from goodnet.confinement.answers import Answer
from goodnet.core.errors import UnreadableModel
from goodnet.formats.confined_reader import copy_stream
from goodnet.formats.one_reading import refuse_second_reading
from goodnet.formats.onnx_trees import parse_graph, take_graph


def read_onnx(source: BinaryIO, copy: BinaryIO, name: str) -> Answer:
    """Return an ONNX file as plain data; `goodnet.confinement.child.Reader`.

    Returns:
        The record: "kind", "sha256" and what `take_graph` gives.

    Raises:
        UnreadableModel: see `parse_graph`; or the file can be read in two ways.
    """
    digest = copy_stream(source, copy)
    refuse_second_reading(copy, name, UnreadableModel)
    copy.seek(0)
    taken = take_graph(parse_graph(copy.read(), Path(name)))
    return Answer({"kind": "onnx", "sha256": digest, **taken.record}, taken.arrays)
