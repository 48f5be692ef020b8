"""The doors: files and live objects -> networks and data."""

import keras
import numpy as np
import pytest
import torch
from PIL import Image

import goodnet
from goodnet import api
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import (
    InputError,
)
from goodnet.core.reading import Reading
from goodnet.formats.networks import read_network
from goodnet.formats.pytorch import from_module
from goodnet.inference.predictions import predict_classes
from goodnet.pair.goodnet import GoodNet
from tests.api.plain_keras import plain_classes
from tests.small_networks import grey_linear, tiny


def test_the_public_names_are_these_verbs():
    for name in ("repair", "evaluate", "predict", "load_classifier", "load_dataset"):
        assert getattr(goodnet, name) is getattr(api, name)
    assert goodnet.GoodNet is GoodNet
    assert set(goodnet.__all__) <= set(dir(goodnet))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        goodnet.nonsense  # noqa: B018


def test_live_objects_come_back_as_they_are(tiny_classifier, tiny_data):
    assert api.load_classifier(tiny_classifier) is tiny_classifier
    assert api.load_dataset(tiny_data) is tiny_data


def test_load_finds_the_input_range(badnet, csaw):
    for name, input_range in (("bd_net.h5", "0..255"), ("sunglasses_bd_net.h5", "0..1")):
        loaded = api.load(csaw / name, csaw / "clean_validation_data.h5")
        assert loaded.classifier.input_range == input_range
        assert f"with {input_range}" in loaded.reason
    assert api.load(badnet.model, badnet.test, reading=Reading(input_range="0..255")).classifier.input_range == "0..255"


def test_load_reads_pictures_in_the_network_s_channels(tmp_path):
    for label in range(2):
        (tmp_path / str(label)).mkdir()
        Image.new("RGB", (12, 12), (200, 10, 10)).save(tmp_path / str(label) / "a.png")
    grey = from_module(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 2)), (1, 12, 12))
    assert api.load(grey, tmp_path, reading=Reading(input_range="0..1")).clean.image_shape == (1, 12, 12)


def test_a_state_dict_for_grey_images_fits_a_folder_of_grey_pictures(tmp_path):
    for label in range(2):
        (tmp_path / "clean" / str(label)).mkdir(parents=True)
        Image.new("L", (8, 8), 200).save(tmp_path / "clean" / str(label) / "a.png")
    torch.save(grey_linear().state_dict(), tmp_path / "grey.pt")
    build = "tests.small_networks:grey_linear"
    loaded = api.load(tmp_path / "grey.pt", tmp_path / "clean", reading=Reading(architecture=build, input_range="0..1"))
    assert loaded.classifier.image_shape == loaded.clean.image_shape == (1, 8, 8)


def test_open_path_of_every_kind(badnet, repaired_badnet, csaw, tmp_path):
    for path in (badnet.model, repaired_badnet, repaired_badnet / "goodnet"):
        found = api.open_path(path)
        assert isinstance(found, Classifier)
        assert found.classes == 4
    assert api.open_path(csaw / "lab3_bd_weights.h5", reading=Reading(architecture="deepid")).classes == 1283
    torch.save(tiny().state_dict(), tmp_path / "net.pt")
    opened = api.open_path(
        tmp_path / "net.pt", reading=Reading(architecture="tests.small_networks:tiny", image_shape=(3, 12, 12))
    )
    assert isinstance(opened, Classifier)

    images = np.zeros((3, 3, 8, 8), np.uint8)
    np.savez(tmp_path / "data.npz", data=images, label=[0, 1, 1])
    (tmp_path / "folder" / "cats").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "folder" / "cats" / "a.png")
    for path, count in (
        (badnet.test, 80),
        (badnet.clean_picture, 1),
        (tmp_path / "data.npz", 3),
        (tmp_path / "folder", 1),
    ):
        found = api.open_path(str(path))
        assert isinstance(found, Dataset)
        assert len(found) == count


def test_endings_in_capital_letters(badnet, repaired_badnet, tmp_path):
    model, data, picture = tmp_path / "BD.H5", tmp_path / "TEST.H5", tmp_path / "A.PNG"
    for path, source in ((model, badnet.model), (data, badnet.test), (picture, badnet.clean_picture)):
        path.write_bytes(source.read_bytes())
    network, dataset = api.open_path(model), api.open_path(data)
    assert isinstance(network, Classifier)
    assert (network.suffix, len(dataset), len(api.open_path(picture))) == (".h5", 80, 1)
    expected = plain_classes(badnet.model, badnet.test)
    assert np.array_equal(predict_classes(network, dataset), expected)
    # Plain Keras knows .h5 and .keras in small letters only.
    with pytest.raises(ValueError, match="File format not supported"):
        keras.models.load_model(model)
    for name in ("new.H5", "new.KERAS"):
        assert np.array_equal(predict_classes(read_network(network.save(tmp_path / name)), dataset), expected)
    repair = api.repair(model, badnet.validation, method="pruning", out=tmp_path / "run", thresholds=(0.05, 0.5))
    assert repair.classifier.suffix == ".h5"
    assert np.array_equal(
        plain_classes(tmp_path / "run" / "repaired_5_percent.h5", badnet.test),
        plain_classes(repaired_badnet / "repaired_5_percent.h5", badnet.test),
    )
    torch.save(tiny().state_dict(), tmp_path / "NET.PT")
    assert (
        api.load_classifier(
            tmp_path / "NET.PT", reading=Reading(architecture="tests.small_networks:tiny", image_shape=(3, 12, 12))
        ).classes
        == 4
    )
    np.savez(tmp_path / "data.npz", data=np.zeros((2, 3, 8, 8), np.uint8))
    (tmp_path / "data.npz").rename(tmp_path / "DATA.NPZ")
    assert len(api.load_dataset(tmp_path / "DATA.NPZ")) == 2


def test_open_path_of_what_cannot_be_opened(badnet, tmp_path):
    half = tmp_path / "half.h5"
    half.write_bytes(badnet.model.read_bytes()[:3000])
    (tmp_path / "text.h5").write_text("not HDF5")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    for name in ("half.h5", "text.h5", "notes.txt", "empty", "missing.h5"):
        with pytest.raises(InputError) as caught:
            api.open_path(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
