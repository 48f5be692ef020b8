"""Systems C and D through the command line: rounds of pruning and training, every network kept, and their tables."""

import csv
import json

import h5py
import keras
import numpy as np
import pytest

from goodnet.formats.data import read_data


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("fine_pruning")


@pytest.fixture
def repaired(badnet, out, goodnet):
    """Repair in three rounds, once; later tests read the results."""
    if not (out / "run").exists():
        options = ("--method", "fine_pruning", "--rounds", 3, "--epochs", 2, "--learning-rate", 1e-3, "--keep-all")
        done = goodnet("repair", badnet.model, "--clean", badnet.validation, *options, "--out", out / "run")
        assert (done.code, done.err) == (0, "")
        (out / "printed").write_text(done.out)
    return out / "run"


@pytest.fixture(scope="module")
def second_trigger(badnet, out):
    """A second poisoned set: a white row above, which the network was never taught."""
    data = read_data(badnet.test)
    pixels = data.source.read(data.positions).copy()
    pixels[:, :, 0] = 255
    path = out / "white_row.h5"
    with h5py.File(path, "w") as file:
        file["data"], file["label"] = pixels, np.zeros(len(pixels), dtype=np.int64)
    return path


NAMES = [f"round_{number}_{state}" for number in (1, 2, 3) for state in ("pruned", "repaired")]


def test_every_network_is_kept_whole_and_as_weights(repaired, badnet, out):
    entries = json.loads((repaired / "run.json").read_text())["result"]["networks"]
    assert [entry["name"] for entry in entries] == NAMES
    images = read_data(badnet.test).images().permute(0, 2, 3, 1).numpy()
    for entry in entries:
        whole = keras.models.load_model(repaired / entry["file"], compile=False)
        bare = keras.models.load_model(badnet.model, compile=False)
        assert not np.allclose(bare.predict(images, verbose=0), whole.predict(images, verbose=0), atol=1e-6)
        bare.load_weights(repaired / entry["weights"])
        np.testing.assert_array_equal(bare.predict(images, verbose=0), whole.predict(images, verbose=0))
    for name in NAMES:
        assert name in (out / "printed").read_text()


def test_without_keep_all_only_the_last_network_is_left(repaired, badnet, out, goodnet):
    folder = out / "again"
    for options in (("--keep-all",), ()):
        arguments = ("--clean", badnet.validation, "--method", "fine_pruning", "--rounds", 2, "--epochs", 1, *options)
        assert goodnet("repair", badnet.model, *arguments, "--out", folder).code == 0
    assert {path.name for path in folder.iterdir()} == {"repaired.h5", "goodnet", "run.json"}


def test_before_and_after_for_each_trigger_and_the_goodnet_on_the_mix(repaired, badnet, second_trigger, out, goodnet):
    arguments = ["--clean", badnet.test, "--poisoned", badnet.poisoned, "--poisoned", second_trigger]
    done = goodnet("evaluate", badnet.model, *arguments, "--repaired", repaired, "--out", out / "evaluation", "--json")
    assert (done.code, done.err) == (0, "")
    networks = json.loads(done.out)["networks"]
    assert list(networks) == ["original", *(n for name in NAMES for n in (f"run/{name}", f"GoodNet(run/{name})"))]
    clean, *sets = (read_data(path) for path in (badnet.test, badnet.poisoned, second_trigger))
    models = [
        keras.models.load_model(p, compile=False) for p in (badnet.model, repaired / "repaired_round_3_repaired.h5")
    ]

    def predictions(model, data):
        return model.predict(data.images().permute(0, 2, 3, 1).numpy(), verbose=0).argmax(axis=1)

    before, after = ([predictions(model, data) for data in (clean, *sets)] for model in models)
    for row, classes in (("original", before), ("run/round_3_repaired", after)):
        assert networks[row]["clean_accuracy"]["value"] == np.mean(classes[0] == clean.targets)
        for data, chosen in zip(sets, classes[1:], strict=True):
            assert networks[row]["attack_success_rate"][data.name]["value"] == np.mean(chosen == data.targets)
    both = networks["GoodNet(run/round_3_repaired)"]
    differ = [b != a for b, a in zip(before, after, strict=True)]
    for data, refused in zip(sets, differ[1:], strict=True):
        assert both["refused_poisoned"][data.name]["value"] == refused.mean()
        assert both["detection_accuracy"][data.name]["value"] == np.concatenate([~differ[0], refused]).mean()
    with (out / "evaluation" / "evaluation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["network"] for row in rows] == list(networks)
    for data in sets:
        columns = [f"{title}, {data.name}" for title in ("ASR", "refused poisoned", "detection accuracy")]
        assert all(rows[-1][column] != "" for column in columns)


def test_the_paper_s_form_in_the_tables(badnet, out, goodnet):
    options = ("--method", "fine_pruning", "--epochs", 1, "--keep-all", "--max-accuracy-drop", 0.1)
    done = goodnet("repair", badnet.model, "--clean", badnet.validation, *options, "--out", out / "channels")
    assert (done.code, done.err) == (0, "")
    assert "channels of" in done.out
    assert "fine-tuned" in done.out
    arguments = ("--clean", badnet.test, "--poisoned", badnet.poisoned, "--repaired", out / "channels")
    done = goodnet("evaluate", badnet.model, *arguments, "--out", out / "table")
    assert (done.code, done.err) == (0, "")
    with (out / "table" / "evaluation.csv").open() as file:
        rows = {row["network"]: row for row in csv.DictReader(file)}
    assert list(rows)[1::2] == ["channels/pruned", "channels/repaired"]
    count = int(rows["channels/repaired"]["channels pruned"])
    with (out / "table" / "pruning_channels.csv").open() as file:
        levels = list(csv.DictReader(file))
    assert levels[count]["Accuracy"] == rows["channels/pruned"]["clean accuracy"]
