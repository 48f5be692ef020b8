"""ONNX files that refer to other files or to memory, declare more than they hold, or lie about what they are."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile.corpus import Family, Place

FAMILY = Family("ONNX")


@functools.cache
def sound() -> bytes:
    """Return a small GoodNet in ONNX."""
    from tests.serve.telling_network import telling_network

    return telling_network()


def changed(change: Callable[[Any], None]) -> bytes:
    """Return the small GoodNet with a change."""
    import onnx

    model = onnx.load_from_string(sound())
    change(model)
    return bytes(model.SerializeToString())


def _initializer(model: Any, name: str) -> Any:
    return next(item for item in model.graph.initializer if item.name == name)


def outside(location: str, **more: str) -> Callable[[Any], None]:
    """Return what moves a tensor's bytes to another file."""
    import onnx

    def change(model: Any) -> None:
        item = _initializer(model, "suspected")
        item.ClearField("raw_data")
        item.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {"location": location, "offset": "0", "length": "256", **more}.items():
            entry = item.external_data.add()
            entry.key, entry.value = key, value

    return change


EXTERNAL = "CVE-2022-25882, 2024-27318, 2026-27489, 2026-34446"
WAYS: dict[str, tuple[Callable[[Place], Callable[[Any], None]], str]] = {
    "an absolute path": (lambda p: outside(str(p.secret)), EXTERNAL),
    "a path that leads up": (lambda p: outside(os.path.relpath(p.secret, p.folder)), EXTERNAL),
    "a symbolic link beside it": (lambda p: _beside(p, p.secret, symbolic=True), EXTERNAL),
    "a hard link beside it": (lambda p: _beside(p, p.secret, symbolic=False), "CVE-2026-34447"),
    "attributes of its own": (
        lambda p: outside(str(p.secret), basepath="/", checksum="x", __class__="y"),
        "CVE-2026-34445",
    ),
    "a file to overwrite": (lambda p: outside(str(p.mark), length="1"), "CVE-2025-51480"),
    "this program's memory": (lambda p: outside("*/_ORT_MEM_ADDR_/*", offset="4096"), ""),
}


def _beside(place: Place, target: Path, *, symbolic: bool) -> Callable[[Any], None]:
    link = place.folder / "weights.bin"
    link.symlink_to(target) if symbolic else os.link(target, link)
    return outside("weights.bin")


for _name, (_way, _threat) in WAYS.items():

    def _external(place: Place, way: Any = _way) -> Path:
        (place.folder / "net.onnx").write_bytes(changed(way(place)))
        return place.folder / "net.onnx"

    FAMILY.add("tensors elsewhere", "goodnet", "", _external, f"tensors in {_name}", _threat)


def _dims(*sizes: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        del _initializer(model, "suspected").dims[:]
        _initializer(model, "suspected").dims.extend(sizes)

    return change


def _negative(model: Any) -> None:
    _dims(-1)(model)


def _fill(count: int) -> Callable[[Any], None]:
    """Add a tensor of `count` numbers that one operation makes of one number."""

    def change(model: Any) -> None:
        from onnx import helper, numpy_helper

        model.graph.initializer.append(numpy_helper.from_array(np.array([count], np.int64), "count"))
        nodes = [
            helper.make_node("ConstantOfShape", ["count"], ["wide"]),
            helper.make_node("ReduceSum", ["wide"], ["total"], keepdims=0),
            helper.make_node("Add", ["scores_before", "total"], ["scores"]),
        ]
        for node in model.graph.node:
            for index, output in enumerate(node.output):
                if output == "scores":
                    node.output[index] = "scores_before"
        model.graph.node.extend(nodes)

    return change


SIZES: dict[str, Callable[[Any], None]] = {
    "a tensor larger than its bytes": _dims(1 << 40),
    "a shape whose product overflows": _dims(1 << 32, 1 << 32),
    "a negative shape": _negative,
    "an operation that makes gigabytes of a number": _fill(1 << 30),
    "an operation that makes terabytes of a number": _fill(1 << 42),
}
for _name, _change in SIZES.items():

    def _sized(place: Place, change: Any = _change) -> Path:
        (place.folder / "net.onnx").write_bytes(changed(change))
        return place.folder / "net.onnx"

    FAMILY.add("tensor larger than its bytes", "goodnet", "", _sized, _name)


def _endless(model: Any) -> None:
    from onnx import TensorProto, helper, numpy_helper

    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, [])],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(2**62, np.int64), "turns"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(helper.make_node("Loop", ["turns", "yes"], [], body=body))


def _card(**changes: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        entry = next(item for item in model.metadata_props if item.key == "goodnet")
        entry.value = json.dumps(json.loads(entry.value) | changes)

    return change


def _card_text(change_text: Callable[[str], str]) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        entry = next(item for item in model.metadata_props if item.key == "goodnet")
        entry.value = change_text(entry.value)

    return change


def _foreign_operation(model: Any) -> None:
    model.graph.node[0].domain, model.graph.node[0].op_type = "com.evil", "System"


def _version(model: Any) -> None:
    model.opset_import[0].version = 2**31 - 1


CARDS: dict[str, tuple[Callable[[Any], None], str]] = {
    "a duplicate key in its metadata": (_card_text(lambda text: text[:-1] + ', "classes": 3}'), ""),
    "metadata nested without end": (_card_text(lambda text: "[" * 100_000), ""),
    "metadata with another number of classes": (_card(classes=3), ""),
    "metadata with images of terabytes": (_card(image_shape=[3, 1 << 20, 1 << 20]), ""),
    "metadata with targets that are no classes": (_card(targets=[10**9]), ""),
    "metadata with line ends in its name": (_card(name="a\nb\x1b[2J", classes=1), ""),
    "an operation of a stranger": (_foreign_operation, ""),
    "a version of the far future": (_version, "CVE-2026-44512"),
}
for _name, (_change, _threat) in CARDS.items():

    def _carded(place: Place, change: Any = _change) -> Path:
        (place.folder / "net.onnx").write_bytes(changed(change))
        return place.folder / "net.onnx"

    FAMILY.add("inconsistent metadata", "goodnet", "", _carded, _name, _threat)

DAMAGED: dict[str, bytes] = {
    # Found by fuzzing: onnxruntime's Python part cannot read them, and speaks of it on standard output.
    "an output whose name is no text": sound().replace(b"opinions", b"opin\xffons"),
    "an entry whose name is no text": sound().replace(b"goodnet", b"good\xffet"),
    "half a file": sound()[:600],
    "107 bytes": sound()[:4] + b"\x3a\x65" + b"\x0a\x63" * 50 + b"\x00",
    "groups in groups without end": b"\x08\x09\x3a\xff\xff\xff\x7f" + b"\x0b" * 60_000,
}
for _name, _content in DAMAGED.items():

    def _damaged(place: Place, content: bytes = _content) -> Path:
        (place.folder / "net.onnx").write_bytes(content)
        return place.folder / "net.onnx"

    FAMILY.add("damaged", "goodnet", "", _damaged, _name, "CVE-2026-44512" if "107" in _name else "")


@FAMILY.file("endless", "goodnet", "loop")
def endless_loop(place: Place) -> Path:
    (place.folder / "net.onnx").write_bytes(changed(_endless))
    return place.folder / "net.onnx"


@FAMILY.file("not a GoodNet", "model", "found a GoodNet in ONNX")
def an_ONNX_file_in_place_of_a_model(place: Place) -> Path:
    (place.folder / "net.h5").write_bytes(sound())
    return place.folder / "net.h5"
