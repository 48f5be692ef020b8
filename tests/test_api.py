"""The verbs on files and on live objects."""

import json
from dataclasses import replace

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
    InvalidOption,
    MethodFailed,
    UnknownMethod,
    UnreadableData,
    UnreadableModel,
    UnwritableOutput,
    WrongShape,
)
from goodnet.formats.data import read_data
from goodnet.formats.networks import read_network
from goodnet.formats.pytorch import from_module
from goodnet.guards.disagreement import GoodNet
from tests.conftest import stamp_corner
from tests.small_networks import tiny


def plain_classes(path, data):
    """What plain Keras answers, for a network that takes 0..1."""
    pixels = np.ascontiguousarray(read_data(data).images().numpy().transpose(0, 2, 3, 1))
    return keras.models.load_model(path, compile=False).predict(pixels, verbose=0).argmax(axis=1)


@pytest.fixture(scope="module")
def truth(badnet):
    return read_data(badnet.test).targets


@pytest.fixture(scope="module")
def files_of_pair(badnet, repaired_badnet):
    return badnet.model, repaired_badnet / "repaired_5_percent.h5"


def test_the_public_names_are_these_verbs():
    for name in ("repair", "evaluate", "predict", "load_classifier", "load_dataset"):
        assert getattr(goodnet, name) is getattr(api, name)
    assert goodnet.GoodNet is GoodNet
    assert set(goodnet.__all__) <= set(dir(goodnet))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        goodnet.nonsense  # noqa: B018


# --- load, open ---------------------------------------------------------------------------------------------------


def test_live_objects_come_back_as_they_are(tiny_classifier, tiny_data):
    assert api.load_classifier(tiny_classifier) is tiny_classifier
    assert api.load_dataset(tiny_data) is tiny_data


def test_load_finds_the_input_range(badnet, csaw):
    for name, input_range in (("bd_net.h5", "0..255"), ("sunglasses_bd_net.h5", "0..1")):
        loaded = api.load(csaw / name, csaw / "clean_validation_data.h5")
        assert loaded.classifier.input_range == input_range
        assert f"with {input_range}" in loaded.reason
    assert api.load(badnet.model, badnet.test, input_range="0..255").classifier.input_range == "0..255"


def test_load_reads_pictures_in_the_network_s_channels(tmp_path):
    for label in range(2):
        (tmp_path / str(label)).mkdir()
        Image.new("RGB", (12, 12), (200, 10, 10)).save(tmp_path / str(label) / "a.png")
    grey = from_module(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 2)), (1, 12, 12))
    assert api.load(grey, tmp_path, input_range="0..1").clean.image_shape == (1, 12, 12)


def test_open_path_of_every_kind(badnet, repaired_badnet, csaw, tmp_path):
    for path in (badnet.model, repaired_badnet, repaired_badnet / "goodnet"):
        found = api.open_path(path)
        assert isinstance(found, Classifier)
        assert found.classes == 4
    assert api.open_path(csaw / "lab3_bd_weights.h5", architecture="deepid").classes == 1283
    torch.save(tiny().state_dict(), tmp_path / "net.pt")
    opened = api.open_path(tmp_path / "net.pt", architecture="tests.small_networks:tiny", image_shape=(3, 12, 12))
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


# --- repair -------------------------------------------------------------------------------------------------------


def test_repair_writes_what_it_returns(badnet, tmp_path):
    out = tmp_path / "run"
    repair = api.repair(
        str(badnet.model), str(badnet.validation), out=str(out), order="random", thresholds=(0.1,), seed=4
    )
    record = json.loads((out / "run.json").read_text())
    assert record["verb"] == "repair"
    expected = {"layer": None, "order": "random", "thresholds": [0.1], "input_range": "auto", "architecture": None}
    assert record["options"] == expected
    assert record["seed"] == 4
    assert set(record["inputs"]) == {f"model: {badnet.model}", f"clean: {badnet.validation}"}
    assert record["result"]["networks"][0]["changes"] == repair.recommended.changes
    expected = plain_classes(out / "repaired.h5", badnet.validation) == read_data(badnet.validation).targets
    assert repair.recommended.accuracy.value == expected.mean()
    assert record["result"]["trace"]["channels"] == list(np.random.default_rng(4).permutation(12))
    assert GoodNet.load(out).classes == 4


def test_repair_without_a_folder_writes_nothing(badnet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    repair = api.repair(read_network(badnet.model), read_data(badnet.validation))
    assert len(repair.networks) == 3
    assert list(tmp_path.iterdir()) == []


def test_a_repair_that_failed_says_so_in_its_record(tiny_classifier, tiny_data, tmp_path):
    with torch.no_grad():
        tiny_classifier.layer("output").module.bias[0] += 1e6
    data = tiny_data.subset(np.flatnonzero(tiny_data.targets == 0))
    with pytest.raises(MethodFailed, match="never falls"):
        api.repair(tiny_classifier, data, out=tmp_path / "run", input_range="0..1")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["result"] is None
    assert record["error"]["kind"] == "MethodFailed"
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


def test_bad_input_is_noticed_before_anything_is_written(badnet, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(UnknownMethod, match=r"unknown method 'prayer' among the repairers; known: .*pruning"):
        api.repair(badnet.model, badnet.validation, method="prayer", out=out)
    with pytest.raises(InvalidOption, match="thresholds"):
        api.repair(badnet.model, badnet.validation, thresholds=(2,), out=out)
    with pytest.raises(UnreadableModel):
        api.repair(tmp_path / "none.h5", badnet.validation, out=out)
    with pytest.raises(UnreadableData):
        api.repair(badnet.model, tmp_path / "none.h5", out=out)
    assert not out.exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(UnwritableOutput):
        api.repair(badnet.model, badnet.validation, out=tmp_path / "file" / "run")


def test_data_on_which_neither_range_works(badnet):
    data = read_data(badnet.validation)
    shuffled = replace(data, labels=(data.targets + 1) % 4, name="wrong.h5")
    with pytest.raises(UnreadableData, match=r"wrong\.h5: neither input range gives bd_net\.h5 a plausible accuracy"):
        api.repair(badnet.model, shuffled)


# --- evaluate -----------------------------------------------------------------------------------------------------


def test_evaluate_a_network(badnet, truth):
    evaluation = api.evaluate(badnet.model, badnet.test, [badnet.poisoned])
    assert [row.name for row in evaluation.rows] == ["original"]
    metrics = evaluation.subject.metrics
    assert metrics.clean_accuracy.value == np.mean(plain_classes(badnet.model, badnet.test) == truth)
    success = metrics.attack_success_rate["corner.h5"]
    assert (success.value, success.n) == (np.mean(plain_classes(badnet.model, badnet.poisoned) == 0), 80)
    assert success.value > 0.9, "the BadNet of these tests has a backdoor"
    assert metrics.clean_accuracy.value > 0.9


@pytest.mark.parametrize("given", ["true_labels", "target", "live"])
def test_evaluate_where_the_true_labels_are_known(given, badnet, truth, tmp_path):
    poisoned, options = [badnet.poisoned], {"true_labels": badnet.test}
    if given == "live":
        poisoned, options = [replace(read_data(badnet.poisoned), true_labels=truth)], {}
    elif given == "target":
        # The same images, with the true classes as labels.
        pixels = read_data(badnet.poisoned).source.read(np.arange(80))
        np.savez(tmp_path / "corner.h5.npz", data=pixels, label=truth)
        poisoned, options = [replace(read_data(tmp_path / "corner.h5.npz"), name="corner.h5")], {"target": 0}
    metrics = api.evaluate(badnet.model, badnet.test, poisoned, **options).subject.metrics
    attacked, classes = truth != 0, plain_classes(badnet.model, badnet.poisoned)
    success, robust = metrics.attack_success_rate["corner.h5"], metrics.robust_accuracy["corner.h5"]
    assert (success.value, success.n) == (np.mean(classes[attacked] == 0), attacked.sum())
    assert (robust.value, robust.n) == (np.mean((classes == truth)[attacked]), attacked.sum())
    assert attacked.sum() < 80


def test_true_labels_of_a_part_of_a_set(badnet, truth):
    part = np.array([70, 3, 12, 40])
    poisoned, clean = read_data(badnet.poisoned).subset(part), read_data(badnet.test).subset(part)
    metrics = api.evaluate(badnet.model, badnet.test, [poisoned], true_labels=clean).subject.metrics
    attacked = truth[part] != 0
    assert metrics.attack_success_rate["corner.h5"].n == attacked.sum()
    expected = np.mean((plain_classes(badnet.model, badnet.poisoned)[part] == truth[part])[attacked])
    assert metrics.robust_accuracy["corner.h5"].value == expected


def expected_rows(files, badnet, truth):
    """(clean accuracy, ASR) of B, B' and GoodNet, and the rates of refusal, from plain Keras's predictions."""
    clean = [plain_classes(path, badnet.test) for path in files]
    poisoned = [plain_classes(path, badnet.poisoned) for path in files]
    refused = [first != second for first, second in (clean, poisoned)]
    clean.append(np.where(refused[0], 4, clean[0]))
    poisoned.append(np.where(refused[1], 4, poisoned[0]))
    rates = [(np.mean(c == truth), np.mean(p == 0)) for c, p in zip(clean, poisoned, strict=True)]
    return rates, [r.mean() for r in refused]


def check_rows(rows, files, badnet, truth):
    rates, refused = expected_rows(files, badnet, truth)
    found = [(row.metrics.clean_accuracy.value, row.metrics.attack_success_rate["corner.h5"].value) for row in rows]
    assert found == rates
    assert rows[2].metrics.refused_clean.value == refused[0]
    assert rows[2].metrics.refused_poisoned["corner.h5"].value == refused[1]


def test_evaluate_original_and_repaired_file(badnet, files_of_pair, truth):
    evaluation = api.evaluate(files_of_pair[0], badnet.test, [badnet.poisoned], repaired=[files_of_pair[1]])
    assert [row.name for row in evaluation.rows] == ["original", "repaired_5_percent", "GoodNet(repaired_5_percent)"]
    check_rows(evaluation.rows, files_of_pair, badnet, truth)


def test_evaluate_live_networks(badnet, files_of_pair, truth):
    original, repaired = (read_network(path) for path in files_of_pair)
    evaluation = api.evaluate(original, read_data(badnet.test), [read_data(badnet.poisoned)], repaired=[repaired])
    check_rows(evaluation.rows, files_of_pair, badnet, truth)
    assert evaluation.input_range_reason == "as given"


@pytest.mark.parametrize("how", ["object", "folder", "run folder"])
def test_evaluate_a_goodnet(how, badnet, files_of_pair, truth, tmp_path):
    model = GoodNet(*files_of_pair, input_range="0..1")
    if how != "object":
        folder = model.save(tmp_path / "goodnet")
        model = str(folder) if how == "folder" else tmp_path
    evaluation = api.evaluate(model, badnet.test, [badnet.poisoned])
    assert [row.name for row in evaluation.rows] == ["original", "repaired", "GoodNet(repaired)"]
    check_rows(evaluation.rows, files_of_pair, badnet, truth)
    assert evaluation.input_range == "0..1"
    assert api.evaluate(model, badnet.test, input_range="0..255").input_range == "0..255"


def test_evaluate_repair_folders(badnet, repaired_badnet, truth, tmp_path):
    other = tmp_path / "runs" / "repair"
    api.repair(badnet.model, badnet.validation, out=other, order="descending", thresholds=(0.1,))
    out = tmp_path / "evaluation"
    evaluation = api.evaluate(
        badnet.model, badnet.test, [badnet.poisoned], repaired=[repaired_badnet, other, other / "repaired.h5"], out=out
    )
    assert [row.name for row in evaluation.rows] == [
        "original",
        *("repair/5_percent", "GoodNet(repair/5_percent)"),
        *("repair/50_percent", "GoodNet(repair/50_percent)"),
        *("repair/10_percent", "GoodNet(repair/10_percent)"),
        *("repaired", "GoodNet(repaired)"),
    ]
    for position, path in ((1, repaired_badnet / "repaired_5_percent.h5"), (5, other / "repaired.h5")):
        rows = (evaluation.rows[0], *evaluation.rows[position : position + 2])
        check_rows(rows, (badnet.model, path), badnet, truth)
        assert (rows[1].channels, rows[1].order) == (12, "ascending" if position == 1 else "descending")
    # Both runs are called "repair": each has its curve, and the second one's name a number.
    names = {path.name for path in out.iterdir()}
    assert names == {
        "evaluation.csv",
        "rates.png",
        "pruning.png",
        "pruning_repair.csv",
        "pruning_repair (2).csv",
        "run.json",
    }
    record = json.loads((out / "run.json").read_text())
    assert record["verb"] == "evaluate"
    assert f"repaired 1: {other}" in record["inputs"]


def test_two_repaired_networks_of_the_same_name_are_told_apart(badnet, files_of_pair, tmp_path):
    twin = tmp_path / files_of_pair[1].name
    twin.write_bytes(files_of_pair[1].read_bytes())
    rows = api.evaluate(badnet.model, badnet.test, repaired=[files_of_pair[1], twin]).rows
    assert len({row.name for row in rows}) == 5
    assert rows[3].name == "repaired_5_percent (2)"


def test_several_poisoned_sets(badnet, truth):
    pixels = read_data(badnet.test).source.read(np.arange(80))
    whole = Dataset.from_arrays(stamp_corner(stamp_corner(pixels)), np.full(80, 2), name="two.h5")
    metrics = api.evaluate(
        badnet.model, None, [badnet.poisoned, whole, badnet.poisoned], input_range="0..1"
    ).subject.metrics
    assert metrics.clean_accuracy is None
    classes = plain_classes(badnet.model, badnet.poisoned)
    assert {name: rate.value for name, rate in metrics.attack_success_rate.items()} == {
        "corner.h5": np.mean(classes == 0),
        "two.h5": np.mean(classes == 2),
        "corner.h5 (2)": np.mean(classes == 0),
    }


def test_the_input_range_given_is_the_one_used(csaw):
    accuracies = {
        option: api.evaluate(csaw / "bd_net.h5", csaw / "clean_test_data.h5", input_range=option)
        for option in ("auto", "0..1", "0..255")
    }
    assert accuracies["auto"].subject.metrics == accuracies["0..255"].subject.metrics
    assert accuracies["0..255"].subject.metrics.clean_accuracy.value == 0.98
    assert accuracies["0..1"].subject.metrics.clean_accuracy.value < 0.5
    assert accuracies["0..1"].input_range_reason == "as given"
    assert accuracies["auto"].input_range_reason.startswith("auto: accuracy")


def test_evaluate_what_cannot_be_evaluated(badnet, truth):
    with pytest.raises(InvalidOption, match="input range cannot be found without clean data"):
        api.evaluate(badnet.model, poisoned=[badnet.poisoned])
    with pytest.raises(InvalidOption, match="got neither"):
        api.evaluate(badnet.model, input_range="0..1")
    labels = read_data(badnet.test).subset(range(4))
    with pytest.raises(WrongShape, match="expected one true label per image, got 4"):
        api.evaluate(badnet.model, badnet.test, [badnet.poisoned], true_labels=labels)
    with pytest.raises(InvalidOption, match="got target -1"):
        api.evaluate(badnet.model, badnet.test, [badnet.poisoned], target=-1)
    with pytest.raises(InvalidOption, match="got target 0 and true labels"):
        api.evaluate(badnet.model, badnet.test, [badnet.poisoned], target=0, true_labels=badnet.test)
    with pytest.raises(UnreadableData, match="expected labels from 0 to 3"):
        api.evaluate(badnet.model, badnet.test, [badnet.poisoned], target=4)
    with pytest.raises(UnreadableData, match="--target needs the true classes"):
        api.evaluate(badnet.model, badnet.test, [badnet.poisoned_picture], target=0)


# --- predict ------------------------------------------------------------------------------------------------------


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
    answers = api.predict(folder, pictures)
    assert answers == np.where(b == b_prime, b, 4).tolist()
    assert all(type(answer) is int for answer in answers)


def test_predict_pictures_that_do_not_fit(badnet, files_of_pair, tmp_path):
    guard = GoodNet(*files_of_pair, input_range="0..1")
    Image.new("RGB", (13, 12)).save(tmp_path / "wide.png")
    with pytest.raises(WrongShape, match="takes images of shape"):
        api.predict(guard, [tmp_path / "wide.png"])
    with pytest.raises(WrongShape, match=r"wide\.png: expected 12 x 12 pixels"):
        api.predict(guard, [badnet.clean_picture, tmp_path / "wide.png"])
    with pytest.raises(UnreadableData, match="at least one picture"):
        api.predict(guard, [])
