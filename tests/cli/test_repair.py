import json

import pytest

from goodnet import api
from goodnet.core.backdoor import Backdoor
from goodnet.core.results import Detection
from goodnet.formats.data import read_data
from goodnet.formats.triggers import SUSPECTED, write_backdoors


def test_what_a_person_sees(badnet, goodnet, tmp_path):
    out = tmp_path / "run [1]"
    done = goodnet(
        "repair",
        badnet.model,
        "--method",
        "pruning",
        "--clean",
        badnet.validation,
        "--out",
        out,
        "--thresholds",
        "0.05,0.5",
    )
    assert (done.code, done.err) == (0, "")
    record = json.loads((out / "run.json").read_text())
    for network in record["result"]["networks"]:
        line = next(line for line in done.out.splitlines() if network["name"] in line)
        assert f"{network['accuracy']['value']:.4f}" in line
        assert f"{len(network['changes']['channels_pruned'])}/12 channels of pool_2" in line
    assert f"GoodNet of the original and '50_percent': {out / 'goodnet'}\n" in done.out
    assert "\x1b" not in done.out


def test_json_is_the_record(badnet, goodnet, tmp_path):
    done = goodnet(
        "repair", badnet.model, "--method", "pruning", "--clean", badnet.validation, "--out", tmp_path, "--json"
    )
    assert (done.code, done.err) == (0, "")
    assert done.out == (tmp_path / "run.json").read_text()
    assert json.loads(done.out)["result"]["recommended"] == "10_percent"


def test_options_reach_the_method(badnet, goodnet, tmp_path):
    options = ["--order", "random", "--layer", "conv_2", "--thresholds", "0.3", "--seed", "5", "--input-range", "0..1"]
    done = goodnet(
        "repair",
        badnet.model,
        "--clean",
        badnet.validation,
        "--method",
        "pruning",
        "--out",
        tmp_path,
        "--json",
        *options,
    )
    expected = api.repair(
        badnet.model,
        badnet.validation,
        method="pruning",
        order="random",
        layer="conv_2",
        thresholds=(0.3,),
        seed=5,
        input_range="0..1",
    )
    record = json.loads(done.out)
    assert record["result"]["trace"] == expected.trace
    assert record["options"].items() >= {"layer": "conv_2", "order": "random", "thresholds": [0.3]}.items()
    assert record["seed"] == 5


def test_a_value_outside_its_bounds_is_one_line(badnet, goodnet, tmp_path):
    done = goodnet(
        "repair",
        badnet.model,
        "--method",
        "pruning",
        "--clean",
        badnet.validation,
        "--out",
        tmp_path / "out",
        "--thresholds",
        "0.1,2",
    )
    assert done.code == 2
    assert done.err.startswith("goodnet: pruning: option 'thresholds': ")
    assert done.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_method_that_fails_is_exit_code_3(badnet, goodnet, tmp_path):
    done = goodnet(
        "repair",
        badnet.model,
        "--method",
        "pruning",
        "--clean",
        badnet.validation,
        "--out",
        tmp_path,
        "--thresholds",
        "1",
    )
    assert done.code == 3
    assert done.out == ""
    assert done.err.startswith("goodnet: accuracy never falls by 1 or more")
    assert done.err.count("\n") == 1
    assert json.loads((tmp_path / "run.json").read_text())["error"]["kind"] == "MethodFailed"


def test_unlabelled_images_are_counted_for_the_user(badnet, goodnet, tmp_path):
    (tmp_path / "scan").mkdir()
    write_backdoors(tmp_path / "scan" / SUSPECTED, (Backdoor(None, 0),))
    files = ["--clean", badnet.validation, "--unlabelled", badnet.test, "--suspected", tmp_path / "scan"]
    done = goodnet("repair", badnet.model, *files, "--method", "fine_tuning", "--out", tmp_path / "out")
    assert (done.code, done.err) == (0, "")
    counts = json.loads((tmp_path / "out" / "run.json").read_text())["result"]["trace"]["unlabelled"]
    assert f"{counts['used']} unlabelled images took part" in done.out
    assert f"{counts['left_out']} left out: answered as a suspected target" in done.out


def test_classes_that_the_user_suspects_stand_for_a_scan(badnet, goodnet, tmp_path):
    done = goodnet(
        *("repair", badnet.model, "--clean", badnet.validation, "--method", "quarantine", "--out", tmp_path),
        *("--target", "0", "--target", "2", "--target", "0"),
    )
    assert (done.code, done.err) == (0, "")
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["options"]["suspected_targets"] == record["result"]["targets"] == [0, 2]
    closed = api.load_classifier(next(tmp_path.glob("*.h5")))
    images = read_data(badnet.poisoned).images()
    assert not set(closed(images).argmax(dim=1).tolist()) & {0, 2}


@pytest.mark.parametrize("verb", ["repair", "guard"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--target", "4"), "suspected class 4 is not among the 4"),
        (("--target", "-1"), "--target"),
        (("--target", "0", "--suspected", "scan"), "(--suspected) or classes of your own (--target), not both"),
    ],
)
def test_suspects_that_cannot_be(badnet, goodnet, tmp_path, verb, options, words):
    out = tmp_path / "out"
    done = goodnet(verb, badnet.model, "--clean", badnet.validation, "--out", out, *options)
    assert done.code == 2
    assert words in done.err
    assert done.err.count("\n") == 1
    assert not out.exists()


def test_a_doubt_is_told_and_nothing_repaired(badnet, goodnet, tmp_path, monkeypatch):
    doubt = Detection("inconclusive", (), 5.0, reason="highest score 4.4 (class [5]), threshold 5")
    monkeypatch.setattr("goodnet.api.repairing.look_for_suspects", lambda *_, **__: doubt)
    done = goodnet("repair", badnet.model, "--clean", badnet.validation, "--out", tmp_path)
    assert (done.code, done.err) == (0, "")
    assert "scan of the original: inconclusive, highest score 4.4 (class [5]), threshold 5\n" in done.out
    assert "for a class that you suspect yourself: --target CLASS\n" in done.out
    (scan,) = json.loads((tmp_path / "run.json").read_text())["result"]["trace"]["scans"]
    assert scan == {"verdict": "inconclusive", "targets": [], "reason": doubt.reason}
