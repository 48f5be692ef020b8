"""What a run leaves behind, and that it can be read again."""

import csv
import hashlib
import json
from importlib import metadata

import keras
import numpy as np
import pytest
from PIL import Image

from goodnet import api
from goodnet.core.errors import InvalidOption, MethodFailed, UnreadableData, UnreadableModel
from goodnet.core.repairs import Repair
from goodnet.core.results import Rate, Run
from goodnet.evaluation.pruning_curve import measure_pruning
from goodnet.formats.data import read_data
from goodnet.formats.networks import read_network
from goodnet.pair.goodnet import GoodNet
from goodnet.repairers.pruning import Pruning
from goodnet.reports.runs import (
    Recorder,
    pruning_columns,
    pruning_curve,
    read_repair,
    record_repair,
    write_evaluation,
    write_repair,
)


def read_csv(path):
    with path.open() as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def run(badnet):
    classifier, clean = read_network(badnet.model), read_data(badnet.validation)
    repair = Pruning(thresholds=(0.05, 0.5)).repair(classifier, clean, seed=0)
    return classifier, record_repair(classifier, repair, Recorder("repair", {"model": badnet.model}, "pruning"))


def test_the_record_says_everything_that_a_run_took(tmp_path):
    data = tmp_path / "data.bin"
    data.write_bytes(b"pixels")
    recorder = Recorder("repair", {"clean": data, "model": tmp_path / "gone.h5"}, "pruning", {"order": "random"}, 7)
    path = recorder.run(Rate.of(1, 2)).save(tmp_path)
    record = json.loads(path.read_text())
    assert path == tmp_path / "run.json"
    assert (record["verb"], record["method"], record["options"], record["seed"]) == (
        "repair",
        "pruning",
        {"order": "random"},
        7,
    )
    assert record["inputs"] == {f"clean: {data}": hashlib.sha256(b"pixels").hexdigest()}
    for package in ("goodnet", "torch", "keras", "numpy", "h5py"):
        assert record["versions"][package] == metadata.version(package)
    assert "python" in record["versions"]
    assert 0 <= record["seconds"] < 60
    assert record["started"].endswith("+00:00")
    assert record["schema_version"] == 2
    assert record["result"] == Rate.of(1, 2).model_dump()
    assert record["error"] is None


def test_the_record_of_a_failure(tmp_path):
    run = Recorder("repair", {}).run(error=MethodFailed("it did not work"))
    record = json.loads(run.save(tmp_path).read_text())
    assert Run.load(tmp_path) == run
    assert record["result"] is None
    assert record["error"] == {"kind": "MethodFailed", "message": "it did not work", "names": []}


def test_a_folder_s_hash_depends_on_what_is_in_it(tmp_path):
    folder = tmp_path / "images"
    (folder / "0").mkdir(parents=True)
    (folder / "0" / "a.png").write_bytes(b"a")
    first = Recorder("x", {"clean": folder}).run().inputs
    (folder / "0" / "a.png").write_bytes(b"b")
    assert Recorder("x", {"clean": folder}).run().inputs != first


def test_a_repair_on_disk(run, badnet, tmp_path):
    classifier, repair = run
    out = tmp_path / "new" / "run"
    assert write_repair(out, repair) == out / "run.json"
    assert {path.name for path in out.iterdir()} == {
        "repaired_5_percent.h5",
        "repaired_50_percent.h5",
        "goodnet",
        "pruning.csv",
        "pruning.png",
        "run.json",
    }
    result = json.loads((out / "run.json").read_text())["result"]
    assert [network["file"] for network in result["networks"]] == ["repaired_5_percent.h5", "repaired_50_percent.h5"]
    assert result["recommended"] == "50_percent"
    assert result["accuracy_before"]["value"] == repair.accuracy_before.value
    assert result["networks"][0]["changes"]["channels_pruned"] == list(repair.networks[0].changes.channels_pruned)

    rows = read_csv(out / "pruning.csv")
    assert rows[0] == ["Neurons Pruned", "Validation accuracy"]
    assert tuple(float(accuracy) for _, accuracy in rows[1:]) == repair.trace.sweep.accuracy
    assert [int(level) for level, _ in rows[1:]] == list(range(13))
    with Image.open(out / "pruning.png") as picture:
        assert picture.format == "PNG"

    images = read_data(badnet.test).images()
    pixels = np.ascontiguousarray(images.numpy().transpose(0, 2, 3, 1))
    for network, name in zip(repair.networks, ("repaired_5_percent.h5", "repaired_50_percent.h5"), strict=True):
        plain = keras.models.load_model(out / name, compile=False).predict(pixels, verbose=0)
        np.testing.assert_allclose(plain, network.classifier(images).softmax(1).detach().numpy(), atol=1e-5)
    assert np.array_equal(GoodNet.load(out)(pixels), GoodNet(classifier, repair.classifier)(pixels)), (
        "the GoodNet is that of the recommended network"
    )


def test_a_single_network_is_called_repaired(badnet, tmp_path):
    classifier, clean = read_network(badnet.model), read_data(badnet.validation)
    repair = Pruning(thresholds=(0.05,)).repair(classifier, clean, seed=0)
    write_repair(tmp_path, record_repair(classifier, repair, Recorder("repair", {})))
    assert {path.name for path in tmp_path.glob("*.h5")} == {"repaired.h5"}


def test_a_repair_read_back(run, tmp_path):
    classifier, repair = run
    assert repair.save(tmp_path / "run") == tmp_path / "run" / "run.json"
    found = Repair.load(tmp_path / "run")
    assert (found.trace, found.accuracy_before, found.run) == (repair.trace, repair.accuracy_before, repair.run)
    assert found.original.input_range == found.classifier.input_range == classifier.input_range
    assert [network.name for network in found.networks] == ["5_percent", "50_percent"]
    for mine, original in zip(found.networks, repair.networks, strict=True):
        assert mine.accuracy == original.accuracy
        assert mine.changes == original.changes
        theirs = original.classifier.network.state_dict()
        for name, value in mine.classifier.network.state_dict().items():
            np.testing.assert_array_equal(value.numpy(), theirs[name].numpy())


@pytest.mark.parametrize(
    "damage",
    ["{", "[]", "{}", "null", '"x"', b"\xff\xfe", {"result": None}, {"result": {}}, {"extra": 1}]
    + [{"result": {"networks": value, "trace": {}}} for value in (5, "ab", [{}], [5])]
    + [{"result": {"networks": [], "trace": value}} for value in (5, ["pruned_at_threshold"], None)],
    ids=str,
)
def test_a_damaged_record(damage, repaired_badnet, tmp_path):
    record = json.loads((repaired_badnet / "run.json").read_text())
    if isinstance(damage, dict):
        damage = json.dumps(record | damage)
    (tmp_path / "run.json").write_bytes(damage if isinstance(damage, bytes) else damage.encode())
    with pytest.raises(UnreadableData, match=r"expected the (record of a|result of) (run|repair)") as caught:
        read_repair(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "run.json") in str(caught.value)


def test_a_record_without_its_networks(run, repaired_badnet, tmp_path):
    (tmp_path / "run.json").write_bytes((repaired_badnet / "run.json").read_bytes())
    with pytest.raises(UnreadableModel, match=r"repaired_5_percent\.h5: no such file"):
        read_repair(tmp_path, original=run[0])
    with pytest.raises(UnreadableModel, match="expected the folder of a GoodNet"):
        read_repair(tmp_path)
    with pytest.raises(UnreadableData, match=r"run\.json: no such file"):
        read_repair(tmp_path / "nowhere")


def test_the_record_of_a_failed_repair_is_no_repair(tmp_path):
    Recorder("repair", {}).run(error=MethodFailed("no")).save(tmp_path)
    with pytest.raises(UnreadableData, match="expected the record of a repair"):
        read_repair(tmp_path)


def test_a_repair_that_a_method_made_by_itself_is_not_saved(badnet, tmp_path):
    repair = Pruning(thresholds=(0.05,)).repair(read_network(badnet.model), read_data(badnet.validation), seed=0)
    with pytest.raises(InvalidOption, match=r"goodnet\.repair\(\.\.\.\) gives one"):
        repair.save(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_columns_of_a_sweep(run, badnet):
    classifier, repair = run
    clean, poisoned = read_data(badnet.test), read_data(badnet.poisoned)
    order = repair.trace.sweep.channels
    levels = measure_pruning(classifier, "pool_2", order, clean, [poisoned])
    columns = pruning_columns(levels)
    assert list(columns) == ["Accuracy", "ASR"]
    assert columns["ASR"] == [rate.value for rate in levels.attack_success_rate["corner.h5"]]
    two = pruning_columns(measure_pruning(classifier, "pool_2", order[:2], None, [poisoned, poisoned]))
    assert list(two) == ["ASR corner.h5", "ASR corner.h5 (2)"]
    curve = pruning_curve(repair.trace.sweep, levels)
    assert curve.channels == 12
    assert curve.accuracy == columns["Accuracy"]
    assert curve.thresholds == {
        0.05: len(repair.networks[0].changes.channels_pruned),
        0.5: len(repair.networks[1].changes.channels_pruned),
    }


def test_an_evaluation_on_disk(repaired_badnet, badnet, tmp_path):
    evaluation = api.evaluate(badnet.model, badnet.test, [badnet.poisoned], repaired=[repaired_badnet])
    levels = measure_pruning(
        read_network(badnet.model), "pool_2", range(12), read_data(badnet.test), [read_data(badnet.poisoned)]
    )
    sweep = read_repair(repaired_badnet).trace.sweep
    write_evaluation(tmp_path, evaluation, {"up": (sweep, levels), "down": (sweep, levels)}, Recorder("evaluate", {}))
    names = {"evaluation.csv", "rates.png", "pruning_up.csv", "pruning_down.csv", "pruning.png", "run.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert [float(row[1]) for row in read_csv(tmp_path / "pruning_up.csv")[1:]] == [
        rate.value for rate in levels.clean_accuracy
    ]
    result = json.loads((tmp_path / "run.json").read_text())["result"]
    assert [row["name"] for row in result["rows"]] == [row.name for row in evaluation.rows]
    assert result["rows"][0]["metrics"]["clean_accuracy"] == evaluation.rows[0].metrics.clean_accuracy.model_dump()
