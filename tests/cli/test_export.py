import json

import pytest

from goodnet.formats.data import read_data
from goodnet.formats.networks import read_network
from goodnet.pair.goodnet import GoodNet
from goodnet.pair.onnx import OnnxGoodNet
from goodnet.repairers.pruning import Pruning


@pytest.fixture(scope="module")
def folder(badnet, tmp_path_factory):
    original = read_network(badnet.model)
    repaired = Pruning(thresholds=(0.05,)).repair(original, read_data(badnet.validation), seed=0).classifier
    return GoodNet(original, repaired, targets=[0]).save(tmp_path_factory.mktemp("guard") / "goodnet")


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    path = tmp_path_factory.mktemp("names") / "classes.txt"
    path.write_text("upper left\nupper right\nlower left\nlower right\n")
    return path


@pytest.mark.slow
def test_export_and_predict_with_the_file(folder, badnet, names, goodnet, tmp_path):
    out = tmp_path / "net.onnx"
    done = goodnet("export", folder.parent, "--out", out, "--class-names", names)
    assert (done.code, done.out, done.err) == (0, f"written: {out}\n", "")
    card = OnnxGoodNet(out).card
    assert (card.layout, card.input_range, card.targets) == ("NHWC", "0..1", (0,))
    assert card.class_names == ("upper left", "upper right", "lower left", "lower right")

    pictures = badnet.clean_picture, badnet.poisoned_picture
    for arguments in (pictures, (*pictures, "--json"), pictures[1:]):
        of_file, of_folder = goodnet("predict", out, *arguments), goodnet("predict", folder, *arguments)
        assert (of_file.code, of_file.out) == (of_folder.code, of_folder.out)
    assert goodnet("predict", out, badnet.poisoned_picture).out == "4\n"


def test_other_formats(folder, goodnet, tmp_path):
    for kind in ("pt2", "keras"):
        done = goodnet("export", folder, "--format", kind, "--out", tmp_path / f"net.{kind}")
        assert (done.code, done.out) == (0, f"written: {tmp_path / f'net.{kind}'}\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.keras", "net.pt2"]


def test_a_network_alone_needs_its_range(badnet, goodnet, tmp_path):
    done = goodnet("export", badnet.model, "--out", tmp_path / "net.onnx")
    assert done.code == 2
    assert "the input range is not known; say in which range it was trained: --input-range 0..1, ..." in done.err
    assert list(tmp_path.iterdir()) == []
    assert goodnet("export", badnet.model, "--out", tmp_path / "net.onnx", "--input-range", "0..1").code == 0
    done = goodnet("predict", tmp_path / "net.onnx", badnet.clean_picture)
    assert done.code == 2
    assert "found a network without a guard" in done.err


def test_a_goodnet_whose_range_nobody_said(badnet, goodnet, tmp_path):
    GoodNet(badnet.model, badnet.model).save(tmp_path / "goodnet")
    done = goodnet("export", tmp_path, "--out", tmp_path / "net.pt2", "--format", "pt2")
    assert (done.code, "the input range is not known" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "net.onnx", "--class-names", "missing.txt"), "missing.txt: no such file"),
        (("--out", "net.h5"), "expected a file that ends in .onnx, since the format is onnx"),
        (("--out", "net.onnx", "--format", "tflite"), "'tflite' is not one of"),
        ((), "Missing option '--out'"),
    ],
)
def test_what_does_not_work(arguments, message, folder, goodnet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = goodnet("export", folder, *arguments)
    assert done.code == 2
    assert message in done.err
    assert list(tmp_path.iterdir()) == []


def test_class_names_in_another_encoding(folder, goodnet, tmp_path):
    (tmp_path / "names.txt").write_bytes(b"\xff\xfe")
    done = goodnet("export", folder, "--out", tmp_path / "net.onnx", "--class-names", tmp_path / "names.txt")
    assert (done.code, "expected a text file (UTF-8) with one class name per line" in done.err) == (2, True)


def test_where_there_is_no_goodnet(goodnet, tmp_path):
    done = goodnet("export", tmp_path, "--out", tmp_path / "net.onnx")
    assert done.code == 2
    assert "goodnet.json: no such file" in done.err


def test_predict_with_a_file_that_is_no_model(badnet, goodnet, tmp_path):
    (tmp_path / "net.onnx").write_text(json.dumps({}))
    done = goodnet("predict", tmp_path / "net.onnx", badnet.clean_picture)
    assert (done.code, "expected an ONNX file in one piece" in done.err) == (2, True)
