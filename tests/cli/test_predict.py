import json

import keras
import numpy as np
import pytest
from PIL import Image

from goodnet.pair.goodnet import GoodNet


@pytest.fixture(scope="module")
def folder(badnet, repaired_badnet, tmp_path_factory):
    pair = badnet.model, repaired_badnet / "repaired_5_percent.h5"
    return GoodNet(*pair, input_range="0..1").save(tmp_path_factory.mktemp("guard") / "goodnet")


@pytest.fixture(scope="module")
def expected(badnet, folder):
    """The classes of the clean and of the poisoned picture, by plain Keras."""
    pictures = badnet.clean_picture, badnet.poisoned_picture
    pixels = np.stack([np.asarray(Image.open(path)) for path in pictures]) / 255.0
    first, second = (
        keras.models.load_model(folder / f"{name}.h5", compile=False).predict(pixels, verbose=0).argmax(axis=1)
        for name in ("original", "repaired")
    )
    classes = np.where(first == second, first, 4).tolist()
    assert classes[0] != 4
    assert classes[1] == 4
    return classes


def test_one_picture_prints_the_number_alone(badnet, folder, expected, goodnet):
    for path, label in zip((badnet.clean_picture, badnet.poisoned_picture), expected, strict=True):
        done = goodnet("predict", folder, path)
        assert (done.code, done.out, done.err) == (0, f"{label}\n", "")


def test_several_pictures_print_class_tab_file(badnet, folder, expected, goodnet):
    done = goodnet("predict", folder.parent, badnet.clean_picture, badnet.poisoned_picture)
    assert done.code == 0
    assert done.out == f"{expected[0]}\t{badnet.clean_picture}\n4\t{badnet.poisoned_picture}\n"


def test_json(badnet, folder, expected, goodnet):
    done = goodnet("predict", folder, badnet.clean_picture, badnet.poisoned_picture, "--json")
    assert json.loads(done.out) == {
        "classes": 4,
        "predictions": [
            {"image": str(badnet.clean_picture), "class": expected[0], "backdoored": False},
            {"image": str(badnet.poisoned_picture), "class": 4, "backdoored": True},
        ],
    }


def test_a_jpeg(badnet, folder, goodnet, tmp_path):
    Image.open(badnet.clean_picture).save(tmp_path / "face.jpeg", quality=95)
    done = goodnet("predict", folder, tmp_path / "face.jpeg")
    assert done.code == 0
    assert done.out.strip() in ("0", "1", "2", "3", "4")


def test_a_picture_that_is_none(folder, badnet, goodnet, tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    done = goodnet("predict", folder, badnet.clean_picture, tmp_path / "text.png")
    assert (done.code, done.out) == (2, "")
    assert "expected a picture" in done.err


def test_a_data_set_where_pictures_go(folder, badnet, goodnet):
    for path in (badnet.test, badnet.folder):
        done = goodnet("predict", folder, badnet.clean_picture, path)
        assert (done.code, done.out) == (2, "")
        assert f"{path}: expected pictures, one path for each" in done.err.replace("\n", "")
        assert "goodnet evaluate" in done.err


def test_an_onnx_file(badnet, folder, expected, goodnet, tmp_path):
    assert goodnet("export", folder, "--out", tmp_path / "net.onnx").code == 0
    done = goodnet("predict", tmp_path / "net.onnx", badnet.clean_picture, badnet.poisoned_picture)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{expected[0]}\t{badnet.clean_picture}\n4\t{badnet.poisoned_picture}\n"
    (tmp_path / "net.onnx").write_bytes(b"no model")
    done = goodnet("predict", tmp_path / "net.onnx", badnet.clean_picture)
    assert (done.code, done.out) == (2, "")
    assert "expected an ONNX file in one piece" in done.err
