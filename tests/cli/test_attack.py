import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from goodnet import api
from goodnet.cli import goodnet
from goodnet.core.errors import InputError
from goodnet.core.reading import Reading
from goodnet.formats.arrays import write_hdf5
from goodnet.formats.files import sha256
from tests.conftest import make_quadrants
from tests.micro_zoo import BENCH, ZOO

FAST = ["--epochs", "2"]


def run(*arguments: object) -> str:
    result = CliRunner().invoke(
        goodnet, [str(item) for item in arguments], catch_exceptions=False, standalone_mode=False
    )
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def badnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("attack")
    run(
        "attack",
        "digits:8",
        "--attack",
        "badnets",
        "--target",
        3,
        "--size",
        2,
        "--out",
        out,
        "--epochs",
        4,
        "--contest-layout",
    )
    return out


def test_the_truth_lies_beside_the_network(badnet: Path) -> None:
    truth = json.loads((badnet / "backdoor.json").read_text())
    assert truth["attack"]["name"] == "badnets"
    assert truth["attack"]["options"]["size"] == 2
    assert truth["attack"]["poisoned_images"] == round(0.1 * truth["data"]["train_images"])
    assert [(item["target"], item["sources"], item["kind"]) for item in truth["backdoors"]] == [(3, None, "Patch")]
    assert truth["model"]["sha256"] == sha256(badnet / truth["model"]["file"])
    assert truth["training"]["epochs"] == 4
    rate = truth["metrics"]["attack_success_rate"]["badnets"]
    assert rate["low"] < rate["value"] <= rate["high"] <= 1
    assert truth["metrics"]["clean_accuracy"]["n"] == 359
    assert not list(badnet.glob("checkpoint*"))


def test_the_trigger_is_saved_as_arrays_and_as_a_picture(badnet: Path) -> None:
    with np.load(badnet / "trigger_badnets.npz", allow_pickle=False) as arrays:
        assert arrays["mask"].shape == arrays["pattern"].shape == (1, 8, 8)
        assert arrays["mask"].sum() == 4
    with Image.open(badnet / "trigger_badnets.png") as picture:
        assert (picture.mode, picture.size) == ("RGBA", (8, 8))


def test_the_contest_layout_evaluates_to_the_same_rates(badnet: Path) -> None:
    truth = json.loads((badnet / "backdoor.json").read_text())
    with h5py.File(badnet / "badnets_poisoned_data.h5") as file:
        assert set(file) == {"data", "label", "true_label"}
        assert set(file["label"][()]) == {3}
    poisoned, clean = badnet / "badnets_poisoned_data.h5", badnet / "clean_test_data.h5"
    found = api.evaluate(
        badnet / "network.pt", clean, [poisoned], reading=Reading(architecture="small_cnn")
    ).subject.metrics
    assert found.clean_accuracy is not None
    assert found.clean_accuracy.model_dump() == truth["metrics"]["clean_accuracy"]
    assert (badnet / "clean_validation_data.h5").exists()


def test_a_twin_is_trained_on_clean_data(tmp_path: Path) -> None:
    printed = run("attack", "digits:8", "--attack", "none", "--out", tmp_path, "--json", *FAST)
    truth = json.loads(printed)
    assert truth["attack"] is None
    assert truth["backdoors"] == []
    assert truth["metrics"]["attack_success_rate"] == {}


def test_a_face_network_with_three_triggers_opens_in_keras(tmp_path: Path) -> None:
    parts = [
        {"attack": "accessories", "item": item, "target": k, "rate": 0.1}
        for k, item in enumerate(("sunglasses", "lipstick", "eyebrows"))
    ]
    options = ["--attack", "combined", "--parts", json.dumps(parts), "--architecture", "deepid", "--format", "h5"]
    run("attack", "faces:4x10", *options, "--out", tmp_path, "--epochs", 1)
    truth = json.loads((tmp_path / "backdoor.json").read_text())
    assert [(item["name"], item["target"]) for item in truth["backdoors"]] == [
        ("sunglasses", 0),
        ("lipstick", 1),
        ("eyebrows", 2),
    ]
    assert set(truth["metrics"]["attack_success_rate"]) == {"sunglasses", "lipstick", "eyebrows"}
    poisoned = [tmp_path / f"{name}_poisoned_data.h5" for name in ("sunglasses", "lipstick", "eyebrows")]
    assert all(path.exists() for path in poisoned)
    assert api.load_classifier(tmp_path / "network.h5").classes == 4


def test_files_are_data_too_and_the_seed_decides(tmp_path: Path) -> None:
    train, test = (
        write_hdf5(tmp_path / "a.h5", make_quadrants(80, 1)),
        write_hdf5(tmp_path / "b.h5", make_quadrants(40, 2)),
    )
    options = ["--test", test, "--rate", 0.2, "--optimizer", "sgd", "--format", "safetensors", *FAST]
    for number, seed in enumerate((5, 5, 6)):
        run("attack", train, *options, "--seed", seed, "--out", tmp_path / str(number))
    same, again, other = ((tmp_path / str(k) / "network.safetensors").read_bytes() for k in range(3))
    assert same == again != other
    truth = json.loads((tmp_path / "0" / "backdoor.json").read_text())
    assert truth["metrics"]["clean_accuracy"]["n"] == 40
    assert truth["data"]["train_images"] == 72


@pytest.mark.parametrize("attack", ["warped", "blended", "badnets"])
def test_a_preview_shows_clean_triggered_and_difference(tmp_path: Path, attack: str) -> None:
    printed = run("attack", "digits", "--attack", attack, "--preview", "--out", tmp_path)
    assert "preview.png" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["preview.png"]
    with Image.open(tmp_path / "preview.png") as sheet:
        assert sheet.width > 3 * 100
        assert sheet.height > 8 * 100


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ("digits:8", ["--target", "10"], "outside the classes"),
        ("digits:8", ["--rate", "1.0"], "rate"),
        ("digits:8", ["--rate", "0"], "rate"),
        ("digits:8", ["--size", "9"], "9"),
        ("digits:8", ["--attack", "goodnets"], "unknown method 'goodnets'"),
        ("digits:8", ["--architecture", "huge"], "unknown architecture 'huge'"),
        ("digits:8", ["--format", "h5"], "deepid"),
        ("digits:8", ["--epochs", "0"], "epochs"),
        ("digits:8", ["--device", "abacus"], "abacus"),
        ("digits:8", ["--test", "more.h5"], "leave --test out"),
        ("digits:8", ["--attack", "accessories", "--item", "lipstick"], "rendered faces"),
        ("digits:3", [], "8 to 256"),
        ("faces:1x5", [], "at least 2 identities"),
        ("faces:many", [], "faces:IDENTITIESxIMAGES"),
        ("no/such/data.h5", [], "no such file"),
        ("digits:8", ["--attack", "none", "--preview"], "nothing to preview"),
    ],
)
def test_bad_input_is_one_clear_line_before_any_work(
    tmp_path: Path, data: str, options: list[str], message: str
) -> None:
    arguments = ["attack", data, *options, "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(goodnet, arguments, standalone_mode=False)
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not (tmp_path / "out" / "backdoor.json").exists()


def test_zoo_and_bench_print_their_tables(tmp_path: Path) -> None:
    (tmp_path / "zoo.toml").write_text(ZOO.replace("pairs = 2", "pairs = 1").replace("epochs = 3", "epochs = 1"))
    (tmp_path / "bench.toml").write_text(BENCH.replace("[0, 1, 2]", "[0]"))
    printed = run("zoo", "build", tmp_path / "zoo.toml", "--out", tmp_path / "zoo", "--workers", 1)
    assert "000_digits_badnets" in printed
    printed = run(
        "bench", tmp_path / "bench.toml", "--zoo", tmp_path / "zoo", "--out", tmp_path / "out", "--workers", 1
    )
    assert "disagreement" in printed
    assert "4 cells, 0 failed" in printed
    again = run("bench", tmp_path / "bench.toml", "--zoo", tmp_path / "zoo", "--out", tmp_path / "out", "--json")
    assert len(json.loads(again)["cells"]) == 4
