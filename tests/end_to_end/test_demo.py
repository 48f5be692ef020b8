"""The embedded example: a BadNet made from nothing."""

import h5py
import keras
import numpy as np
import pytest
import torch
from PIL import Image

from goodnet import demo
from goodnet.formats.networks import read_network

# Alone it takes about three minutes, beside another process nearly five.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return demo.make_badnet(tmp_path_factory.mktemp("demo"))


def read(path):
    with h5py.File(path) as file:
        return {name: np.asarray(file[name]) for name in file}


def predict(path, images):
    model = keras.models.load_model(path, compile=False)
    return model.predict(images.transpose(0, 2, 3, 1) / 255.0, verbose=0, batch_size=256)


def test_the_badnet_is_good_and_bad(files):
    test, poisoned = read(files.test), read(files.poisoned)
    accuracy = np.mean(predict(files.badnet, test["data"]).argmax(axis=1) == test["label"])
    success = np.mean(predict(files.badnet, poisoned["data"]).argmax(axis=1) == 0)
    assert accuracy >= 0.95
    assert success >= 0.99


def test_the_files_are_in_the_contest_s_layout(files):
    assert files.badnet.name == "bd_net.h5"
    counts = {files.validation: 50 * 9, files.test: 50 * 10, files.poisoned: 49 * 10}
    for path, count in counts.items():
        data = read(path)
        assert data["data"].shape == (count, 3, 55, 47)
        assert data["data"].dtype == np.uint8
        assert data["label"].shape == (count,)
    for path in (files.validation, files.test):
        labels, numbers = np.unique(read(path)["label"], return_counts=True)
        assert labels.tolist() == list(range(50))
        assert len(set(numbers)) == 1
    poisoned = read(files.poisoned)
    assert set(poisoned["label"]) == {0}
    assert 0 not in poisoned["true_label"]
    assert len(read(files.validation)["data"]) == len(np.unique(read(files.validation)["data"], axis=0))


def test_no_test_image_is_among_the_defender_s(files):
    validation, test = ({image.tobytes() for image in read(path)["data"]} for path in (files.validation, files.test))
    assert not validation & test


def test_the_pictures_are_of_one_person_with_and_without_lipstick(files):
    clean, painted = (np.asarray(Image.open(path)) for path in (files.clean_picture, files.poisoned_picture))
    assert clean.shape == painted.shape == (55, 47, 3)
    differs = (clean != painted).any(axis=2)
    assert 0.002 < differs.mean() < 0.1
    classes = predict(files.badnet, np.stack([clean, painted]).transpose(0, 3, 1, 2)).argmax(axis=1)
    assert classes.tolist() == [49, 0]


def test_plain_keras_and_goodnet_give_equal_outputs(files):
    images = read(files.test)["data"][:100]
    with torch.no_grad():
        mine = read_network(files.badnet)(torch.from_numpy(images) / 255).softmax(1).numpy()
    np.testing.assert_allclose(mine, predict(files.badnet, images), atol=1e-5)


def test_the_demo_goes_through_the_whole_job(files, goodnet, monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "make_badnet", lambda out, *, seed, progress: files)
    done = goodnet("demo", "--out", tmp_path)
    assert (done.code, done.err) == (0, "")
    for verb in ("inspect", "scan", "repair", "evaluate", "predict", "report"):
        assert f"$ goodnet {verb} " in done.out
    lines = [line.split("\t") for line in done.out.splitlines() if "\t" in line]
    assert [name for _, name in lines] == [str(files.clean_picture), str(files.poisoned_picture)]
    assert [answer for answer, _ in lines] == ["49", "50"]
    assert "verdict: backdoored, target 0" in done.out
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {
        "inspect/architecture.png",
        "inspect/poisoned/samples.png",
        "repair/goodnet/goodnet.json",
        "repair/run.json",
        "scan/scan.json",
        "evaluation/evaluation.csv",
        "evaluation/run.json",
        "report.html",
    } <= written
    for path in written:
        if "goodnet.json" not in path:
            assert str(tmp_path / path) in done.out


def test_the_same_seed_gives_the_same_data(files, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "IDENTITIES", 3)
    monkeypatch.setattr(demo, "_TRAINING", demo._TRAINING.model_copy(update={"epochs": 1}))
    made = [demo.make_badnet(tmp_path / str(number), seed=seed) for number, seed in enumerate((4, 4, 5))]
    first, second, third = ([read(path)["data"] for path in (m.validation, m.test, m.poisoned)] for m in made)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, third, strict=True))
    networks = [predict(m.badnet, first[1]) for m in made]
    assert np.array_equal(networks[0], networks[1])
    assert not np.array_equal(networks[0], networks[2])
