"""`Reading(resize=...)`: how pictures become as large as a network's, by every verb, and in what the verbs write.

By hand: the network calls a picture bright (1) where the mean of its pixels is above 0.3. In a wide picture with a bright
middle and dark sides the whole is dark, 80 / 255 = 0.31 less the rounding of thirds, and the middle is bright.
"""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from goodnet import api
from goodnet.core.errors import InvalidOption
from goodnet.core.reading import Reading
from goodnet.formats.pytorch import from_module
from goodnet.pair.goodnet import GoodNet

CROP, STRETCH = Reading(resize="crop+nearest"), Reading(resize="stretch+nearest")


@pytest.fixture
def network():
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    with torch.no_grad():
        module[1].weight.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 64))
        module[1].bias.copy_(torch.tensor([0.3 * 64, -0.3 * 64]))
    return from_module(module, (1, 8, 8), name="grey", suffix=".pt", architecture="tests.small_networks:grey_linear")


@pytest.fixture
def folder(tmp_path):
    """Class 1: wide pictures whose middle alone is bright, at most 0.26 in all; class 0: dark ones of the network's size."""
    for label, size, middle in ((0, (8, 8), 0), (1, (24, 8), 200)):
        place = tmp_path / "clean" / str(label)
        place.mkdir(parents=True)
        pixels = np.zeros((size[1], size[0]), np.uint8)
        pixels[:, size[0] // 3 : 2 * size[0] // 3] = middle
        for number in range(3):
            Image.fromarray(pixels).save(place / f"{number}.png")
    return tmp_path / "clean"


@pytest.mark.parametrize(("reading", "right"), [(CROP, 1.0), (STRETCH, 0.5)])
def test_evaluate_resizes_pictures_of_several_sizes(reading, right, network, folder):
    for model in (network, GoodNet(network, network)):
        evaluation = api.evaluate(model, folder, [folder], reading=reading)
        assert evaluation.rows[0].metrics.clean_accuracy.value == right


def test_a_goodnet_remembers_how_and_a_reading_overrides_it(network, folder, tmp_path):
    saved = GoodNet(network.with_resizing("crop+nearest"), network).save(tmp_path / "goodnet")
    place = {"architecture": "tests.small_networks:grey_linear"}
    assert json.loads((saved / "goodnet.json").read_text())["resizing"] == "crop+nearest"
    assert GoodNet.load(saved, **place).resizing == "crop+nearest"
    pictures = [folder / "0" / "0.png", folder / "1" / "0.png"]
    for images in (pictures, folder):
        found = api.predict(saved, images, reading=Reading(**place))
        assert found == ([0, 1] if images is pictures else [0] * 3 + [1] * 3)
    assert api.predict(saved, pictures, reading=Reading(**place, resize="stretch+nearest")) == [0, 0]
    assert api.evaluate(saved, folder, reading=Reading(**place)).rows[0].metrics.clean_accuracy.value == 1


def test_an_exported_file_remembers_it_too(network, folder, tmp_path):
    pair = GoodNet(network.with_resizing("crop+nearest"), network)
    pictures = [folder / "1" / "0.png"]
    assert api.predict(api.export(pair, out=tmp_path / "own.onnx"), pictures) == [1]
    other = api.export(pair, out=tmp_path / "other.onnx", reading=STRETCH)
    assert api.predict(other, pictures) == [0]
    assert api.predict(other, pictures, reading=CROP) == [1]


def test_a_card_says_nothing_where_nobody_does_as_older_ones(network, tmp_path):
    saved = GoodNet(network, network).save(tmp_path / "goodnet")
    assert "resizing" not in json.loads((saved / "goodnet.json").read_text())
    assert GoodNet.load(saved, architecture="tests.small_networks:grey_linear").resizing is None


def test_repair_writes_it_into_the_goodnet_and_the_record(badnet, tmp_path):
    reading = Reading(resize="crop", input_range="0..1")
    repair = api.repair(badnet.model, badnet.validation, method="pruning", reading=reading, out=tmp_path / "run")
    assert repair.original.resizing == "crop"
    assert json.loads((tmp_path / "run" / "goodnet" / "goodnet.json").read_text())["resizing"] == "crop"
    assert json.loads((tmp_path / "run" / "run.json").read_text())["options"]["resize"] == "crop"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda model, clean: api.load_classifier(model, reading=Reading(strict=True)),
            "load_classifier cannot use strict",
        ),
        (lambda model, clean: api.open_path(model, reading=CROP), "inspect cannot use resize, got 'crop"),
        (
            lambda model, clean: api.export(model, out="x.onnx", reading=Reading(strict=True)),
            "export cannot use strict",
        ),
        (
            lambda model, clean: api.predict(GoodNet(model, model), clean, reading=Reading(input_range="0..1")),
            "predict cannot use input_range, got '0..1'; leave it out",
        ),
        (
            lambda model, clean: api.evaluate(GoodNet(model, model), clean, reading=Reading(image_shape=(1, 8, 8))),
            r"a GoodNet cannot use image_shape, got \(1, 8, 8\); leave it out",
        ),
        (
            lambda model, clean: api.evaluate(GoodNet(model, model), clean, reading=Reading(architecture="deepid")),
            "a GoodNet that is no folder cannot use architecture, got 'deepid'",
        ),
    ],
)
def test_what_a_verb_cannot_use_is_refused(call, message, network, folder):
    with pytest.raises(InvalidOption, match=message):
        call(network, folder)


def test_load_classifier_takes_range_and_resizing(badnet):
    classifier = api.load_classifier(badnet.model, reading=Reading(input_range="0..255", resize="crop"))
    assert (classifier.input_range, classifier.resizing) == ("0..255", "crop")
    assert classifier.sha256 is not None
