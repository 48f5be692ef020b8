import json

import pytest
import torch

from goodnet import api
from goodnet.core.backdoor import Backdoor, Patch
from goodnet.core.reading import Reading
from goodnet.formats.triggers import SUSPECTED, write_backdoors


@pytest.fixture(scope="module")
def scanned(tmp_path_factory):
    """The folder of a scan that has recovered the white corner of `badnet`."""
    folder = tmp_path_factory.mktemp("scan")
    mask = torch.zeros(1, 12, 12)
    mask[:, -3:, -3:] = 1
    write_backdoors(folder / SUSPECTED, (Backdoor(Patch(mask, torch.ones(3, 12, 12)), 0),))
    return folder


def test_what_a_person_sees(badnet, repaired_badnet, scanned, goodnet, tmp_path):
    out = tmp_path / "run [1]"
    done = goodnet(
        "guard",
        badnet.model,
        "--clean",
        badnet.validation,
        "--repaired",
        repaired_badnet,
        "--suspected",
        scanned,
        "--out",
        out,
    )
    assert (done.code, done.err) == (0, "")
    record = json.loads((out / "guard.json").read_text())
    assert record["targets"] == [0]
    assert "suspected target 0\nthe guard is expected to refuse " in done.out
    assert f"at most {record['false_refusals']['bound']:.3f} with 95 % confidence" in done.out
    assert "trigger of class 0, as recovered" in done.out
    assert f"{record['surrogates'][0]['refused']['value']:.3f}" in done.out
    assert f"written to {out}\n" in done.out
    assert "\x1b" not in done.out
    # The GoodNet is one that the other verbs take.
    answer = goodnet("predict", out / "goodnet", badnet.poisoned_picture)
    assert answer.code == 0


def test_json_is_the_record(badnet, goodnet, tmp_path):
    done = goodnet(
        "guard", badnet.model, "--clean", badnet.validation, "--method", "strip", "--out", tmp_path, "--json"
    )
    assert (done.code, done.err) == (0, "")
    assert done.out == (tmp_path / "guard.json").read_text()
    assert json.loads(done.out)["goodnet"] is None


def test_options_reach_the_method(badnet, goodnet, tmp_path):
    options = ["--method", "strip", "--blends", "3", "--false-refusals", "0.2", "--seed", "5", "--input-range", "0..1"]
    done = goodnet("guard", badnet.model, "--clean", badnet.validation, "--out", tmp_path, "--json", *options)
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["options"].items() >= {"blends": 3, "false_refusals": 0.2, "input_range": "0..1"}.items()
    assert run["seed"] == 5
    expected = api.guard(
        badnet.model,
        badnet.validation,
        method="strip",
        blends=3,
        false_refusals=0.2,
        seed=5,
        reading=Reading(input_range="0..1"),
    )
    assert json.loads(done.out)["threshold"] == expected.guard.threshold
    assert 0.15 < json.loads(done.out)["false_refusals"]["expected"] <= 0.2


def test_a_value_outside_its_bounds_is_one_line(badnet, goodnet, tmp_path):
    done = goodnet(
        "guard", badnet.model, "--clean", badnet.validation, "--out", tmp_path / "out", "--false-refusals", "1.5"
    )
    assert done.code == 2
    assert done.err.startswith("goodnet: ensemble: option 'false_refusals': ")
    assert done.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_method_that_fails_is_exit_code_3(badnet, goodnet, tmp_path):
    options = ["--clean", badnet.clean_picture, "--method", "strip", "--input-range", "0..1"]
    done = goodnet("guard", badnet.model, *options, "--out", tmp_path)
    assert done.code == 3
    assert done.out == ""
    assert done.err == "goodnet: clean.png: expected at least 2 clean images, some to fit and some to judge by; got 1\n"


def test_help_lists_the_options_of_the_method(goodnet):
    assert "--blends" in goodnet("guard", "--method", "strip", "--help").out
    assert "--blends" not in goodnet("guard", "--help").out
    assert "Refuse triggered inputs of a network that is in use." in goodnet("--help").out


def test_a_class_that_the_user_suspects_stands_for_a_scan(badnet, goodnet, tmp_path):
    done = goodnet(
        *("guard", badnet.model, "--clean", badnet.validation, "--method", "disagreement"),
        *("--target", "2", "--repaired", badnet.model, "--out", tmp_path),
    )
    assert (done.code, done.err) == (0, "")
    assert "suspected target 2" in done.out
    assert json.loads((tmp_path / "guard.json").read_text())["targets"] == [2]
    assert json.loads((tmp_path / "run.json").read_text())["options"]["suspected_targets"] == [2]
