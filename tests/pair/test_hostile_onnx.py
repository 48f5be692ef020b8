"""ONNX files that are damaged, of another kind, or made to harm: one clear error each, and nothing else is read."""

import hashlib
import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from goodnet.core.errors import UnreadableModel
from goodnet.pair.onnx import OnnxGoodNet

CARD = {
    "schema_version": 1,
    "name": "tiny",
    "classes": 2,
    "image_shape": [1, 2, 2],
    "layout": "NCHW",
    "input_range": "0..1",
    "targets": None,
    "class_names": None,
}


def goodnet_model(card=CARD, *, scores=3, opinions=2, weights=None):
    """A graph that flattens images (n, 1, 2, 2) and multiplies them with weights (4, scores)."""
    ones = np.ones((4, scores), np.float32)
    weights = weights or helper.make_tensor("weights", TensorProto.FLOAT, ones.shape, ones.tobytes(), raw=True)
    two = np.ones((4, opinions), np.float32)
    other = helper.make_tensor("other", TensorProto.FLOAT, two.shape, two.tobytes(), raw=True)
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
        helper.make_node("MatMul", ["flat", "other"], ["floats"]),
        helper.make_node("Cast", ["floats"], ["opinions"], to=TensorProto.INT64),
    ]
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, 2, 2])]
    outputs = [
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", scores]),
        helper.make_tensor_value_info("opinions", TensorProto.INT64, ["batch", opinions]),
    ]
    graph = helper.make_graph(nodes, "goodnet", inputs, outputs, [weights, other])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if card is not None:
        text = card if isinstance(card, str) else json.dumps(card)
        model.metadata_props.add(key="goodnet", value=text)
    return model


def write(path, model):
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def outside(location):
    tensor = TensorProto(name="weights", dims=[4, 3], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "48")):
        tensor.external_data.add(key=key, value=value)
    return tensor


@pytest.mark.parametrize("confine", [True, False])
def test_a_file_that_is_as_it_says(confine, tmp_path):
    path = write(tmp_path / "net.onnx", goodnet_model())
    file = OnnxGoodNet(path, confine=confine)
    assert file(np.ones((3, 1, 2, 2), np.float32)).tolist() == [[4.0] * 3] * 3
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert file.notes == (() if confine else ("the model file was read without confinement",))


def test_onnxruntime_gets_bytes_that_we_have_written(tmp_path, monkeypatch):
    """A field that the format does not know, which a second reader could take for something, is not handed on."""
    given = []
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda content, *_, **__: given.append(content))
    unknown = b"\xfa\x7f\x06hidden"  # field 2047, of six bytes
    path = write(tmp_path / "net.onnx", goodnet_model().SerializeToString() + unknown)
    for confine in (True, False):
        with pytest.raises(AttributeError):
            OnnxGoodNet(path, confine=confine)
    assert [b"hidden" in content for content in given] == [False, True]


whole = goodnet_model().SerializeToString()


@pytest.mark.parametrize(
    "content", [b"", b"no model at all", whole[: len(whole) // 2], b"PK\x03\x04" + whole, bytes(1000)]
)
def test_damaged_files(content, tmp_path):
    path = write(tmp_path / "net.onnx", content)
    for confine in (True, False):
        with pytest.raises(
            UnreadableModel, match=r"net\.onnx: expected an ONNX (file.* damaged|graph of opset 7)"
        ) as caught:
            OnnxGoodNet(path, confine=confine)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("how", ["beside it", "absolute", "above it", "in the working folder"])
def test_weights_in_another_file_are_not_read(how, tmp_path, monkeypatch):
    secret = np.arange(12, dtype=np.float32).tobytes()
    (tmp_path / "models").mkdir()
    for place in (tmp_path, tmp_path / "models"):
        (place / "secret.bin").write_bytes(secret)
    monkeypatch.chdir(tmp_path)
    location = {"absolute": str(tmp_path / "secret.bin"), "above it": "../secret.bin"}.get(how, "secret.bin")
    path = write(tmp_path / "models" / "net.onnx", goodnet_model(weights=outside(location)))
    with pytest.raises(UnreadableModel, match="damaged or of another kind, it refers to another file; goodnet export"):
        OnnxGoodNet(path)


@pytest.mark.parametrize("tag", ["*/_ORT_MEM_ADDR_/*", "*/_ORT_NATIVE_ENDIAN_MEM_ADDR_/*"])
def test_weights_at_an_address_in_memory(tag, tmp_path):
    with pytest.raises(UnreadableModel, match="refused, it refers to this program's memory"):
        OnnxGoodNet(write(tmp_path / "net.onnx", goodnet_model(weights=outside(tag))))


def test_a_network_without_a_guard(tmp_path):
    with pytest.raises(UnreadableModel, match="expected a GoodNet in ONNX, found a network without a guard"):
        OnnxGoodNet(write(tmp_path / "net.onnx", goodnet_model(card=None)))
    model = goodnet_model()
    del model.graph.output[1]
    with pytest.raises(UnreadableModel, match="found a network without a guard"):
        OnnxGoodNet(write(tmp_path / "net.onnx", model))


@pytest.mark.parametrize(
    ("card", "what"),
    [
        ("{", "as a whole"),
        ("[]", "as a whole"),
        ({**CARD, "schema_version": 2}, "schema_version"),
        ({**CARD, "classes": 1}, "classes"),
        ({**CARD, "classes": "2"}, "classes"),
        ({**CARD, "image_shape": [1, 2]}, "image_shape.2"),
        ({**CARD, "image_shape": [1, 0, 2]}, "as a whole"),
        ({**CARD, "layout": "CHWN"}, "layout"),
        ({**CARD, "input_range": None}, "input_range"),
        ({**CARD, "targets": [2]}, "as a whole"),
        ({**CARD, "class_names": ["one"]}, "as a whole"),
        ({**CARD, "code": "import os"}, "code"),
        ({key: value for key, value in CARD.items() if key != "layout"}, "layout"),
    ],
)
def test_damaged_cards(card, what, tmp_path):
    with pytest.raises(
        UnreadableModel, match=rf"the GoodNet's card is damaged or of another version: {what}: "
    ) as caught:
        OnnxGoodNet(write(tmp_path / "net.onnx", goodnet_model(card)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "model",
    [
        goodnet_model({**CARD, "classes": 3}),
        goodnet_model({**CARD, "image_shape": [1, 2, 3]}),
        goodnet_model({**CARD, "image_shape": [2, 2, 1]}),
        goodnet_model(scores=4),
        goodnet_model(opinions=1),
    ],
)
def test_a_card_that_does_not_fit_its_network(model, tmp_path):
    with pytest.raises(UnreadableModel, match=r"not what its card says, .*; export it again") as caught:
        OnnxGoodNet(write(tmp_path / "net.onnx", model))
    assert "\n" not in str(caught.value)


def test_an_operation_that_onnxruntime_does_not_know(tmp_path):
    model = goodnet_model()
    model.graph.node[0].domain, model.graph.node[0].op_type = "org.stranger", "RunCommand"
    with pytest.raises(UnreadableModel, match="operations that are neither"):
        OnnxGoodNet(write(tmp_path / "net.onnx", model))


def test_no_file(tmp_path):
    with pytest.raises(UnreadableModel, match="no such file"):
        OnnxGoodNet(tmp_path / "net.onnx")
    with pytest.raises(UnreadableModel, match="found a folder"):
        OnnxGoodNet(tmp_path)


def test_the_models_of_this_file_are_well_formed():
    onnx.checker.check_model(goodnet_model())
