"""A GoodNet in files: what is saved is what is loaded, by goodnet and by plain Keras."""

import json
import shutil

import h5py
import keras
import numpy as np
import pytest
import torch

from goodnet import api
from goodnet.core.errors import InputError, InvalidOption, UnreadableModel
from goodnet.formats.data import read_data
from goodnet.formats.keras import from_keras
from goodnet.formats.networks import read_network
from goodnet.formats.pytorch import from_module
from goodnet.pair.goodnet import GoodNet, is_goodnet
from goodnet.repairers.pruning import Pruning
from tests.plain_goodnet import combine


def keras_pair(suffix):
    layers = keras.layers
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Conv2D(5, 3, activation="relu", name="conv"),
            layers.MaxPooling2D(2, name="pool"),
            layers.Flatten(),
            layers.Dense(4, activation="softmax", name="output"),
        ]
    )
    original = from_keras(model, suffix)
    repaired = original.copy()
    repaired.layer("pool").silence([0, 2, 3])
    return original, repaired


@pytest.mark.parametrize("suffix", [".h5", ".keras", ".pt", ".safetensors"])
def test_round_trip(suffix, tiny_classifier, images, tmp_path):
    if suffix in (".h5", ".keras"):
        original, repaired = keras_pair(suffix)
    else:
        original = from_module(
            tiny_classifier.copy().network, (3, 12, 12), architecture="tests.small_networks:tiny", suffix=suffix
        )
        repaired = original.copy()
        repaired.layer("pool_2").silence([1, 4])
    guard = GoodNet(original, repaired, input_range="0..255", targets=[2, 0])
    folder = guard.save(tmp_path / "run" / "goodnet")
    assert {path.name for path in folder.iterdir()} == {"goodnet.json", f"original{suffix}", f"repaired{suffix}"}

    for place in (folder, folder.parent):
        assert is_goodnet(place)
        loaded = GoodNet.load(place, architecture=original.architecture)
        assert loaded.original.input_range == loaded.repaired.input_range == "0..255"
        assert loaded.targets == (0, 2)
        torch.testing.assert_close(loaded(images), guard(images), rtol=0, atol=1e-5)
    assert len(set(guard(images).argmax(1).tolist())) > 1


def test_a_goodnet_of_keras_networks_opens_in_plain_keras(images, tmp_path):
    guard = GoodNet(*keras_pair(".h5"))
    folder = guard.save(tmp_path / "goodnet")
    pixels = np.ascontiguousarray(images.numpy().transpose(0, 2, 3, 1))
    predictions = [
        keras.models.load_model(folder / f"{name}.h5", compile=False).predict(pixels, verbose=0)
        for name in ("original", "repaired")
    ]
    expected = combine(*predictions)
    assert 4 in expected
    assert np.array_equal(GoodNet.load(folder)(pixels).argmax(axis=1), expected)


def test_weights_only_files_keep_their_architecture(csaw, tmp_path):
    original = read_network(csaw / "lab3_bd_weights.h5", "deepid").with_input_range("0..255")
    repaired = original.copy()
    repaired.layer("pool_3").silence(range(50))
    GoodNet(original, repaired).save(tmp_path / "goodnet")
    with h5py.File(tmp_path / "goodnet" / "repaired.h5") as file:
        assert "model_config" not in file.attrs
    loaded = GoodNet.load(tmp_path)
    data = read_data(csaw / "sunglasses_poisoned_data.h5")
    assert np.array_equal(loaded.predict_all(data).goodnet, GoodNet(original, repaired).predict_all(data).goodnet)
    assert loaded.original.architecture == "deepid"


def test_two_model_files(badnet, repaired_badnet):
    paths = badnet.model, repaired_badnet / "repaired_5_percent.h5"
    pixels = read_data(badnet.poisoned).source.read(np.arange(80)).transpose(0, 2, 3, 1)
    predictions = [keras.models.load_model(path, compile=False).predict(pixels / 255.0, verbose=0) for path in paths]
    expected = combine(*predictions)
    assert 4 in expected
    for given in (paths, tuple(map(str, paths))):
        assert np.array_equal(GoodNet(*given)(pixels).argmax(axis=1), expected)


def test_saving_again_replaces_the_folder(pair, tmp_path):
    for _ in range(2):
        GoodNet(*keras_pair(".h5")).save(tmp_path / "goodnet")
    GoodNet(*pair).save(tmp_path / "goodnet")
    names = {path.name for path in (tmp_path / "goodnet").iterdir()}
    assert names == {"goodnet.json", "original.pt", "repaired.pt"}
    assert [path.name for path in tmp_path.iterdir()] == ["goodnet"]


OURS = "tests.small_networks:tiny"
DAMAGES = {
    "not JSON": "{",
    "not UTF-8": b"\xff\xfe{",
    "a list": "[]",
    "a word": '"goodnet"',
    "entries missing": '{"image_shape": [3, 12, 12], "architecture": null, "input_range": "0..1"}',
    "an entry too many": {"threshold": 0.5},
    "another version": {"schema_version": 1},
    "another kind": {"kind": "strip"},
    "targets that are no classes": {"targets": [4]},
    "no target at all": {"targets": []},
    "targets that are no numbers": {"targets": [True]},
    "a shape that is none": {"image_shape": 12},
    "a range that is none": {"input_range": "0..2"},
    "a file that is a number": {"original": 5},
    "an architecture that is a list": {"architecture": ["deepid"]},
    "a file that is not there": {"repaired": "elsewhere.pt"},
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_card(damage, pair, tmp_path):
    card = GoodNet(*pair).save(tmp_path / "goodnet") / "goodnet.json"
    if isinstance(damage, dict):
        damage = json.dumps(json.loads(card.read_text()) | damage)
    card.write_bytes(damage if isinstance(damage, bytes) else damage.encode())
    with pytest.raises(UnreadableModel, match=r"expected the card of a GoodNet|no such file") as caught:
        GoodNet.load(tmp_path / "goodnet", architecture=OURS)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "goodnet") in str(caught.value)


def test_a_card_without_targets(pair, tmp_path):
    card = GoodNet(*pair).save(tmp_path / "goodnet") / "goodnet.json"
    entries = json.loads(card.read_text())
    assert entries.pop("targets", "missing") is None
    card.write_text(json.dumps(entries))
    with pytest.raises(UnreadableModel, match="expected the card of a GoodNet, schema version 2, but it is damaged"):
        GoodNet.load(tmp_path / "goodnet", architecture=OURS)


def test_a_card_s_own_code_runs_only_where_the_user_names_it(pair, images, tmp_path, monkeypatch):
    (tmp_path / "mark_left.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w').close()\ndef build():\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    folder = GoodNet(*pair).save(tmp_path / "goodnet")
    card = folder / "goodnet.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"architecture": "mark_left:build"}))
    with pytest.raises(
        UnreadableModel, match=r"refused, it names code outside goodnet .* --architecture mark_left:build"
    ):
        GoodNet.load(folder)
    assert not (tmp_path / "mark").exists()
    loaded = GoodNet.load(folder, architecture="tests.small_networks:tiny")
    torch.testing.assert_close(loaded(images), GoodNet(*pair)(images))
    assert not (tmp_path / "mark").exists()


def test_a_card_cannot_name_a_file_outside_its_folder(pair, tmp_path):
    folder = GoodNet(*pair).save(tmp_path / "goodnet")
    shutil.move(folder / "original.pt", tmp_path / "original.pt")
    card = folder / "goodnet.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"original": "../original.pt"}))
    with pytest.raises(UnreadableModel, match="no such file"):
        GoodNet.load(folder, architecture="tests.small_networks:tiny")


def test_where_there_is_no_goodnet(tmp_path):
    with pytest.raises(UnreadableModel, match="expected the folder of a GoodNet"):
        GoodNet.load(tmp_path / "missing")
    with pytest.raises(UnreadableModel, match=r"goodnet\.json: no such file"):
        GoodNet.load(tmp_path)
    assert not is_goodnet(tmp_path)


def test_a_network_from_memory_without_a_format(pair, tmp_path):
    pair[0].source = None
    with pytest.raises(InputError, match="did not come from a file"):
        GoodNet(*pair).save(tmp_path / "goodnet")
    assert list(tmp_path.iterdir()) == []


def test_on_the_contest_s_network_as_plain_keras_would_combine_the_two_files(csaw, tmp_path):
    original = read_network(csaw / "bd_net.h5").with_input_range("0..255")
    repair = Pruning(thresholds=(0.1,)).repair(original, read_data(csaw / "clean_validation_data.h5"), seed=0)
    folder = GoodNet(original, repair.classifier).save(tmp_path / "goodnet")
    models = [keras.models.load_model(folder / f"{name}.h5", compile=False) for name in ("original", "repaired")]
    for name in ("clean_test_data.h5", "sunglasses_poisoned_data.h5"):
        with h5py.File(csaw / name) as file:
            pixels = np.asarray(file["data"]).transpose(0, 2, 3, 1).astype(np.float32)
        first, second = (np.argmax(model.predict(pixels, verbose=0), axis=1) for model in models)
        expected = np.where(first == second, first, 1283)
        assert np.array_equal(np.argmax(GoodNet.load(folder)(pixels), axis=1), expected)


def test_from_two_files_whole_numbers_go_in_as_they_are(csaw, tmp_path):
    pruned = read_network(csaw / "bd_net.h5")
    pruned.layer("pool_3").silence([0])
    pruned.save(tmp_path / "prime.h5")
    pixels = read_data(csaw / "clean_test_data.h5")
    images = np.round(pixels.images().numpy() * 255).astype(np.uint8).transpose(0, 2, 3, 1)

    unknown = GoodNet(csaw / "bd_net.h5", tmp_path / "prime.h5")
    known = GoodNet(csaw / "bd_net.h5", tmp_path / "prime.h5", input_range="0..255")

    np.testing.assert_array_equal(unknown(images).argmax(axis=1), known(images).argmax(axis=1))
    np.testing.assert_array_equal(unknown(images.astype(np.float32)).argmax(axis=1), known(images).argmax(axis=1))
    assert (known(images).argmax(axis=1) == pixels.targets).mean() > 0.7


def test_two_weights_files_with_their_architecture(csaw):
    both = GoodNet(csaw / "lab3_bd_weights.h5", csaw / "sunglasses_bd_weights.h5", architecture="deepid")
    assert both.classes == 1283


def test_two_files_without_a_range_answer_no_data_set_until_it_is_said(csaw, tmp_path):
    pair = GoodNet(csaw / "bd_net.h5", csaw / "lab3_pruned_full_model.h5")
    data = read_data(csaw / "clean_test_data.h5")
    with pytest.raises(InvalidOption, match=r"input range is not known.*0\.\.255"):
        pair.predict_all(data)
    again = GoodNet.load(pair.save(tmp_path / "pair"))
    assert not again.range_known
    evaluation = api.evaluate(pair, data)
    assert (evaluation.input_range, evaluation.rows[0].metrics.clean_accuracy.value) == ("0..255", 0.98)


def test_a_second_repair_leaves_nothing_of_the_first(badnet, tmp_path):
    api.repair(badnet.model, badnet.validation, method="pruning", out=tmp_path, thresholds=(0.05, 0.5))
    api.repair(badnet.model, badnet.validation, method="pruning", out=tmp_path, thresholds=(0.5,))
    assert sorted(path.name for path in tmp_path.glob("*.h5")) == ["repaired.h5"]
