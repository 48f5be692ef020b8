"""ONNX files of classifiers: read, compared with onnxruntime, written back; hostile ones refused."""

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from goodnet.core.errors import UnknownImageSize, UnreadableModel
from goodnet.formats.networks import read_network

SHAPE = (3, 8, 8)
RNG = np.random.default_rng(0)


def value(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def weight(name, *shape):
    return numpy_helper.from_array(RNG.normal(0, 0.5, shape).astype(np.float32), name)


def model_of(nodes, weights, batch="n", size=8, opset=17):
    graph = helper.make_graph(
        nodes, "g", [value("images", batch, 3, size, size)], [value("scores", batch, None)], weights
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def small(**options):
    nodes = [
        helper.make_node("Conv", ["images", "k", "b"], ["a"], strides=[2, 2], auto_pad="SAME_UPPER"),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "c"], ["scores"]),
    ]
    return model_of(nodes, [weight("k", 6, 3, 3, 3), weight("b", 6), weight("w", 6, 4), weight("c", 4)], **options)


def save(model, path):
    onnx.save(model, path)
    return path


def run(path, images):
    session = onnxruntime.InferenceSession(str(path))
    return session.run(None, {"images": images.numpy()})[0]


def test_a_small_network_by_hand(tmp_path: Path) -> None:
    path = save(small(), tmp_path / "net.onnx")
    classifier, images = read_network(path), torch.rand(5, *SHAPE)
    assert (classifier.classes, classifier.image_shape, classifier.layout) == (4, SHAPE, "NCHW")
    np.testing.assert_allclose(classifier(images).detach().numpy(), run(path, images), atol=1e-6)


def test_changed_weights_are_written_back_where_they_were(tmp_path: Path) -> None:
    classifier, images = read_network(save(small(), tmp_path / "net.onnx")), torch.rand(5, *SHAPE)
    with torch.no_grad():
        for parameter in classifier.network.parameters():
            parameter.mul_(1.5)
    written = classifier.save(tmp_path / "out.onnx")
    np.testing.assert_allclose(classifier(images).detach().numpy(), run(written, images), atol=1e-5)
    names = [tensor.name for tensor in onnx.load(written).graph.initializer]
    assert names == ["k", "b", "w", "c"]


def test_two_layers_that_share_a_weight_get_one_each(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Identity", ["b"], ["b2"]),
        helper.make_node("Conv", ["images", "k", "b"], ["a"]),
        helper.make_node("Conv", ["a", "k2", "b2"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["p"]),
        helper.make_node("Flatten", ["p"], ["scores"]),
    ]
    model = model_of(nodes, [weight("k", 4, 3, 3, 3), weight("k2", 4, 4, 3, 3), weight("b", 4)])
    classifier, images = read_network(save(model, tmp_path / "net.onnx")), torch.rand(2, *SHAPE)
    with torch.no_grad():
        dict(classifier.network.named_parameters())["conv_0.bias"].add_(1)
    written = classifier.save(tmp_path / "out.onnx")
    np.testing.assert_allclose(classifier(images).detach().numpy(), run(written, images), atol=1e-5)


def test_a_softmax_stays_in_the_file_and_out_of_the_logits(tmp_path: Path) -> None:
    model = small()
    model.graph.node[-1].output[0] = "logits"
    model.graph.node.append(helper.make_node("Softmax", ["logits"], ["scores"]))
    path = save(model, tmp_path / "net.onnx")
    classifier, images = read_network(path), torch.rand(3, *SHAPE)
    np.testing.assert_allclose(classifier(images).softmax(1).detach().numpy(), run(path, images), atol=1e-6)
    assert "softmax at the end is left out" in classifier.notes[0]


def test_a_graph_for_one_image_takes_several(tmp_path: Path) -> None:
    model = small(batch=1)
    model.graph.node[3].CopyFrom(helper.make_node("Reshape", ["p", "shape"], ["f"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 6]), "shape"))
    path = save(model, tmp_path / "net.onnx")
    images = torch.rand(3, *SHAPE)
    theirs = np.concatenate([run(path, images[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(read_network(path)(images).detach().numpy(), theirs, atol=1e-6)


def test_an_open_size_is_asked_for(tmp_path: Path) -> None:
    path = save(small(size=None), tmp_path / "net.onnx")
    with pytest.raises(UnknownImageSize, match="--image-shape"):
        read_network(path)
    assert read_network(path, image_shape=(3, 9, 11)).image_shape == (3, 9, 11)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("ArgMax", "it gives class numbers"),
        ("QuantizeLinear", "quantised"),
        ("If", "branches on values"),
        ("Loop", "it has a loop"),
        ("Magic", "operator Magic"),
    ],
)
def test_operators_without_a_counterpart_are_named(kind: str, words: str, tmp_path: Path) -> None:
    model = small()
    model.graph.node[1].op_type = kind
    with pytest.raises(UnreadableModel, match=words):
        read_network(save(model, tmp_path / "net.onnx"))


def test_a_graph_that_is_read_otherwise_than_onnxruntime_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(small(), tmp_path / "net.onnx")
    monkeypatch.setitem(
        __import__("goodnet.formats.onnx_lowering", fromlist=["_"])._FUNCTIONS, "Relu", nn.functional.elu
    )
    with pytest.raises(UnreadableModel, match="does not match onnxruntime"):
        read_network(path)


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A file whose weights lie in another beside it."""
    folder = tmp_path / "net"
    folder.mkdir()
    onnx.save(small(), folder / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    return folder / "net.onnx"


def test_weights_in_a_file_beside_it(beside: Path, tmp_path: Path) -> None:
    classifier = read_network(beside)
    images = torch.rand(2, *SHAPE)
    np.testing.assert_allclose(classifier(images).detach().numpy(), run(beside, images), atol=1e-6)
    assert run(classifier.save(tmp_path / "one.onnx"), images).shape == (2, 4)


@pytest.mark.parametrize("location", ["../net.data", "/etc/passwd", "a/net.data"])
def test_weights_elsewhere_are_refused(location: str, beside: Path) -> None:
    model = onnx.load(beside, load_external_data=False)
    for tensor in model.graph.initializer:
        next(item for item in tensor.external_data if item.key == "location").value = location
    beside.write_bytes(model.SerializeToString())
    with pytest.raises(UnreadableModel, match=r"refused, .* is no plain name of a file beside it"):
        read_network(beside)


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_weights_that_are_a_link_are_refused(link: object, beside: Path, tmp_path: Path) -> None:
    data = beside.parent / "net.data"
    data.rename(tmp_path / "elsewhere")
    link(tmp_path / "elsewhere", data)  # type: ignore[operator]
    with pytest.raises(UnreadableModel, match=r"are a link|cannot be read beside it"):
        read_network(beside)
