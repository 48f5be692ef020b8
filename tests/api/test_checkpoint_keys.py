"""A checkpoint of several networks: `key` goes wherever `architecture` goes, and only one network is in what is written."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from goodnet import api
from goodnet.core.errors import InvalidOption, UnreadableModel
from goodnet.core.reading import Reading
from goodnet.inference.predictions import predict_classes
from goodnet.pair.goodnet import GoodNet
from goodnet.pair.onnx import OnnxGoodNet
from tests.small_networks import settle, tiny

SHAPE = (3, 12, 12)
HOW = Reading(architecture="tests.small_networks:tiny", key="ema")


@pytest.fixture
def checkpoint(tiny_classifier, tmp_path):
    """`ema` is the trained network, `model` another one, which comes first."""
    trained = dict(tiny_classifier.network.state_dict())
    torch.save({"epoch": 3, "model": settle(tiny()).state_dict(), "ema": trained}, tmp_path / "both.ckpt")
    return tmp_path / "both.ckpt"


def test_every_verb_asks_for_the_key_and_takes_it(checkpoint, tiny_classifier, tiny_data, tmp_path):
    expected = predict_classes(tiny_classifier, tiny_data)
    asked = replace(HOW, key=None)
    for verb in (
        lambda how: api.open_path(checkpoint, reading=replace(how, image_shape=SHAPE)),
        lambda how: api.load_classifier(checkpoint, reading=replace(how, image_shape=SHAPE)),
        lambda how: api.load(checkpoint, tiny_data, reading=how).classifier,
        lambda how: api.evaluate(checkpoint, tiny_data, reading=replace(how, input_range="0..1")),
        lambda how: api.scan(checkpoint, tiny_data, method="last_layer", reading=how),
        lambda how: api.guard(checkpoint, tiny_data, method="strip", reading=how),
        lambda how: api.export(
            checkpoint, out=tmp_path / "n.onnx", reading=replace(how, input_range="0..1", image_shape=SHAPE)
        ),
        lambda how: api.repair(checkpoint, tiny_data, method="pruning", thresholds=(0.2,), reading=how),
    ):
        with pytest.raises(UnreadableModel, match=r"found 2: model, ema; .* --key NAME"):
            verb(asked)
        found = verb(HOW)
        if hasattr(found, "network"):
            assert np.array_equal(predict_classes(found, tiny_data), expected)
        if hasattr(found, "rows"):
            assert found.rows[0].metrics.clean_accuracy.value == (expected == tiny_data.labels).mean()


def test_what_a_repair_writes_holds_one_network_and_says_so(checkpoint, tiny_data, tmp_path):
    out = tmp_path / "run"
    repair = api.repair(checkpoint, tiny_data, method="pruning", thresholds=(0.2,), out=out, reading=HOW)
    choice = {"key": "ema", "left_out": ["model"]}
    assert repair.trace.checkpoint.model_dump(mode="json") == choice
    run = json.loads((out / "run.json").read_text())
    assert (run["options"]["key"], run["result"]["trace"]["checkpoint"]) == ("ema", choice)
    for path in (out / "repaired.ckpt", out / "goodnet" / "original.ckpt", out / "goodnet" / "repaired.ckpt"):
        assert list(torch.load(path, weights_only=True)) == ["epoch", "ema"]
        reading = replace(HOW, key=None, image_shape=SHAPE)
        assert api.load_classifier(path, reading=reading).source.left_out == ()
    saved = GoodNet.load(out, architecture=HOW.architecture)
    assert np.array_equal(predict_classes(saved.repaired, tiny_data), predict_classes(repair.classifier, tiny_data))
    assert api.predict(saved, tiny_data) == api.predict(GoodNet(saved.original, repair.classifier), tiny_data)


def test_a_network_alone_says_nothing_of_others(tiny_classifier, tiny_data, tmp_path):
    torch.save({"ema": dict(tiny_classifier.network.state_dict())}, tmp_path / "one.pt")
    repair = api.repair(tmp_path / "one.pt", tiny_data, method="pruning", thresholds=(0.2,), reading=HOW)
    assert repair.trace.checkpoint is None


def test_a_key_for_what_is_no_checkpoint_is_refused(badnet, repaired_badnet, tiny_classifier, tmp_path):
    onnx = api.export(repaired_badnet, out=tmp_path / "g.onnx")
    for verb in (
        lambda: api.load_classifier(badnet.model, reading=Reading(key="ema")),
        lambda: api.load_classifier(tiny_classifier, reading=Reading(key="ema")),
        lambda: api.load_classifier(tiny(), reading=Reading(image_shape=SHAPE, key="ema")),
    ):
        with pytest.raises(InvalidOption, match="a key chooses among the networks of a PyTorch checkpoint"):
            verb()
    for verb in (
        lambda: api.open_path(repaired_badnet, reading=Reading(key="ema")),
        lambda: api.evaluate(repaired_badnet / "goodnet", badnet.test, reading=Reading(key="ema")),
        lambda: api.evaluate(onnx, badnet.test, reading=Reading(key="ema")),
        lambda: api.export(repaired_badnet, out=tmp_path / "h.onnx", reading=Reading(key="ema")),
        lambda: api.export(GoodNet.load(repaired_badnet), out=tmp_path / "h.onnx", reading=Reading(key="ema")),
    ):
        with pytest.raises(InvalidOption, match="a GoodNet cannot use key, got 'ema'; leave it out"):
            verb()


def test_a_goodnet_in_onnx_is_known_by_its_content(badnet, repaired_badnet, tmp_path):
    onnx = api.export(repaired_badnet, out=tmp_path / "g.onnx")
    renamed = onnx.rename(tmp_path / "served.model")
    row = api.evaluate(renamed, badnet.test).rows[-1]
    assert row.metrics.clean_accuracy == api.evaluate(OnnxGoodNet(renamed), badnet.test).rows[-1].metrics.clean_accuracy
    with pytest.raises(UnreadableModel, match="found a GoodNet in ONNX"):
        api.open_path(renamed)


def test_weights_named_onnx_are_weights(tiny_classifier, tiny_data, tmp_path):
    torch.save(dict(tiny_classifier.network.state_dict()), tmp_path / "net.onnx")
    evaluation = api.evaluate(tmp_path / "net.onnx", tiny_data, reading=Reading(architecture=HOW.architecture))
    assert len(evaluation.rows) == 1
