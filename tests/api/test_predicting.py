"""`predict`."""

import keras
import numpy as np
import pytest
from PIL import Image

from goodnet import api
from goodnet.core.errors import (
    UnreadableData,
)
from goodnet.formats.data import read_data
from goodnet.pair.goodnet import GoodNet
from goodnet.pair.onnx import OnnxGoodNet
from tests.api.plain_keras import plain_classes


def test_predict(badnet, files_of_pair, tmp_path):
    first, second = (plain_classes(path, badnet.poisoned) for path in files_of_pair)
    expected = np.where(first == second, first, 4).tolist()
    assert 4 in expected
    folder = GoodNet(*files_of_pair, input_range="0..1").save(tmp_path / "goodnet")
    for guard in (GoodNet(*files_of_pair, input_range="0..1"), folder, str(tmp_path)):
        assert api.predict(guard, badnet.poisoned) == expected
        assert api.predict(guard, read_data(badnet.poisoned)) == expected

    pictures = [badnet.clean_picture, badnet.poisoned_picture, badnet.clean_picture]
    pixels = np.stack([np.asarray(Image.open(path)) for path in pictures]) / 255.0
    b, b_prime = (keras.models.load_model(p, compile=False).predict(pixels, verbose=0).argmax(1) for p in files_of_pair)
    predictions = api.predict(folder, pictures)
    assert predictions == np.where(b == b_prime, b, 4).tolist()
    assert all(type(answer) is int for answer in predictions)


@pytest.mark.parametrize("targets", [None, (0,)])
def test_predict_with_a_goodnet_in_onnx(targets, badnet, files_of_pair, onnx_files_of_pair):
    guard = GoodNet(*files_of_pair, input_range="0..1", targets=targets)
    for data in (badnet.poisoned, badnet.test, [badnet.clean_picture, badnet.poisoned_picture]):
        expected = api.predict(guard, data)
        assert api.predict(onnx_files_of_pair[targets], data) == expected
        assert api.predict(OnnxGoodNet(onnx_files_of_pair[targets]), data) == expected


def test_pictures_of_any_size_are_brought_to_the_networks(badnet, files_of_pair, tmp_path):
    guard = GoodNet(*files_of_pair, input_range="0..1")
    for name, size in (("wide.png", (13, 12)), ("right.png", (12, 12))):
        Image.new("RGB", size, (40, 90, 200)).save(tmp_path / name)
    both = api.predict(guard, [tmp_path / "wide.png", tmp_path / "right.png"])
    assert both[0] == both[1]
    with pytest.raises(UnreadableData, match="at least one picture"):
        api.predict(guard, [])
