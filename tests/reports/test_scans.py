"""What a scan leaves behind: all numbers, and examples that a report can show without the network."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from goodnet.core.backdoor import Backdoor
from goodnet.core.errors import UnreadableData
from goodnet.core.results import Detection, Run
from goodnet.formats.data import read_data
from goodnet.formats.networks import read_network
from goodnet.reports.runs import Recorder
from goodnet.reports.scan_examples import make_examples, read_examples, write_examples
from goodnet.reports.scans import read_scan, save_scan, write_scan
from tests.reports.conftest import corner_patch, make_detection

FILES = {
    "scan.json",
    "run.json",
    "scores.csv",
    "scores.png",
    "suspected.npz",
    "examples.npz",
    "trigger_class_0.png",
}


@pytest.fixture
def written(badnet, tmp_path):
    def write(detection):
        classifier = read_network(badnet.model)
        write_scan(tmp_path, detection, read_data(badnet.validation), classifier, Recorder("scan", {}))
        return tmp_path

    return write


def test_the_record_has_verdict_and_suspects_first():
    record = json.loads(make_detection().to_json())
    assert list(record)[:2] == ["verdict", "suspected"]
    assert record["suspected"] == [{"target": 0, "sources": None, "score": 11.25, "trigger_size": 9.0}]
    assert record["evidence"] == {"margin": [6.0, 0.5, 0.0, 0.0], "size": [5.25, 0.0, 1.5, 0.0]}
    assert record["clean_accuracy"]["value"] == 0.95
    bare = make_detection(scores=(float("nan"), 1.0), suspected=(), evidence={}, clean_accuracy=None)
    bare = json.loads(bare.to_json())
    assert (bare["scores"], bare["evidence"], bare["clean_accuracy"]) == ([None, 1.0], {}, None)


def test_everything_is_written(written):
    folder = written(make_detection())
    assert {path.name for path in folder.iterdir()} == FILES
    run = json.loads((folder / "run.json").read_text())
    assert (run["result_file"], "result" in run) == ("scan.json", False), "the result is written once"
    assert Run.load(folder).result == replace(make_detection(), suspected=(Backdoor(None, 0),))
    with (folder / "scores.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[:2] == [["class", "score", "margin", "size"], ["0", "11.25", "6.0", "5.25"]]
    assert len(rows) == 5


def test_a_detection_is_read_back_equal(tmp_path):
    backdoors = (Backdoor(corner_patch(), 0, (1, 2)), Backdoor(None, 2))
    found = make_detection(suspected=backdoors, scores=(1.0, math.nan, 2.5, math.nan), unscanned=(1, 3), notes=("one",))
    assert save_scan(tmp_path / "new", found) == tmp_path / "new" / "scan.json"
    assert read_scan(tmp_path / "new") == found
    assert replace(found, suspected=(Backdoor(corner_patch(0.5), 0, (1, 2)), Backdoor(None, 2))) != found


@pytest.mark.parametrize("name", ["scan.json", "suspected.npz"])
def test_a_damaged_detection(tmp_path, name):
    make_detection().save(tmp_path)
    (tmp_path / name).write_bytes(b"{")
    with pytest.raises(UnreadableData, match=f"{name}: expected .* damaged"):
        Detection.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UnreadableData, match=f"{name}: no such file"):
        Detection.load(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scores", ["high", 1.0]),
        ("scores", [[1.0], 1.0]),
        ("scores", "high"),
        ("evidence", {"margin": ["high"]}),
        ("suspected", [{"sources": [1]}]),
        ("suspected", [{"target": None}]),
        ("suspected", [{"target": "third"}]),
        ("suspected", [{"target": 0, "sources": 3}]),
        ("suspected", [{"target": 0, "sources": [None]}]),
    ],
)
def test_a_detection_of_other_kinds_of_values_is_refused_by_name(tmp_path, field, value):
    make_detection().save(tmp_path)
    file = tmp_path / "scan.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: value}))
    with pytest.raises(UnreadableData, match=r"scan\.json: expected a record of the kind Detection"):
        Detection.load(tmp_path)


def test_pictures_of_an_earlier_scan_do_not_stay(written):
    written(make_detection())
    clean = make_detection(verdict="clean", suspected=(), scores=(0.0, 0.5, 1.5, 0.0))
    folder = written(clean)
    assert {path.name for path in folder.iterdir()} == FILES - {"trigger_class_0.png"}
    assert read_examples(folder).triggers == ()


def test_two_triggers_of_one_target_have_a_picture_each(written):
    backdoors = (Backdoor(corner_patch(), 0), Backdoor(None, 2), Backdoor(corner_patch(0.5), 0))
    folder = written(make_detection(suspected=backdoors))
    assert {path.name for path in folder.glob("*.png")} == {
        "scores.png",
        "trigger_class_0.png",
        "trigger_class_0_2.png",
    }
    assert [shown.patch.size for shown in read_examples(folder).triggers] == [9.0, 4.5]


def test_a_trigger_of_several_targets_is_shown_once(badnet, written):
    backdoors = tuple(Backdoor(corner_patch(), label, ((label - 1) % 4,)) for label in range(4))
    folder = written(make_detection(suspected=backdoors))
    assert {path.name for path in folder.glob("trigger*.png")} == {"trigger_classes_all.png"}
    examples = read_examples(folder)
    (shown,) = examples.triggers
    assert shown.targets == (0, 1, 2, 3)
    assert examples.name_targets(shown) == "4 classes at once"
    stamped = read_network(badnet.model)(corner_patch()(examples.images))
    assert shown.predictions == tuple(stamped.argmax(1).tolist())


def test_examples_say_what_the_network_answers(badnet, written):
    classifier, clean = read_network(badnet.model), read_data(badnet.validation)
    examples = read_examples(written(make_detection()))
    assert examples.images.shape == (4, 3, 12, 12)
    with torch.no_grad():
        assert tuple(classifier(examples.images).argmax(1).tolist()) == examples.predictions
        stamped = classifier(corner_patch()(examples.images)).argmax(1)
    assert set(examples.predictions) == {1, 2, 3}, "all classes but the target, of which an image would show nothing"
    (shown,) = examples.triggers
    assert (shown.targets, shown.predictions) == ((0,), tuple(stamped.tolist()))
    assert (np.array(shown.predictions) == 0).mean() > 0.5
    pixels = {image.tobytes() for image in clean.source.read(clean.positions)}
    assert all((image.numpy() * 255).round().astype(np.uint8).tobytes() in pixels for image in examples.images)


def test_class_names_go_along(badnet):
    clean = replace(read_data(badnet.validation), class_names=("stop", "1", "yield", "go"))
    examples = make_examples(read_network(badnet.model), clean, ())
    assert [examples.name_class(k) for k in (0, 1, 9)] == ["class 0 (stop)", "class 1", "class 9"]


def test_a_source_specific_trigger_is_shown_on_two_images_of_its_source_and_two_others(badnet, tmp_path):
    classifier, clean = read_network(badnet.model), read_data(badnet.validation)
    suspected = (Backdoor(corner_patch(), 0, (2,)),)
    examples = make_examples(classifier, clean, suspected)
    assert examples.predictions[:2] == (2, 2)
    assert set(examples.predictions[2:]) <= {1, 3}
    (shown,) = examples.triggers
    assert examples.name_targets(shown) == "class 0, from class 2 alone"
    save_scan(tmp_path, make_detection(suspected=suspected))
    write_examples(tmp_path, examples)
    assert read_examples(tmp_path).triggers[0].sources == (2,)


@pytest.mark.parametrize("name", ["examples.npz", "suspected.npz"])
def test_damaged_examples(name, written):
    folder = written(make_detection())
    (folder / name).write_bytes((folder / name).read_bytes()[:-40])
    with pytest.raises(UnreadableData, match=name):
        read_examples(folder)
    (folder / name).unlink()
    if name == "examples.npz":
        assert read_examples(folder) is None
