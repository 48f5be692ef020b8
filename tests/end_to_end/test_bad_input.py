"""Bad and hostile input through the command line: one line, exit code 2, nothing left behind, nothing run."""

import os
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest
import torch
from PIL import Image

SIZE = (12, 12, 3)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def write_data(path, images=None, labels=None, **others):
    with h5py.File(path, "w") as file:
        if images is not None:
            file["data"] = images
        if labels is not None:
            file["label"] = labels
        for name, value in others.items():
            file[name] = value


def pixels(count=8):
    return np.random.default_rng(0).integers(0, 255, (count, 3, 12, 12), dtype=np.uint8)


def truncated(path, badnet):
    path.write_bytes(badnet.model.read_bytes()[:8000])


def text(path, badnet):
    path.write_text("this is not a network\n")


def without_data(path, badnet):
    write_data(path, labels=np.zeros(8, int), names=np.zeros(8, int))


def without_labels(path, badnet):
    write_data(path, pixels(), names=np.zeros(8, int))


def foreign_labels(path, badnet):
    write_data(path, pixels(), np.arange(8))


def negative_labels(path, badnet):
    write_data(path, pixels(), np.arange(8) - 3)


def too_few_labels(path, badnet):
    write_data(path, pixels(), np.zeros(7, int))


def wrong_size(path, badnet):
    write_data(path, np.zeros((8, 3, 10, 12), np.uint8), np.zeros(8, int))


def flat_images(path, badnet):
    write_data(path, np.zeros((8, 432), np.uint8), np.zeros(8, int))


def nan_pixels(path, badnet):
    images = pixels().astype(np.float32) / 255
    images[5, 1, 2, 3] = np.nan
    write_data(path, images, np.zeros(8, int))


def normalised_pixels(path, badnet):
    write_data(path, pixels() / 25.0 - 5, np.zeros(8, int))


def empty(path, badnet):
    write_data(path, np.zeros((0, 3, 12, 12), np.uint8), np.zeros(0, int))


def missing(path, badnet):
    assert not path.exists()


def folder(path, badnet):
    path.mkdir()


#: (what is wrong, parts that the message must have)
MODELS = [
    (truncated, ("expected a model", "HDF5 that is damaged")),
    (text, ("unknown kind of model", "text; expected a model of Keras")),
    (missing, ("no such file", "check the path")),
    (folder, ("found a folder without config.json and weights",)),
]
DATA = [
    (truncated, ("expected an HDF5 file", "damaged")),
    (text, ("expected", "got text")),
    (without_data, ("expected a key 'data'", "'label', 'names'")),
    (without_labels, ("has no labels",)),
    (foreign_labels, ("expected labels from 0 to 3", "got 7")),
    (negative_labels, ("expected labels of 0 or more", "got -3")),
    (too_few_labels, ("8 images but 7 labels",)),
    (wrong_size, ("takes images of shape (3, 12, 12)", "got (3, 10, 12)")),
    (flat_images, ("expected images (N, C, H, W) or (N, H, W, C)", "got shape (8, 432)")),
    (nan_pixels, ("expected finite pixels", "NaN")),
    (normalised_pixels, ("expected pixels in 0..1 or 0..255", "got -5")),
    (empty, ("expected at least one image", "empty set")),
    (missing, ("no such file", "check the path")),
    (folder, ("expected class folders",)),
]


def name_of(value):
    return value.__name__ if callable(value) else ""


def check_refusal(done, parts, *untouched):
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("goodnet: ")
    assert done.err.count("\n") == 1
    assert "Traceback" not in done.err
    for part in parts:
        assert part in done.err
    for path in untouched:
        assert not path.exists()


@pytest.mark.parametrize(("break_it", "parts"), MODELS, ids=name_of)
@pytest.mark.parametrize("verb", ["repair", "evaluate"])
def test_a_bad_model(verb, break_it, parts, badnet, goodnet, tmp_path):
    model, out = tmp_path / "net.h5", tmp_path / "out"
    break_it(model, badnet)
    if verb == "evaluate" and break_it is folder:
        parts = ("goodnet.json: no such file",)
    done = goodnet(verb, model, "--clean", badnet.validation, *(["--out", out] if verb == "repair" else []))
    check_refusal(done, (str(model), *parts), out)


@pytest.mark.parametrize(("break_it", "parts"), DATA, ids=name_of)
@pytest.mark.parametrize("verb", ["repair", "evaluate"])
def test_bad_data(verb, break_it, parts, badnet, goodnet, tmp_path):
    data, out = tmp_path / "bad.h5", tmp_path / "out"
    break_it(data, badnet)
    # Pruning goes by labels; what does not would repair without them.
    options = ["--method", "pruning", "--out", out] if verb == "repair" else []
    done = goodnet(verb, badnet.model, "--clean", data, *options)
    check_refusal(done, ("bad.h5", *parts), out)


@pytest.mark.parametrize(("break_it", "parts"), DATA, ids=name_of)
def test_bad_poisoned_data(break_it, parts, badnet, goodnet, tmp_path):
    data = tmp_path / "bad.h5"
    break_it(data, badnet)
    done = goodnet("evaluate", badnet.model, "--clean", badnet.test, "--poisoned", data)
    check_refusal(done, ("bad.h5", *parts))


@pytest.mark.parametrize("break_it", [truncated, text, without_data, negative_labels, nan_pixels, empty, missing])
def test_inspect_of_what_cannot_be_read(break_it, badnet, goodnet, tmp_path):
    path = tmp_path / "what.h5"
    break_it(path, badnet)
    check_refusal(goodnet("inspect", path, "--out", tmp_path / "out"), (str(path),), tmp_path / "out")


def test_a_repaired_network_that_cannot_be_read(badnet, goodnet, tmp_path):
    truncated(tmp_path / "net.h5", badnet)
    for path in (tmp_path / "net.h5", tmp_path / "none.h5", tmp_path):
        done = goodnet("evaluate", badnet.model, "--clean", badnet.test, "--repaired", path)
        check_refusal(done, (str(path),))


def test_no_such_layer(badnet, goodnet, tmp_path):
    out = tmp_path / "out"
    done = goodnet(
        "repair", badnet.model, "--method", "pruning", "--clean", badnet.validation, "--out", out, "--layer", "conv_9"
    )
    check_refusal(done, ("bd_net.h5 has no layer 'conv_9'", "its layers are: conv_1, pool_1, conv_2, pool_2"))
    assert not out.exists() or list(out.iterdir()) == []
    done = goodnet(
        "repair", badnet.model, "--method", "pruning", "--clean", badnet.validation, "--out", out, "--layer", "output"
    )
    check_refusal(done, ("the channels of layer 'output'", "cannot be pruned; these can: "))
    assert not out.exists() or list(out.iterdir()) == []


@pytest.mark.parametrize("verb", ["repair", "evaluate", "inspect", "demo"])
def test_an_output_that_cannot_be_written(verb, badnet, goodnet, tmp_path):
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" / "out"
    arguments = {
        "repair": [badnet.model, "--method", "pruning", "--clean", badnet.validation],
        "evaluate": [badnet.model, "--clean", badnet.test],
        "inspect": [badnet.test],
        "demo": [],
    }[verb]
    done = goodnet(verb, *arguments, "--out", out)
    assert done.code == 2
    assert done.err.startswith(f"goodnet: {out}")
    assert "cannot write here" in done.err
    assert "choose another output folder" in done.err
    assert done.err.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_run_that_is_refused_leaves_the_old_results(badnet, repaired_badnet, goodnet, tmp_path):
    out = tmp_path / "out"
    assert goodnet("repair", badnet.model, "--method", "pruning", "--clean", badnet.validation, "--out", out).code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    empty(tmp_path / "bad.h5", badnet)
    assert (
        goodnet("repair", badnet.model, "--method", "pruning", "--clean", tmp_path / "bad.h5", "--out", out).code == 2
    )
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert len(before) == 9


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@pytest.mark.parametrize("verb", ["inspect", "repair", "evaluate"])
def test_a_pickle_with_a_payload(verb, suffix, badnet, goodnet, tmp_path):
    path, marker, out = tmp_path / f"net{suffix}", tmp_path / "code has run", tmp_path / "out"
    torch.save(Payload(marker), path)
    arguments = [] if verb == "inspect" else ["--clean", badnet.validation]
    arguments += ["--out", out] if verb == "repair" else []
    done = goodnet(verb, path, *arguments, "--architecture", "deepid")
    check_refusal(done, (str(path), "refused", "save the state dict alone"), marker, out)
    torch.load(path, weights_only=False)
    assert marker.exists(), "the payload works where nobody guards"


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("verb", ["inspect", "repair", "evaluate"])
def test_a_keras_model_with_a_lambda_layer(verb, suffix, badnet, goodnet, tmp_path):
    path, marker, out = tmp_path / f"net{suffix}", tmp_path / "code has run", tmp_path / "out"

    def leave_mark(x, where=str(marker), make=os.makedirs):
        make(where, exist_ok=True)
        return x

    model = keras.Sequential(
        [keras.Input(SIZE), keras.layers.Lambda(leave_mark), keras.layers.Flatten(), keras.layers.Dense(4)]
    )
    model.save(path)
    assert marker.exists(), "the payload works"
    marker.rmdir()
    arguments = [] if verb == "inspect" else ["--clean", badnet.validation]
    done = goodnet(verb, path, *arguments, *(["--out", out] if verb == "repair" else []))
    check_refusal(done, (str(path), "refused", "Lambda layer"), marker, out)


def test_a_goodnet_folder_with_a_payload(badnet, repaired_badnet, goodnet, tmp_path):
    folder, marker = tmp_path / "goodnet", tmp_path / "code has run"
    folder.mkdir()
    torch.save(Payload(marker), folder / "net.pt")
    (folder / "goodnet.json").write_text(
        '{"kind": "disagreement", "schema_version": 2, "original": "net.pt", "repaired": "net.pt", "architecture": "deepid", '
        '"image_shape": [3, 55, 47], "input_range": "0..1", "classes": 1283, "targets": null}'
    )
    for arguments in (["predict", folder, badnet.clean_picture], ["evaluate", folder, "--clean", badnet.test]):
        check_refusal(goodnet(*arguments), ("net.pt", "refused"), marker)


def test_pictures(badnet, repaired_badnet, goodnet, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "half.png").write_bytes(badnet.clean_picture.read_bytes()[:60])
    Image.new("RGB", (47, 55)).save(tmp_path / "large.png")
    for name, part in (
        ("text.png", "expected a picture"),
        ("half.png", "expected a picture"),
        ("none.png", "no such file"),
    ):
        done = goodnet("predict", repaired_badnet, tmp_path / name)
        check_refusal(done, (part,))
    # A picture of another size is made to fit.
    assert goodnet("predict", repaired_badnet, tmp_path / "large.png").code == 0
    check_refusal(goodnet("predict", tmp_path / "nowhere", badnet.clean_picture), ("expected the folder of a GoodNet",))


# --- as a shell sees it -------------------------------------------------------------------------------------------


def shell(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "goodnet", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_a_truncated_model_in_a_process_of_its_own(badnet, tmp_path):
    truncated(tmp_path / "net.h5", badnet)
    done = shell(
        "repair", tmp_path / "net.h5", "--method", "pruning", "--clean", badnet.validation, "--out", tmp_path / "out"
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert f"{tmp_path / 'net.h5'}: expected a model, found HDF5 that is damaged" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_payload_in_a_process_of_its_own(badnet, tmp_path):
    torch.save(Payload(tmp_path / "mark"), tmp_path / "net.pt")
    done = shell(
        "repair",
        tmp_path / "net.pt",
        "--clean",
        badnet.validation,
        "--out",
        tmp_path / "out",
        "--architecture",
        "deepid",
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "refused" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"net.pt"}
