"""`evaluate` on files."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from goodnet import api
from goodnet.api.loading import load_both
from goodnet.core.dataset import Dataset
from goodnet.core.errors import (
    InvalidOption,
    UnreadableData,
    UnreadableModel,
    WrongShape,
)
from goodnet.core.reading import Reading
from goodnet.formats.data import read_data
from goodnet.formats.networks import read_network
from goodnet.formats.pytorch import from_module
from goodnet.pair.goodnet import GoodNet
from goodnet.pair.onnx import OnnxGoodNet
from tests.api.plain_keras import plain_classes
from tests.conftest import stamp_corner


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
    assert api.evaluate(model, badnet.test, reading=Reading(input_range="0..255")).input_range == "0..255"


@pytest.mark.parametrize("as_object", [True, False])
def test_evaluate_a_goodnet_in_onnx(as_object, badnet, files_of_pair, onnx_files_of_pair, truth, tmp_path):
    path = onnx_files_of_pair[None]
    evaluation = api.evaluate(
        OnnxGoodNet(path) if as_object else path, badnet.test, [badnet.poisoned], out=tmp_path / "evaluation"
    )
    assert [row.name for row in evaluation.rows] == ["original", "repaired", "GoodNet(repaired)"]
    check_rows(evaluation.rows, files_of_pair, badnet, truth)
    assert (evaluation.input_range, evaluation.input_range_reason) == ("0..1", "as written in the ONNX file")
    assert {"evaluation.csv", "run.json"} <= {item.name for item in (tmp_path / "evaluation").iterdir()}


def test_of_an_onnx_file_with_targets_b_prime_is_not_known(badnet, files_of_pair, onnx_files_of_pair):
    given = badnet.test, [badnet.poisoned]
    evaluation = api.evaluate(onnx_files_of_pair[0,], *given)
    expected = api.evaluate(GoodNet(*files_of_pair, input_range="0..1", targets=[0]), *given)
    assert evaluation.rows == (expected.rows[0], expected.rows[2])
    assert evaluation.subject.metrics.refused_poisoned["corner.h5"].value > 0.5


def test_what_an_onnx_file_cannot_be_evaluated_with(badnet, files_of_pair, onnx_files_of_pair, tmp_path):
    path = onnx_files_of_pair[None]
    with pytest.raises(InvalidOption, match="cannot be taken apart to compare"):
        api.evaluate(path, badnet.test, repaired=[files_of_pair[1]])
    with pytest.raises(InvalidOption, match=r"written for images in 0\.\.1, not 0\.\.255"):
        api.evaluate(path, badnet.test, reading=Reading(input_range="0..255"))
    bare = api.export(load_both(files_of_pair[0], badnet.test)[0], out=tmp_path / "bare.onnx")
    # Without a guard it is a network like any other.
    (row,) = api.evaluate(bare, badnet.test).rows
    assert row.metrics == api.evaluate(files_of_pair[0], badnet.test).rows[0].metrics
    (tmp_path / "broken.onnx").write_bytes(path.read_bytes()[:5_000])
    with pytest.raises(UnreadableModel, match="damaged or of another kind"):
        api.evaluate(tmp_path / "broken.onnx", badnet.test)
    clean = read_data(badnet.test)
    with pytest.raises(UnreadableData, match="expected labels from 0 to 3"):
        api.evaluate(path, replace(clean, labels=clean.labels + 4))
    with pytest.raises(WrongShape, match="takes images of shape"):
        api.evaluate(path, (np.zeros((2, 3, 9, 9), np.uint8), np.zeros(2, np.int64)))


def test_evaluate_repair_folders(badnet, repaired_badnet, truth, tmp_path):
    other = tmp_path / "runs" / "repair"
    api.repair(badnet.model, badnet.validation, method="pruning", out=other, order="descending", thresholds=(0.1,))
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


def test_the_repaired_network_of_a_goodnet_s_folder(badnet, repaired_badnet, truth):
    for folder in (repaired_badnet / "goodnet", str(repaired_badnet / "goodnet") + "/"):
        evaluation = api.evaluate(badnet.model, badnet.test, [badnet.poisoned], repaired=[folder])
        assert [row.name for row in evaluation.rows] == ["original", "repair/goodnet", "GoodNet(repair/goodnet)"]
        # The GoodNet of a repair is that of its largest threshold.
        check_rows(evaluation.rows, (badnet.model, repaired_badnet / "repaired_50_percent.h5"), badnet, truth)


def test_pictures_are_read_in_the_network_s_channels(badnet, tmp_path):
    """By hand: the network's two logits are the darkness and the brightness of a grey picture."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    pixels[3:] //= 3
    greys = [np.asarray(Image.fromarray(picture).convert("L")) for picture in pixels]
    for number, picture in enumerate(pixels):
        for name, label in (("clean", int(number < 3)), ("poisoned", 0)):
            folder = tmp_path / name / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / f"{number}.png")
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    with torch.no_grad():
        module[1].weight.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 64))
        module[1].bias.copy_(torch.tensor([0.3 * 64, -0.3 * 64]))
    network = from_module(module, (1, 8, 8), name="grey")
    classes = np.array([int(grey.mean() / 255 > 0.3) for grey in greys])
    metrics = api.evaluate(network, tmp_path / "clean", [tmp_path / "poisoned"]).subject.metrics
    assert metrics.clean_accuracy.value == np.mean(classes == (np.arange(6) < 3)) == 1
    assert metrics.attack_success_rate["poisoned"].value == np.mean(classes == 0) == 0.5
    pair = GoodNet(network, network)
    assert api.evaluate(pair, tmp_path / "clean").rows[0].metrics.clean_accuracy.value == 1
    torch.save(module.state_dict(), tmp_path / "grey.pt")
    file = api.evaluate(
        *(tmp_path / "grey.pt", tmp_path / "clean"),
        reading=Reading(architecture="tests.small_networks:grey_linear", image_shape=(1, 8, 8), input_range="0..1"),
    )
    assert file.subject.metrics.clean_accuracy.value == 1
    scanned = load_both(network, tmp_path / "clean")[1]
    assert scanned.image_shape == (1, 8, 8)


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
        badnet.model, None, [badnet.poisoned, whole, badnet.poisoned], reading=Reading(input_range="0..1")
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
        option: api.evaluate(csaw / "bd_net.h5", csaw / "clean_test_data.h5", reading=Reading(input_range=option))
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
        api.evaluate(badnet.model, reading=Reading(input_range="0..1"))
    labels = read_data(badnet.test).subset(range(4))
    with pytest.raises(WrongShape, match="expected one true label per image, got 4"):
        api.evaluate(badnet.model, badnet.test, [badnet.poisoned], true_labels=labels)
    with pytest.raises(InvalidOption, match="--target: expected a class number, 0 or more, got -1"):
        api.evaluate(badnet.model, badnet.test, [badnet.poisoned], target=-1)
    with pytest.raises(InvalidOption, match="--target and --true-labels exclude each other"):
        api.evaluate(badnet.model, badnet.test, [badnet.poisoned], target=0, true_labels=badnet.test)
    with pytest.raises(UnreadableData, match="expected labels from 0 to 3"):
        api.evaluate(badnet.model, badnet.test, [badnet.poisoned], target=4)
    with pytest.raises(UnreadableData, match="--target needs the true classes"):
        api.evaluate(badnet.model, badnet.test, [badnet.poisoned_picture], target=0)
