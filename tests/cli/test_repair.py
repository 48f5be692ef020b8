import json

import pytest

from goodnet import api
from goodnet.core.backdoor import Backdoor
from goodnet.core.reading import Reading
from goodnet.core.repairs import Change, HeldOutLoss, Repair, RepairedNetwork, Trace
from goodnet.core.results import Detection, Rate
from goodnet.formats.data import read_data
from goodnet.formats.triggers import SUSPECTED, write_backdoors
from goodnet.pipelines.auto_repair import AutoRepair


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
        reading=Reading(input_range="0..1"),
    )
    record = json.loads(done.out)
    assert record["result"]["trace"] == expected.trace.model_dump(mode="json") | {"notes": []}
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
    assert f"{counts['left_out']} left out: classified as a suspected target" in done.out


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
    assert done.out.startswith("classes 0, 2 are not predicted any more: their images get other classes\n")


@pytest.mark.parametrize("verb", ["repair", "guard"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--target", "4"), "expected suspected classes from 0 to 3, got 4\n"),
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
    assert (done.code, done.err) == (3, "")
    assert "scan of the original: inconclusive, highest score 4.4 (class [5]), threshold 5\n" in done.out
    assert "a class that you suspect yourself: --target CLASS; without one" in done.out
    (scan,) = json.loads((tmp_path / "run.json").read_text())["result"]["trace"]["scans"]
    assert scan == {"verdict": "inconclusive", "targets": [], "reason": doubt.reason}


def rolled_back(monkeypatch, why, suspected):
    """Let `auto` leave the network as it was."""
    verdict = "backdoored" if suspected else "clean"
    found = Detection(verdict, (), 5.0, tuple(Backdoor(None, target) for target in suspected), reason="told")
    monkeypatch.setattr("goodnet.api.repairing.look_for_suspects", lambda *_, **__: found)

    def repair(self, classifier, clean, **_):
        network = RepairedNetwork("auto", classifier.copy(), Rate.of(1, 1), Change(why=why))
        return Repair((network,), Rate.of(1, 1))

    monkeypatch.setattr(AutoRepair, "repair", repair)


@pytest.mark.parametrize(("suspected", "code"), [((0,), 3), ((), 0)])
def test_a_network_that_is_as_it_was_is_not_called_repaired(badnet, goodnet, tmp_path, monkeypatch, suspected, code):
    rolled_back(monkeypatch, "rolled back: it cost [too] much", suspected)
    done = goodnet("repair", badnet.model, "--clean", badnet.validation, "--out", tmp_path)
    assert (done.code, done.err) == (code, "")
    assert "as it was, and its GoodNet refuses nothing: rolled back: it cost [too] much\n" in done.out
    assert "next: goodnet evaluate" not in done.out
    as_json = goodnet("repair", badnet.model, "--clean", badnet.validation, "--out", tmp_path, "--json")
    assert (as_json.code, as_json.err, as_json.out) == (code, "", (tmp_path / "run.json").read_text())
    page = tmp_path / "report.html"
    assert goodnet("report", tmp_path, "--out", page).code == 0
    assert "was not repaired and is as it was: rolled back: it cost [too] much." in page.read_text()


@pytest.mark.parametrize(("lost", "chance"), [(0.0, False), (0.25, True)])
def test_what_was_lost_on_held_out_images_is_told_and_whether_they_are_too_few(
    badnet, goodnet, tmp_path, monkeypatch, lost, chance
):
    def repair(self, classifier, clean, **_):
        network = RepairedNetwork("auto", classifier.copy(), Rate.of(1, 1), Change())
        trace = Trace(held_out_accuracy=HeldOutLoss(lost=lost, of=12, allowed=0.05))
        return Repair((network,), Rate.of(1, 1), trace)

    monkeypatch.setattr(AutoRepair, "repair", repair)
    done = goodnet("repair", badnet.model, "--clean", badnet.validation, "--out", tmp_path, "--target", "0")
    assert (done.code, done.err) == (0, "")
    assert f"accuracy lost on 12 held-out images: {lost:.3f}, allowed: 0.05" in done.out
    assert ("cannot tell the difference from chance" in done.out) is chance


def test_what_the_budget_did_not_suffice_for_is_told(badnet, goodnet, tmp_path, monkeypatch):
    def repair(self, classifier, clean, **_):
        assert 0 < self._seconds <= 90
        network = RepairedNetwork("auto", classifier.copy(), Rate.of(1, 1), Change())
        return Repair((network,), Rate.of(1, 1), Trace(out_of_time="the time was up after [one] candidate"))

    monkeypatch.setattr(AutoRepair, "repair", repair)
    command = ["repair", badnet.model, "--clean", badnet.validation, "--target", "0", "--budget", "90s"]
    done = goodnet(*command, "--out", tmp_path)
    assert (done.code, done.err) == (0, "")
    assert "the time was up after [one] candidate\n" in done.out
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["options"]["budget"] == 90.0
    assert record["result"]["trace"]["out_of_time"] == "the time was up after [one] candidate"


def test_a_budget_that_suffices_for_no_repair_is_exit_code_3(badnet, goodnet, tmp_path):
    command = ["repair", badnet.model, "--clean", badnet.validation, "--target", "0", "--budget", "0.001s"]
    done = goodnet(*command, "--out", tmp_path)
    assert (done.code, done.out) == (3, "")
    assert "was up before its first candidate was finished; give a larger budget" in done.err
    assert json.loads((tmp_path / "run.json").read_text())["error"]["kind"] == "BudgetSpent"


def test_a_method_that_works_on_suspects_says_what_the_scan_found(badnet, goodnet, tmp_path, monkeypatch):
    doubt = Detection("inconclusive", (), 5.0, reason="highest score 4.4 (class 2), threshold 5")
    monkeypatch.setattr("goodnet.api.repairing.look_for_suspects", lambda *_, **__: doubt)
    done = goodnet("repair", badnet.model, "--clean", badnet.validation, "--method", "quarantine", "--out", tmp_path)
    assert done.code == 3
    assert "the scan suspects none (inconclusive: highest score 4.4 (class 2), threshold 5)" in done.err
    assert "(--target CLASS)" in done.err
