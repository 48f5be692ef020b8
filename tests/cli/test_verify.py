"""`goodnet verify`: runs on the planted twin, done again from their records."""

import json
import shutil

import pytest
import torch

import goodnet as package
from goodnet.core.backdoor import Backdoor
from goodnet.formats.arrays import write_hdf5
from goodnet.formats.networks import read_network

ARCHITECTURE = ("--architecture", "tests.data.twin_network:build")
SHAPE = (1, 16, 16)


@pytest.fixture
def files(planted, tmp_path):
    """A folder with the planted network, clean images, and triggered ones."""
    planted.classifier.save(tmp_path / "planted.safetensors")
    write_hdf5(tmp_path / "clean.h5", planted.clean)
    write_hdf5(tmp_path / "triggered.h5", planted.triggered)
    return tmp_path


@pytest.fixture
def scanned(goodnet, files):
    """The folder of a scan."""
    options = ("--method", "neural_cleanse", "--steps", 30, "--seed", 3, "--image-shape", "1,16,16")
    arguments = (files / "planted.safetensors", *ARCHITECTURE, "--clean", files / "clean.h5", *options)
    assert goodnet("scan", *arguments, "--out", files / "scan").code in (0, 1)
    return files / "scan"


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def change_one_weight(path):
    network = read_network(path, ARCHITECTURE[1], SHAPE)
    with torch.no_grad():
        network.network.get_parameter("conv_2.weight")[0, 0, 0, 0] += 1e-3
    network.save(path)


def lines(done, word):
    return [line for line in done.out.splitlines() if line.startswith(word)]


def test_an_untouched_scan_is_equal(goodnet, files, scanned):
    before = {path.name: path.read_bytes() for path in scanned.iterdir()}
    done = goodnet("verify", scanned, *ARCHITECTURE)
    assert (done.code, done.err) == (0, "")
    equal = {line.split(maxsplit=1)[1] for line in lines(done, "equal")}
    assert {f"input model: {files / 'planted.safetensors'}", f"input clean: {files / 'clean.h5'}"} <= equal
    assert {"verdict", "suspected", "scores", "figure scores.png", "table scores.csv", "arrays suspected.npz"} <= equal
    assert not lines(done, "different")
    assert done.out.endswith("scan, run again: everything is equal\n")
    assert {path.name: path.read_bytes() for path in scanned.iterdir()} == before


def test_edited_scores_differ(goodnet, scanned):
    was = json.loads((scanned / "scan.json").read_text())["scores"][4]
    edit(scanned / "scan.json", lambda content: content["scores"].__setitem__(4, was + 1e-6))
    (scanned / "scores.png").unlink()
    done = goodnet("verify", scanned, *ARCHITECTURE)
    assert done.code == 1
    assert lines(done, "different") == [
        f"different  scores: scores[4] is {was + 1e-6!r} in the record, {was!r} now",
        "different  figure scores.png: missing in the folder of the run",
    ]
    assert done.out.endswith("things differ\n")


def test_one_changed_weight_of_the_network_is_named_and_the_right_one_found(goodnet, files, scanned):
    model = files / "planted.safetensors"
    (files / "moved").mkdir()
    shutil.copy(model, files / "moved" / "other_name.safetensors")
    change_one_weight(model)
    done = goodnet("verify", scanned, *ARCHITECTURE)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"goodnet: model {model}: its SHA-256 differs from the recorded ")
    assert done.err.count("\n") == 1
    assert goodnet("verify", scanned, *ARCHITECTURE, "--search", files / "moved").code == 0


def test_a_file_that_is_gone_is_named(goodnet, files, scanned):
    (files / "clean.h5").unlink()
    done = goodnet("verify", scanned, *ARCHITECTURE, "--search", scanned)
    assert done.code == 2
    assert done.err.startswith(f"goodnet: clean {files / 'clean.h5'}: there is no such file (recorded SHA-256 ")
    assert f"; no file in {scanned} has the recorded hash" in done.err


def test_a_record_runs_no_code_unasked(goodnet, scanned):
    done = goodnet("verify", scanned)
    assert done.code == 2
    assert "if it is yours, say so: --architecture tests.data.twin_network:build" in done.err


def test_another_version_is_a_note_and_so_is_what_does_not_belong_there(goodnet, scanned):
    edit(scanned / "run.json", lambda content: content["versions"].update(torch="1.0"))
    (scanned / "mine.txt").write_text("notes")
    done = goodnet("verify", scanned, *ARCHITECTURE, "--json")
    content = json.loads(done.out)
    assert done.code == 0
    assert content["notes"] == [
        f"torch 1.0 is recorded, this is {torch.__version__}",
        "no part of the run, not compared: mine.txt",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(verb="zoo", result={}, result_file=None), "guard, evaluate, found one of zoo"),
        (lambda content: content["options"].pop("live"), "does not say all that a repetition needs"),
        (lambda content: content["options"].update(live=["model"]), "the run was given live objects (model)"),
        (lambda content: content["options"].update(image_shape="big"), "expected the options of a run of scan"),
        (lambda content: content["options"].update(steps=-1), "option 'steps'"),
    ],
)
def test_a_record_that_cannot_be_repeated_is_one_line(goodnet, scanned, change, message):
    edit(scanned / "run.json", change)
    done = goodnet("verify", scanned, *ARCHITECTURE)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err


def test_a_link_out_of_the_folder_is_refused(goodnet, files, scanned):
    shutil.move(scanned / "scores.csv", files / "scores.csv")
    (scanned / "scores.csv").symlink_to(files / "scores.csv")
    done = goodnet("verify", scanned, *ARCHITECTURE)
    assert (done.code, "a link that leads out of its folder" in done.err) == (2, True)


def test_a_repair_and_its_evaluation(goodnet, files):
    model, clean, out = files / "planted.safetensors", files / "clean.h5", files / "repair"
    options = ("--method", "pruning", "--target", 7, "--seed", 5, "--out", out)
    assert goodnet("repair", model, *ARCHITECTURE, "--clean", clean, *options).code == 0
    data = ("--clean", clean, "--poisoned", files / "triggered.h5", "--repaired", out, "--out", files / "evaluation")
    assert goodnet("evaluate", model, *ARCHITECTURE, *data).code == 0
    done = goodnet("verify", files / "evaluation", *ARCHITECTURE)
    assert (done.code, lines(done, "different")) == (0, [])
    assert "equal      rows" in done.out
    done = goodnet("verify", out, *ARCHITECTURE)
    assert (done.code, lines(done, "different")) == (0, [])
    repaired = next(out.glob("repaired*.safetensors"))
    assert f"equal      network {repaired.name}" in done.out
    change_one_weight(repaired)
    done = goodnet("verify", out, *ARCHITECTURE)
    assert (done.code, lines(done, "different")) == (
        1,
        [f"different  network {repaired.name}: the weights 'conv_2.weight' differ"],
    )


def test_a_guard(goodnet, files):
    out, model = files / "guard", files / "planted.safetensors"
    options = ("--method", "disagreement", "--target", 7, "--repaired", model, "--out", out)
    assert goodnet("guard", model, *ARCHITECTURE, "--clean", files / "clean.h5", *options).code == 0
    assert package.verify(out, architecture=ARCHITECTURE[1]).equal
    edit(out / "guard.json", lambda content: content.update(threshold=0.5))
    found = package.verify(out, architecture=ARCHITECTURE[1])
    assert [item.what for item in found.different] == ["threshold"]
    assert "1 of " in str(found)


def test_a_method_that_failed_fails_again(goodnet, files):
    out, model = files / "failed", files / "planted.safetensors"
    options = ("--method", "strip", "--input-range", "0..1", "--out", out)
    write_hdf5(files / "one.h5", package.load_dataset(files / "clean.h5").sample(1, seed=0))
    assert goodnet("guard", model, *ARCHITECTURE, "--clean", files / "one.h5", *options).code == 3
    done = goodnet("verify", out, *ARCHITECTURE)
    assert (done.code, "equal      error" in done.out) == (0, True)


def test_live_objects_are_recorded_as_such(planted, files):
    package.repair(
        *(planted.classifier, files / "clean.h5"),
        method="pruning",
        suspected=[Backdoor(planted.backdoor.trigger, 7)],
        out=files / "live",
    )
    with pytest.raises(package.InputError, match=r"live objects \(model, suspected\)"):
        package.verify(files / "live")
