"""--key beside --architecture: on every verb that opens a model file."""

import json

import pytest
import torch

HOW = ("--architecture", "tests.small_networks:tiny", "--image-shape", "3,12,12")


@pytest.fixture
def checkpoint(tiny_classifier, tmp_path):
    """`ema` is a trained network, `model` nearly the same one, which comes first."""
    trained = dict(tiny_classifier.network.state_dict())
    other = trained | {"output.bias": trained["output.bias"] + 0.01}
    torch.save({"model": other, "ema": trained}, tmp_path / "both.ckpt")
    return tmp_path / "both.ckpt"


@pytest.mark.parametrize("verb", ["inspect", "scan", "repair", "guard", "evaluate", "export"])
def test_verbs_that_open_a_model_file_have_the_option(verb, goodnet):
    assert "--key NAME" in goodnet(verb, "--help").out


def test_inspect_asks_for_the_key_takes_it_and_lists_those_there_are(checkpoint, goodnet):
    asked = goodnet("inspect", checkpoint, *HOW)
    assert (asked.code, asked.out) == (2, "")
    assert "found 2: model, ema; say which one is meant: --key NAME" in asked.err
    wrong = goodnet("inspect", checkpoint, *HOW, "--key", "best")
    assert (wrong.code, wrong.out) == (2, "")
    assert "got 'best'; there are: model, ema" in wrong.err
    done = goodnet("inspect", checkpoint, *HOW, "--key", "ema")
    assert (done.code, done.err) == (0, "")
    assert "4 classes, images 3 x 12 x 12" in done.out


@pytest.mark.parametrize(("key", "other"), [("ema", "model"), ("model", "ema")])
def test_repair_says_which_network_it_repaired_and_which_it_does_not_write(
    key, other, checkpoint, badnet, goodnet, tmp_path
):
    out = tmp_path / "run"
    options = ("--method", "pruning", "--thresholds", "0.2", "--input-range", "0..1", "--out", out)
    done = goodnet("repair", checkpoint, "--clean", badnet.validation, *HOW, "--key", key, *options)
    assert (done.code, done.err) == (0, "")
    assert f"repaired: {key} of the checkpoint; not in the files that are written: {other}" in done.out
    assert list(torch.load(out / "repaired.ckpt", weights_only=True)) == [key]
    again = goodnet("inspect", out / "repaired.ckpt", *HOW)
    assert again.code == 0


def test_the_record_of_a_scan_names_the_key(checkpoint, badnet, goodnet, tmp_path):
    found, out = tmp_path / "scan.sarif", tmp_path / "scan"
    options = ("--method", "last_layer", "--input-range", "0..1", "--out", out, "--sarif", found)
    done = goodnet("scan", checkpoint, "--clean", badnet.validation, *HOW, "--key", "ema", *options)
    assert done.code in (0, 1, 3)
    assert json.loads((out / "run.json").read_text())["options"]["key"] == "ema"
    assert '"key": "ema"' in found.read_text()


@pytest.mark.parametrize("verb", ["inspect", "scan", "repair", "guard", "evaluate", "export", "predict", "serve"])
def test_verbs_that_open_a_model_file_say_how_it_is_read(verb, goodnet):
    assert "--confine / --no-confine" in goodnet(verb, "--help").out


def test_inspect_says_that_a_file_was_read_without_confinement(badnet, goodnet):
    assert "without confinement" not in goodnet("inspect", badnet.model).out
    assert "the model file was read without confinement" in goodnet("inspect", badnet.model, "--no-confine").out


@pytest.mark.parametrize("confine", ["--confine", "--no-confine"])
def test_code_in_a_model_file_is_a_finding_in_the_terminal_in_json_and_in_sarif(confine, badnet, goodnet, tmp_path):
    torch.save(torch.nn.Sequential(torch.nn.Linear(3, 2)), tmp_path / "net.pt")
    options = ("--clean", badnet.validation, *HOW, confine, "--json", "--sarif", tmp_path / "found.sarif")
    done = goodnet("scan", tmp_path / "net.pt", *options)
    names = ["torch.nn.modules.container.Sequential", "torch.nn.modules.linear.Linear"]
    assert done.code == 2
    assert f"it names {', '.join(names)};" in done.err
    assert json.loads(done.out)["error"]["names"] == names
    (result,) = json.loads((tmp_path / "found.sarif").read_text())["runs"][0]["results"]
    assert (result["ruleId"], result["level"], result["properties"]["names"]) == ("code-in-model", "error", names)
