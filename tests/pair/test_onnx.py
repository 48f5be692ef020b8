"""GoodNets in ONNX against the GoodNet itself: the same class for every image, in the original's range and layout."""

import sys

import keras
import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
import torch
from keras import layers as kl
from torch import nn

from goodnet import api
from goodnet.attacks.accessories import Accessories
from goodnet.attacks.poisoning import poisoned_test_set
from goodnet.core.dataset import Dataset
from goodnet.core.errors import InvalidOption, MethodFailed, UnwritableOutput, WrongShape
from goodnet.datasets.face_source import as_dataset
from goodnet.datasets.faces import render_faces
from goodnet.formats.data import read_data
from goodnet.formats.keras import from_keras
from goodnet.formats.keras_deepid import build_keras
from goodnet.formats.networks import make_network, read_network
from goodnet.formats.pytorch import from_module
from goodnet.pair import onnx as onnx_files
from goodnet.pair.deployment import example_images
from goodnet.pair.goodnet import GoodNet
from goodnet.pair.onnx import OnnxGoodNet
from tests.conftest import make_quadrants
from tests.plain_goodnet import combine, logits
from tests.small_networks import Residual, Untraceable, plain, settle


def as_taken(dataset, guard):
    """The images of a data set as the original network takes them, float32."""
    images = guard.original.prepare(dataset.images()).numpy()
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1) if guard.original.layout == "NHWC" else images)


def changed(classifier, *layers, factor=1.7):
    """A copy with other weights in the layers, in all where none is named."""
    copy = classifier.copy()
    with torch.no_grad():
        for name, weight in copy.network.named_parameters():
            if not layers or name.startswith(layers):
                weight.copy_(weight.roll(1, dims=0) * factor)
    return copy


def check(guard, file, *datasets):
    """Both give the same class and the same scores for every image of the sets, whatever the number at once."""
    predictions = []
    for dataset in datasets:
        images = as_taken(dataset, guard)
        expected = guard(images)
        said = file.run(images)
        np.testing.assert_allclose(said.scores, expected, rtol=0, atol=1e-5)
        assert np.array_equal(said.scores.argmax(axis=1), expected.argmax(axis=1))
        of_dataset, in_file = guard.predict_all(dataset), file.predict_all(dataset)
        asked = np.isin(of_dataset.original, range(guard.classes) if guard.targets is None else guard.targets)
        second = np.where(asked, of_dataset.repaired, -1)
        assert np.array_equal(said.opinions, np.stack([of_dataset.original, second], axis=1))
        assert np.array_equal(in_file.goodnet, of_dataset.goodnet)
        assert np.array_equal(in_file.refused, of_dataset.refused)
        for size in (1, 2, 7):
            np.testing.assert_allclose(file(images[:size]), expected[:size], rtol=0, atol=1e-5)
        predictions += expected.argmax(axis=1).tolist()
    return predictions


def convolutions(path):
    return sum(node.op_type == "Conv" for node in onnx.load(path).graph.node)


def branches_of(path):
    """The graphs of the one If in a file: with B', and without."""
    (node,) = (node for node in onnx.load(path).graph.node if node.op_type == "If")
    by_name = {item.name: item.g for item in node.attribute}
    return by_name["then_branch"], by_name["else_branch"]


@pytest.fixture(scope="module")
def twins(repository):
    """A planted network, and a repaired one without a third of its last channels."""
    original = read_network(repository / "tests/data/planted.safetensors", "tests.data.twin_network:build", (1, 16, 16))
    repaired = original.copy()
    repaired.layer("pool_2").silence(range(0, 24, 3))
    return original, repaired


@pytest.fixture(scope="module")
def exported(twins, tmp_path_factory):
    """The GoodNet of the twins and its file."""
    guard = GoodNet(*twins)
    return guard, api.export(guard, out=tmp_path_factory.mktemp("onnx") / "twins.onnx", class_names=list("0123456789"))


# --- the same predictions -----------------------------------------------------------------------------------------


def test_the_twins_on_every_image(exported, planted):
    guard, path = exported
    predictions = check(guard, OnnxGoodNet(path), planted.test, planted.triggered)
    assert len(set(predictions)) == 11


def test_only_targets_are_refused(twins, planted, tmp_path):
    guard = GoodNet(*twins, targets=[7, 3])
    file = OnnxGoodNet(api.export(guard, out=tmp_path / "targets.onnx"))
    assert file.card.targets == (3, 7)
    check(guard, file, planted.test, planted.triggered)
    images = planted.test.images()
    expected = combine(*(logits(net, images) for net in twins), targets=[3, 7])
    assert 0 < (expected == 10).sum() < (combine(*(logits(net, images) for net in twins)) == 10).sum()
    assert np.array_equal(file(images.numpy()).argmax(axis=1), expected)


def test_networks_that_differ_in_every_layer(tiny_classifier, tiny_data, tmp_path):
    guard = GoodNet(tiny_classifier, changed(tiny_classifier), input_range="0..255")
    path = api.export(guard, out=tmp_path / "all.onnx")
    assert len(set(check(guard, OnnxGoodNet(path), tiny_data))) > 1
    assert convolutions(path) == 4


def test_with_targets_b_prime_is_in_a_branch_and_its_weights_too(tiny_classifier, tiny_data, tmp_path):
    classes = tiny_classifier(tiny_data.images()).argmax(dim=1).tolist()
    guard = GoodNet(tiny_classifier, changed(tiny_classifier), input_range="0..255", targets=classes[:1])
    path = api.export(guard, out=tmp_path / "branch.onnx")
    check(guard, OnnxGoodNet(path), tiny_data, *(tiny_data.subset(np.array([place])) for place in range(5)))
    assert len(set(classes[:5])) > 1, "all the single images go the same way"
    second, nothing = branches_of(path)
    kinds = [[node.op_type for node in graph.node] for graph in (second, nothing)]
    assert (convolutions(path), kinds[0].count("Conv"), kinds[1].count("Conv")) == (2, 2, 0)
    weights = {node.input[1] for node in second.node if node.op_type in ("Conv", "Gemm")}
    assert weights <= {tensor.name for tensor in second.initializer}
    onnx.checker.check_model(path)


@pytest.mark.slow
def test_a_transformer_with_targets(tmp_path):
    original = make_network("small_vit", 4, (3, 8, 8), seed=3)
    data = make_quadrants(30, seed=6, brightness=120)
    pixels = np.ascontiguousarray(data.source.pixels[:, :, :8, :8])
    guard = GoodNet(original, changed(original, "blocks.2"), targets=[0, 1], input_range="0..1")
    path = api.export(guard, out=tmp_path / "vit.onnx")
    check(guard, OnnxGoodNet(path), Dataset.from_arrays(pixels))


@pytest.mark.parametrize(("build", "layer"), [(Residual, "second"), (plain, "5")])
def test_torch_networks(build, layer, tmp_path):
    torch.manual_seed(1)
    module = build().eval()
    for norm in (part for part in module.modules() if isinstance(part, nn.BatchNorm2d)):
        norm.running_mean.uniform_(0.1, 0.5)
        norm.running_var.uniform_(0.5, 1.5)
    original = from_module(module, (3, 14, 14))
    guard = GoodNet(original, changed(original, layer))
    path = api.export(guard, out=tmp_path / "net.onnx")
    file = OnnxGoodNet(path)
    assert file.card.layout == "NCHW"
    pixels = np.random.default_rng(0).random((40, 3, 14, 14), dtype=np.float32)
    check(guard, file, Dataset.from_arrays(pixels))
    assert np.ptp(file(pixels), axis=0).max() > 1e-3, "the network gives every image the same scores"


def test_a_keras_network_takes_its_own_range_and_layout(tmp_path):
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            kl.Rescaling(1 / 255),
            kl.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="conv_1"),
            kl.BatchNormalization(name="norm"),
            kl.AveragePooling2D(2, padding="same", name="pool"),
            kl.Conv2D(5, 2, activation="elu", name="conv_2"),
            kl.Flatten(),
            kl.Dense(4, activation="softmax", name="output"),
        ]
    )
    original = from_keras(model, name="net.keras").with_input_range("0..255")
    guard = GoodNet(original, changed(original, "output", factor=-1))
    path = api.export(guard, out=tmp_path / "keras.onnx")
    file = OnnxGoodNet(path)
    data = make_quadrants(30, seed=6)
    check(guard, file, data)
    assert file.card.model_dump() == {
        "schema_version": 1,
        "name": "net.keras",
        "classes": 4,
        "image_shape": (3, 12, 12),
        "layout": "NHWC",
        "input_range": "0..255",
        "targets": None,
        "class_names": None,
    }
    # As a user of onnxruntime alone would: whole numbers, height x width x channels.
    session = onnxruntime.InferenceSession(path)
    assert [(item.name, item.type, item.shape) for item in session.get_inputs()] == [
        ("images", "tensor(float)", ["batch", 12, 12, 3])
    ]
    assert [(item.name, item.type, item.shape[1:]) for item in session.get_outputs()] == [
        ("scores", "tensor(float)", [5]),
        ("opinions", "tensor(int64)", [2]),
    ]
    pixels = data.source.pixels.transpose(0, 2, 3, 1)
    scores = session.run(["scores"], {"images": pixels.astype(np.float32)})[0]
    plain_keras = model.predict(pixels.astype(np.float32), verbose=0)
    kept = scores.argmax(axis=1) != 4
    np.testing.assert_allclose(scores[kept, :4], plain_keras[kept], atol=1e-5)
    assert np.array_equal(file(np.ascontiguousarray(pixels)), scores)


def test_whole_numbers_where_the_range_is_0_to_1(exported, planted):
    guard, path = exported
    pixels = np.round(planted.test.images().numpy() * 255).astype(np.uint8)
    assert np.array_equal(OnnxGoodNet(path)(pixels).argmax(axis=1), guard(pixels).argmax(axis=1))


def test_rendered_faces(tmp_path):
    faces = as_dataset(render_faces(12, 4))
    triggered = poisoned_test_set(faces, Accessories(item="sunglasses").poison(faces, seed=0).backdoors)
    original = from_keras(build_keras(12, 0), name="faces.h5")
    settle(original.network)
    guard = GoodNet(original, changed(original, "fc_2", "output", factor=1.0))
    file = OnnxGoodNet(api.export(guard, out=tmp_path / "faces.onnx"))
    assert {12} < set(check(guard, file, faces, triggered))


@pytest.mark.parametrize(("targets", "always"), [(None, 5), ([0], 4)])
def test_the_contest_s_networks_on_all_their_images(targets, always, csaw, tmp_path):
    pair = csaw / "bd_net.h5", csaw / "lab3_pruned_full_model.h5"
    guard = GoodNet(*pair, input_range="0..255", targets=targets)
    names = ("clean_validation_data.h5", "clean_test_data.h5", "sunglasses_poisoned_data.h5")
    sets = [read_data(csaw / name) for name in names]
    assert sum(map(len, sets)) == 150
    path = api.export(guard, out=tmp_path / "contest.onnx")
    predictions = check(guard, OnnxGoodNet(path), *sets)
    # The pruned network still follows the trigger: it is refused on images of other classes alone.
    assert (0 in predictions, 1283 in predictions) == (True, targets is None)
    assert convolutions(path) == always


# --- the file -----------------------------------------------------------------------------------------------------


def test_shared_layers_are_in_the_file_once(exported):
    assert convolutions(exported[1]) == 2


def test_what_is_in_the_file(exported, repository):
    path = exported[1]
    assert OnnxGoodNet(path).card.class_names == tuple("0123456789")
    content = path.read_bytes()
    assert str(repository).encode() not in content
    assert b"site-packages" not in content
    assert sum(tensor.name.endswith("conv_2.weight") for tensor in onnx.load(path).graph.initializer) == 1
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_a_network_alone_gives_its_probabilities(twins, planted, tmp_path):
    path = api.export(twins[0], out=tmp_path / "bare.onnx")
    images = planted.test.images()[:50]
    (scores,) = onnxruntime.InferenceSession(path).run(None, {"images": images.numpy()})
    with torch.no_grad():
        expected = twins[0](images).softmax(dim=1).numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_live_networks_stay_as_they_are(twins, exported):
    for network in twins:
        assert not network.network.training
        assert all(weight.requires_grad for weight in network.network.parameters())
        assert network.layer("conv_2").weight.is_contiguous(memory_format=torch.channels_last)


# --- what does not work -------------------------------------------------------------------------------------------


def test_a_network_whose_answer_hangs_on_an_if(tmp_path):
    original = from_module(Untraceable().eval(), (3, 12, 12), name="branches.pt")
    with pytest.raises(
        MethodFailed, match=r"branches\.pt: the network cannot be written as a graph: .*without$"
    ) as caught:
        api.export(GoodNet(original, changed(original)), out=tmp_path / "net.onnx")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_answers_otherwise_takes_no_one_s_place(exported, tmp_path, monkeypatch):
    (tmp_path / "net.onnx").write_text("the old file")
    monkeypatch.setattr(onnx_files, "_TOLERANCE", -1)
    with pytest.raises(
        MethodFailed, match=r"gives other scores than the network, they differ by .*; nothing was written"
    ):
        api.export(exported[0], out=tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx").read_text() == "the old file"
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_a_file_whose_b_prime_alone_answers_otherwise(tiny_classifier, tmp_path, monkeypatch):
    def spoil(model):
        for name, value in model.graph.initializers.items():
            if name.startswith("network.pair.other"):
                value.const_value = onnx_ir.tensor(-value.const_value.numpy(), name=name)

    # No image is sent to the target, so nothing is wrong with the predictions of the file as it is.
    images = example_images(api.exporting._card(tiny_classifier, None, "0..1", None, None), count=7, seed=1)
    unused = set(range(4)) - set(tiny_classifier(images).argmax(dim=1).tolist())
    guard = GoodNet(tiny_classifier, changed(tiny_classifier), input_range="0..1", targets=sorted(unused)[:1])
    monkeypatch.setattr(onnx_files, "_move_weights_to_branches", spoil)
    with pytest.raises(MethodFailed, match="gives other scores than the network"):
        api.export(guard, out=tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_package_that_is_missing(package, exported, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InvalidOption, match=rf"need the package {package}, .*: pip install 'goodnet\[onnx\]'"):
        api.export(exported[0], out=tmp_path / "net.onnx")
    if package == "onnxruntime":
        with pytest.raises(InvalidOption, match=r"pip install 'goodnet\[onnx\]'"):
            OnnxGoodNet(exported[1])


@pytest.mark.parametrize("shape", [(2, 16, 16, 1), (1, 16, 16), (2, 3, 16, 16), (2, 256)])
def test_images_of_another_shape(shape, exported):
    with pytest.raises(WrongShape, match=r"takes images \(n, 1, 16, 16\), NCHW, got "):
        OnnxGoodNet(exported[1])(np.zeros(shape, np.float32))


def test_no_images_give_no_answers(exported):
    said = OnnxGoodNet(exported[1]).run(np.zeros((0, 1, 16, 16), np.float32))
    assert (said.scores.shape, said.opinions.shape) == ((0, 11), (0, 2))


def test_where_it_cannot_be_written(exported, tmp_path):
    with pytest.raises(UnwritableOutput, match=r"expected a file that ends in \.onnx"):
        api.export(exported[0], out=tmp_path / "net.pt2")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(UnwritableOutput, match="found a folder"):
        api.export(exported[0], out=tmp_path / "folder.onnx")


def test_class_names_that_do_not_fit(exported, tmp_path):
    with pytest.raises(InvalidOption, match="expected 10 class names, got 2"):
        api.export(exported[0], out=tmp_path / "net.onnx", class_names=["cat", "dog"])


#: Mean and standard deviation of each channel, in the network's order, of pixels in 0..1.
BY_HAND = {
    "-1..1": ([0.5] * 3, [0.5] * 3),
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "caffe": ([103.939 / 255, 116.779 / 255, 123.68 / 255], [1 / 255] * 3),
    "0..255+bgr": ([0.0] * 3, [1 / 255] * 3),
    "0.2,0.4,0.6/0.5,0.25,0.125": ([0.2, 0.4, 0.6], [0.5, 0.25, 0.125]),
}


@pytest.mark.parametrize("input_range", BY_HAND)
def test_a_normalised_network_takes_pixels_as_it_was_trained_on_them(input_range, tmp_path):
    torch.manual_seed(1)
    original = from_module(settle(plain()), (3, 14, 14)).with_input_range(input_range)
    guard = GoodNet(original, changed(original, "5"))
    guard.save(tmp_path / "goodnet")
    again = GoodNet.load(tmp_path / "goodnet", architecture="tests.small_networks:plain")
    file = OnnxGoodNet(api.export(guard, out=tmp_path / "net.onnx"))
    assert again.original.input_range == again.repaired.input_range == file.card.input_range == input_range
    pixels = np.random.default_rng(0).integers(0, 256, (40, 3, 14, 14), dtype=np.uint8)
    data = Dataset.from_arrays(pixels)
    check(guard, file, data)
    check(again, file, data)
    # What the module itself makes of the pixels, normalised by hand.
    mean, std = BY_HAND[input_range]
    ordered = pixels[:, ::-1] if "bgr" in input_range or input_range == "caffe" else pixels
    fed = (ordered / np.float32(255) - np.float32(mean).reshape(-1, 1, 1)) / np.float32(std).reshape(-1, 1, 1)
    with torch.no_grad():
        expected = guard.original.network(torch.from_numpy(np.ascontiguousarray(fed, dtype=np.float32)))
    np.testing.assert_allclose(original(data.images()).detach(), expected, rtol=1e-3, atol=1e-4)
    assert np.array_equal(file(pixels).argmax(axis=1), guard(pixels).argmax(axis=1))
