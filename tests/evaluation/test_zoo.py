import json
import shutil
from pathlib import Path

import pytest
import torch

from goodnet import api
from goodnet.core.errors import InputError, InvalidOption, MethodFailed
from goodnet.core.reading import Reading
from goodnet.devices import choose_device
from goodnet.evaluation.shipped_specs import FOLDER, read_spec
from goodnet.evaluation.zoo import read_manifest
from goodnet.evaluation.zoo_spec import DataSpec, ZooSpec, draw_pairs, fill_sources
from goodnet.execution import Execution
from tests.killing import run_with_kills
from tests.micro_zoo import ZOO


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    return write(tmp_path / "spec.toml", ZOO)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_twins_differ_in_the_attack_alone(micro_zoo: Path) -> None:
    manifest = json.loads((micro_zoo / "manifest.json").read_text())
    assert [pair["attack"] for pair in manifest["pairs"]] == ["badnets", "blended"]
    for pair in manifest["pairs"]:
        poisoned, clean = pair["poisoned"], pair["clean"]
        for key in ("data", "training", "seed"):
            assert poisoned[key] == clean[key]
        assert clean["attack"] is None
        assert clean["backdoors"] == []
        assert (
            poisoned["attack"]["options"]["target"] == poisoned["backdoors"][0]["target"] == pair["options"]["target"]
        )
        assert poisoned["model"]["sha256"] != clean["model"]["sha256"]
        rate = next(iter(poisoned["metrics"]["attack_success_rate"].values()))
        assert rate["value"] > 0.9
        assert rate["n"] <= 100


def test_networks_open_with_what_the_manifest_says(micro_zoo: Path) -> None:
    pair = json.loads((micro_zoo / "manifest.json").read_text())["pairs"][1]
    folder = micro_zoo / "pairs" / pair["name"] / "poisoned"
    network = folder / pair["poisoned"]["model"]["file"]
    assert network.suffix == ".safetensors"
    clean, triggered = micro_zoo / "data/digits/clean_test_data.h5", folder / "blended_poisoned_data.h5"
    evaluation = api.evaluate(network, clean, [triggered], reading=Reading(architecture="small_cnn"))
    found = evaluation.subject.metrics
    assert found.clean_accuracy is not None
    assert found.clean_accuracy.model_dump() == pair["poisoned"]["metrics"]["clean_accuracy"]
    rates = [rate.model_dump() for rate in found.attack_success_rate.values()]
    assert rates == list(pair["poisoned"]["metrics"]["attack_success_rate"].values())


def test_four_processes_build_the_same_bytes(micro_zoo: Path, spec: Path, tmp_path: Path) -> None:
    api.build_zoo(spec, out=tmp_path / "zoo", where=Execution(workers=4))
    assert_same_zoo(tmp_path / "zoo", micro_zoo)


def assert_same_zoo(found: Path, expected: Path) -> None:
    """Compare all files but those that hold times, and all folders."""
    timed = {"seconds.csv", "depends.json"}
    names = sorted(path.relative_to(expected) for path in expected.rglob("*") if path.name not in timed)
    assert sorted(path.relative_to(found) for path in found.rglob("*") if path.name not in timed) == names
    for name in names:
        if (expected / name).is_file():
            assert (found / name).read_bytes() == (expected / name).read_bytes(), name


@pytest.mark.slow
def test_a_build_that_is_killed_goes_on_where_it_was(micro_zoo: Path, spec: Path, tmp_path: Path) -> None:
    out = tmp_path / "zoo"
    arguments = ["zoo", "build", str(spec), "--out", str(out), "--workers", "1"]
    assert run_with_kills(arguments, out, seconds=2.5) > 0
    assert_same_zoo(out, micro_zoo)


def test_only_what_changed_is_built_again(micro_zoo: Path, tmp_path: Path) -> None:
    zoo = tmp_path / "zoo"
    shutil.copytree(micro_zoo, zoo)
    before = {path: path.stat().st_mtime_ns for path in zoo.rglob("network.*")}
    changed = write(tmp_path / "changed.toml", ZOO.replace("target = 3, rate = 0.15", "target = 4, rate = 0.15"))
    told: list[tuple[int, int]] = []
    manifest = api.build_zoo(
        changed, out=zoo, where=Execution(workers=1), progress=lambda done, total: told.append((done, total))
    )
    rebuilt = {path.parent.parent.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert rebuilt == {"001_digits_blended"}
    assert told[-1] == (5, 5)
    assert manifest.pairs[1].poisoned.backdoors[0].target == 4


def test_a_broken_entry_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    broken = '{ name = "badnets", target = 1, rate = 0.95 }'
    text = ZOO.replace('{ name = "blended", target = 3, rate = 0.15 }', broken)
    manifest = api.build_zoo(write(tmp_path / "spec.toml", text), out=tmp_path / "zoo", where=Execution(workers=1))
    error = manifest.pairs[1].poisoned.error
    assert error.kind == "InvalidOption"
    assert "asks for" in error.message
    assert manifest.pairs[1].clean.metrics.clean_accuracy
    assert manifest.pairs[0].poisoned.metrics.clean_accuracy
    assert read_manifest(tmp_path / "zoo") == manifest


def test_networks_are_trained_on_the_device_that_is_asked_for(spec: Path, tmp_path: Path, monkeypatch) -> None:
    devices: list[object] = []

    def plant(*_: object, device: object, **__: object) -> None:
        devices.append(device)
        raise MethodFailed("no training here")

    monkeypatch.setattr("goodnet.evaluation.zoo.plant", plant)
    for name in ("auto", "cpu:0"):
        api.build_zoo(spec, out=tmp_path / name, where=Execution(workers=1, device=name))
    assert devices == [choose_device("auto")] * 4 + [torch.device("cpu:0")] * 4
    with pytest.raises(InvalidOption, match="device 'abacus' is not to be had here"):
        api.build_zoo(spec, out=tmp_path / "none", where=Execution(workers=1, device="abacus"))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("pairs = 2", "pears = 2", "unknown key 'group.0.pears'"),
        ("epochs = 3", "epoch = 3", "unknown key 'group.0.training.epoch'"),
        ("rate = [0.1, 0.15]", "rate = [0.1, 1.5]", "rate"),
        ("rate = [0.1, 0.15]", "rate = 0.0", "rate"),
        ("size = [2, 3]", "size = [2, 30]", "30"),
        ("size = [2, 3]", "sizes = [2, 3]", "sizes"),
        ("size = [2, 3]", "size = []", "no values"),
        ("target = 3", "target = 10", "outside the classes"),
        ('"small_cnn"', '"large_cnn"', "unknown architecture 'large_cnn'"),
        ('name = "badnets"', 'name = "goodnets"', "unknown method 'goodnets'"),
        ('["pt", "safetensors"]', '["pt", "h5"]', "Keras"),
        ('["pt", "safetensors"]', '["pt", "onnx"]', "format"),
        ('data = "digits"', 'data = "letters"', "letters"),
        ("digits:8", "digits:x", "digits"),
        ("[data.digits]", "[data.digits", "TOML"),
        ("source =", "test =", "--data digits=PATH"),
    ],
)
def test_a_bad_spec_is_a_clear_error_before_any_work(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in ZOO
    with pytest.raises(InputError) as caught:
        api.build_zoo(
            write(tmp_path / "spec.toml", ZOO.replace(old, new)), out=tmp_path / "zoo", where=Execution(workers=1)
        )
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "zoo").exists()


def test_sources_are_given_by_name() -> None:
    spec = read_spec("standard", ZooSpec)
    with pytest.raises(InvalidOption, match="no such data"):
        fill_sources(spec, {"gtsbr": "x"})
    with pytest.raises(InvalidOption, match="--data cifar10=PATH"):
        fill_sources(spec, {"gtsrb": "x"})


@pytest.mark.parametrize(("name", "fewest"), [("small", 12), ("standard", 40)])
def test_the_shipped_specs_can_be_drawn(name: str, fewest: int) -> None:
    spec = read_spec(name, ZooSpec)
    shapes = {"gtsrb": (43, (3, 32, 32)), "cifar10": (10, (3, 32, 32)), "mnist": (10, (1, 28, 28))}
    shapes |= {"lfw": (158, (3, 55, 47)), "digits": (10, (1, 16, 16)), "faces": (30, (3, 55, 47))}
    for data, item in spec.data.items():
        if str(item.source).startswith("faces:"):
            shapes[data] = (int(str(item.source)[6:].partition("x")[0]), (3, 55, 47))
    pairs = draw_pairs(spec, shapes)
    assert len(pairs) >= fewest
    assert len({pair.name for pair in pairs}) == len(pairs)
    assert pairs == draw_pairs(spec, shapes)
    assert {path.stem for path in FOLDER.glob("*.toml")} >= {"small", "standard"}


def test_a_data_source_can_be_checked_without_rendering() -> None:
    from goodnet.evaluation.zoo_spec import describe_data

    assert describe_data(DataSpec(source="faces:900x1000")) == (900, (3, 55, 47))
