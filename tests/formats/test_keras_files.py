"""Keras files under names that lie, and files that are two things at once."""

import io
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers as kl

from goodnet.core.errors import UnreadableModel, UnwritableOutput
from goodnet.formats.file_kinds import find_kind
from goodnet.formats.keras import read_keras
from tests.formats.keras_networks import SHAPE, close, images_for, logits_of, randomise, run

FORMATS = [".h5", ".keras"]


def network(seed: int = 0) -> Any:
    layers = [keras.Input(SHAPE), kl.Conv2D(4, 3, activation="relu"), kl.Flatten(), kl.Dense(3)]
    return randomise(keras.Sequential(layers), seed)


def saved(content: str, path: Path, model: Any) -> Path:
    """Write a model in the format of the ending `content`, under any name."""
    model.save(path.parent / f"written{content}")
    return (path.parent / f"written{content}").rename(path)


@pytest.mark.parametrize("content", FORMATS)
@pytest.mark.parametrize(
    "name", ["m.h5", "m.keras", "m.hdf5", "M.H5", "M.KERAS", "m.ckpt", "m.pt", "m.tar.gz", "m", ".h5"]
)
def test_a_model_opens_under_any_name(name: str, content: str, tmp_path: Path) -> None:
    model = network()
    path = saved(content, tmp_path / name, model)
    before = path.read_bytes()
    theirs, ours = images_for(model)
    classifier = read_keras(path)
    close(run(classifier, ours), logits_of(model, theirs))
    known = name.lower().endswith((".h5", ".hdf5", ".keras")) and name != ".h5"
    assert classifier.suffix == (Path(name).suffix.lower() if known else content)
    back = classifier.save(tmp_path / f"back{classifier.suffix}")
    # The ending decides what is written: something that Keras opens under this name.
    close(logits_of(keras.models.load_model(back, compile=False), theirs), logits_of(model, theirs))
    assert zipfile.is_zipfile(back) == (classifier.suffix == ".keras")
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", FORMATS)
def test_a_model_is_not_written_where_keras_would_not_find_it(content: str, tmp_path: Path) -> None:
    classifier = read_keras(saved(content, tmp_path / "m.ckpt", network()))
    with pytest.raises(UnwritableOutput, match=r"written to \.h5 or \.keras, got '\.ckpt'"):
        classifier.save(tmp_path / "m2.ckpt")


def archive_of(model: Any, folder: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(saved(".keras", folder / "entries.keras", model)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("ending", FORMATS)
def test_an_archive_with_hdf5_inside_is_an_archive(ending: str, tmp_path: Path) -> None:
    """The HDF5 library finds its signature at byte 512, zip readers find theirs at the end: the first bytes decide."""
    model, other, path = network(), network(seed=1), tmp_path / f"m{ending}"
    inner = saved(".h5", tmp_path / "inner.h5", other).read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", b"\0" * (512 - 31) + inner)
        for name, content in archive_of(model, tmp_path).items():
            archive.writestr(name, content)
    with h5py.File(path) as file:
        assert "model_config" in file.attrs
    theirs, ours = images_for(model)
    close(run(read_keras(path), ours), logits_of(model, theirs))


@pytest.mark.parametrize("ending", FORMATS)
def test_hdf5_with_an_archive_behind_it_is_hdf5(ending: str, tmp_path: Path) -> None:
    model, other = network(), network(seed=1)
    path = saved(".h5", tmp_path / f"m{ending}", model)
    with path.open("ab") as stream:
        stream.write(saved(".keras", tmp_path / "other.keras", other).read_bytes())
    assert zipfile.is_zipfile(path)
    theirs, ours = images_for(model)
    close(run(read_keras(path), ours), logits_of(model, theirs))


@pytest.mark.parametrize("ending", FORMATS)
def test_hdf5_that_begins_like_an_archive_is_refused(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"m{ending}"
    with (
        h5py.File(saved(".h5", tmp_path / "plain.h5", network())) as file,
        h5py.File(path, "w", userblock_size=512) as new,
    ):
        new.attrs.update(file.attrs)
        file.copy("model_weights", new)
    with path.open("r+b") as stream:
        stream.write(b"PK\x03\x04")
    with h5py.File(path) as file:
        assert "model_config" in file.attrs
    with pytest.raises(UnreadableModel, match="expected a Keras model"):
        read_keras(path)
    assert find_kind(path) != "keras weights"


@pytest.mark.parametrize("last", ["harmless", "lambda"])
def test_of_two_configurations_the_one_that_is_checked_is_the_one_that_is_built(last: str, tmp_path: Path) -> None:
    model = network()
    entries = archive_of(model, tmp_path)
    config = json.loads(entries["config.json"])
    config["config"]["layers"][2]["class_name"] = "Lambda"
    texts = [entries["config.json"], json.dumps(config).encode()]
    path = tmp_path / "m.keras"
    parts = [(name, entries[name]) for name in ("metadata.json", "model.weights.h5")]
    parts += [("config.json", text) for text in (texts if last == "lambda" else reversed(texts))]
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # zipfile's own: a name twice
        for name, content in parts:
            archive.writestr(name, content)
    if last == "lambda":
        with pytest.raises(UnreadableModel, match="Lambda"):
            read_keras(path)
    else:
        theirs, ours = images_for(model)
        close(run(read_keras(path), ours), logits_of(model, theirs))


def test_keras_sees_the_configuration_and_the_weights_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[list[str]] = []
    load = keras.models.load_model

    def spy(path: Path, **options: Any) -> Any:
        with zipfile.ZipFile(path) as archive:
            seen.append(sorted(archive.namelist()))
        return load(path, **options)

    path = saved(".keras", tmp_path / "m.keras", network())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("assets/../../evil.py", "raise SystemExit")
        archive.writestr("model.weights.npz", "not read")
    monkeypatch.setattr(keras.models, "load_model", spy)
    read_keras(path)
    assert seen == [["config.json", "model.weights.h5"]]


@pytest.mark.parametrize("missing", ["metadata.json", "config.json", "model.weights.h5"])
def test_an_archive_without_one_of_its_parts_is_refused(missing: str, tmp_path: Path) -> None:
    entries = archive_of(network(), tmp_path)
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name in entries.keys() - {missing}:
            archive.writestr(name, entries[name])
    with pytest.raises(UnreadableModel, match=rf"There is no item named '{missing}' in the archive"):
        read_keras(path)


def test_a_compressed_part_that_is_damaged_is_refused(tmp_path: Path) -> None:
    entries, buffer = archive_of(network(), tmp_path), io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
        start = archive.getinfo("model.weights.h5").header_offset
    path, content = tmp_path / "m.keras", bytearray(buffer.getvalue())
    content[start + 60 : start + 90] = b"\xff" * 30
    path.write_bytes(content)
    with pytest.raises(UnreadableModel, match="damaged"):
        read_keras(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "an empty file"), (b"hello\n", "text"), (b"\x1f\x8b\x08", "a gzip archive"), (b"\x80\x04.", "a pickle")],
)
def test_what_is_neither_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    path.write_bytes(content)
    with pytest.raises(
        UnreadableModel, match=rf"expected a Keras model \(.h5 or .keras\), but the file is {words};"
    ) as caught:
        read_keras(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert find_kind(path) != "keras weights"


def test_a_network_is_copied_without_the_state_of_its_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = network()
    model.compile("adam", "mse")
    model.fit(np.zeros((2, *SHAPE)), np.zeros((2, 3)), verbose=0)
    path = saved(".h5", tmp_path / "m.h5", model)
    seen: list[list[str]] = []
    load = keras.models.load_model

    def spy(path: Path, **options: Any) -> Any:
        with h5py.File(path) as file:
            seen.append([*file, *file.attrs])
        return load(path, **options)

    monkeypatch.setattr(keras.models, "load_model", spy)
    read_keras(path)
    with h5py.File(path) as file:
        assert "optimizer_weights" in file
    assert seen == [["model_weights", "model_config"]]
