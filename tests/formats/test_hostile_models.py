"""Model and data files that would run code, or read other files: refused, in one line, and nothing has happened."""

import io
import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import torch
from keras import layers as kl

from goodnet.core.errors import UnreadableData, UnreadableModel
from goodnet.formats.arrays import read_arrays
from goodnet.formats.keras import from_keras, read_keras
from goodnet.formats.networks import read_network

SHAPE = (4, 4, 3)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "code has run"


def one_line(caught: pytest.ExceptionInfo[BaseException], path: Path) -> str:
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def small_model(*extra: Any, name: str = "dense") -> Any:
    return keras.Sequential([keras.Input(SHAPE), *extra, kl.Flatten(), kl.Dense(2, name=name)])


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@pytest.mark.parametrize("kind", ["bare pickle", "zip", "legacy", "inside a checkpoint"])
def test_a_pickle_with_a_payload_is_refused(kind: str, suffix: str, tmp_path: Path, marker: Path) -> None:
    path, payload = tmp_path / f"net{suffix}", Payload(marker)
    if kind == "bare pickle":
        path.write_bytes(pickle.dumps(payload))
    elif kind == "zip":
        torch.save(payload, path)
    elif kind == "legacy":
        torch.save(payload, path, _use_new_zipfile_serialization=False)
    else:
        torch.save({"net": {"weight": torch.zeros(2, 2)}, "optimizer": payload}, path)
    with pytest.raises(UnreadableModel, match="refused") as caught:
        read_network(path, "deepid")
    one_line(caught, path)
    assert not marker.exists()


def test_the_payload_works_where_nobody_guards(tmp_path: Path, marker: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(Payload(marker), path)
    torch.load(path, weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize("key", ["data", "label", "bystander"])
def test_an_npz_with_objects_is_refused(key: str, tmp_path: Path, marker: Path) -> None:
    arrays: dict[str, Any] = {"data": np.zeros((2, 3, 4, 4), np.uint8), "label": np.zeros(2, np.int64)}
    arrays[key] = np.array([Payload(marker), Payload(marker)], dtype=object)
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(UnreadableData, match="holds objects") as caught:
        read_arrays(tmp_path / "data.npz")
    one_line(caught, tmp_path / "data.npz")
    assert not marker.exists()


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_lambda_layer_is_refused(suffix: str, nested: bool, tmp_path: Path, marker: Path) -> None:
    folder = str(marker)
    code = kl.Lambda(lambda images, path=folder: (__import__("os").makedirs(path, exist_ok=True), images)[1])
    layer = keras.Sequential([keras.Input(SHAPE), code]) if nested else code
    path = tmp_path / f"net{suffix}"
    small_model(layer).save(path)
    if marker.exists():
        marker.rmdir()
    with pytest.raises(UnreadableModel, match="refused, the model has a Lambda layer") as caught:
        read_keras(path)
    one_line(caught, path)
    assert not marker.exists()


@keras.saving.register_keras_serializable(package="theirs")
class TheirLayer(kl.Layer):
    def call(self, images: Any) -> Any:
        return images


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_class_from_outside_keras_is_refused_even_where_it_is_registered(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    small_model(TheirLayer()).save(path)
    with pytest.raises(UnreadableModel) as caught:
        read_keras(path)
    one_line(caught, path) if suffix == ".keras" else None
    assert "TheirLayer" in str(caught.value)
    assert "\n" not in str(caught.value)


def edit_config(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Rewrite the configuration inside a .keras file."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(entries["config.json"])
    change(config)
    entries["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    "gadget",
    [
        {"module": "os", "class_name": "function", "config": "system", "registered_name": "function"},
        {
            "module": "subprocess",
            "class_name": "Popen",
            "config": {"args": ["true"]},
            "registered_name": None,
        },
        {"module": "keras.layers", "class_name": "Lambda", "config": {}, "registered_name": None},
        {"class_name": "__lambda__", "config": {"value": "x"}},
    ],
)
def test_gadgets_anywhere_in_the_configuration_are_refused(gadget: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    small_model().save(path)
    edit_config(path, lambda config: config["config"]["layers"][-1]["config"].update(kernel_initializer=gadget))
    with pytest.raises(UnreadableModel, match="refused") as caught:
        read_keras(path)
    one_line(caught, path)


def test_a_file_that_is_hdf5_and_zip_does_not_show_us_another_face_than_keras(tmp_path: Path, marker: Path) -> None:
    folder = str(marker)
    path, harmless = tmp_path / "net.h5", tmp_path / "harmless.keras"
    code = kl.Lambda(lambda images, path=folder: (__import__("os").makedirs(path, exist_ok=True), images)[1])
    small_model(code).save(path)
    small_model().save(harmless)
    if marker.exists():
        marker.rmdir()
    path.write_bytes(path.read_bytes() + harmless.read_bytes())
    assert zipfile.is_zipfile(path)
    assert h5py.is_hdf5(path)
    with pytest.raises(UnreadableModel, match="refused, the model has a Lambda layer") as caught:
        read_keras(path)
    one_line(caught, path)
    assert not marker.exists()


def test_a_layer_name_does_not_become_code(tmp_path: Path, marker: Path) -> None:
    """torch.fx writes module names into Python source without escaping them."""
    hidden = "".join(f"chr({ord(letter)})+" for letter in str(marker)).rstrip("+")
    evil = f'forward") if getattr(__import__("os"), "mkdir")({hidden}) else getattr(self, "forward'
    model = small_model(kl.ReLU(name=evil))
    classifier = from_keras(model)
    classifier(torch.rand(2, 3, 4, 4))
    assert not marker.exists()
    assert all(layer.name.isidentifier() for layer in classifier.layers())


def link_to_outside(kind: str, path: Path, outside: Path, key: str, shape: tuple[int, ...]) -> None:
    """Replace data set `key` of an HDF5 file by one whose values lie in the file `outside`."""
    with h5py.File(outside, "w") as other:
        other["x"] = np.zeros(shape, np.float32)
    with h5py.File(path, "a") as file:
        del file[key]
        if kind == "external link":
            file[key] = h5py.ExternalLink(str(outside), "x")
        elif kind == "soft link to an external link":
            file["hidden/x"] = h5py.ExternalLink(str(outside), "x")
            file[key] = h5py.SoftLink("/hidden/x")
        elif kind == "external storage":
            size = int(np.prod(shape)) * 4
            file.create_dataset(key, shape, np.float32, external=[(str(outside), 0, size)])
        else:
            layout = h5py.VirtualLayout(shape, np.float32)
            layout[:] = h5py.VirtualSource(str(outside), "x", shape)
            file.create_virtual_dataset(key, layout)


KINDS = ["external link", "soft link to an external link", "external storage", "virtual data set"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", ["data", "label"])
def test_data_that_lies_in_another_file_is_refused(kind: str, key: str, tmp_path: Path) -> None:
    path, outside = tmp_path / "data.h5", tmp_path / "secret.h5"
    with h5py.File(path, "w") as file:
        file["data"], file["label"] = np.zeros((2, 3, 4, 4), np.float32), np.zeros(2, np.float32)
    link_to_outside(kind, path, outside, key, (2, 3, 4, 4) if key == "data" else (2,))
    with pytest.raises(UnreadableData, match="points to another file") as caught:
        read_arrays(path)
    one_line(caught, path)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_lie_in_another_file_are_refused(kind: str, tmp_path: Path) -> None:
    path, outside = tmp_path / "net.h5", tmp_path / "secret.h5"
    small_model().save(path)
    found: list[str] = []
    with h5py.File(path) as file:
        file.visit(lambda name: found.append(name) if name.endswith("kernel") else None)
    link_to_outside(kind, path, outside, found[0], (48, 2))
    with pytest.raises(UnreadableModel, match="points to another file") as caught:
        read_network(path)
    one_line(caught, path)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_inside_a_keras_archive_that_lie_in_another_file_are_refused(kind: str, tmp_path: Path) -> None:
    path, weights, outside = tmp_path / "net.keras", tmp_path / "weights.h5", tmp_path / "secret.h5"
    small_model().save(path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    weights.write_bytes(entries["model.weights.h5"])
    found: list[str] = []
    with h5py.File(weights) as file:
        file.visititems(
            lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) and item.shape == (48, 2) else None
        )
    link_to_outside(kind, weights, outside, found[0], (48, 2))
    entries["model.weights.h5"] = weights.read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises(UnreadableModel, match="points to another file") as caught:
        read_keras(path)
    one_line(caught, path)


def test_a_zip_bomb_is_refused_without_unpacking_it(tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("config.json", "w") as entry,
    ):
        for _ in range(120):
            entry.write(b" " * (1 << 20))
    with pytest.raises(UnreadableModel, match="unpacks to 120 MiB") as caught:
        read_keras(path)
    one_line(caught, path)


def test_a_group_that_holds_itself_ends(tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    small_model().save(path)
    with h5py.File(path, "a") as file:
        file["loop"] = file["/"]
    with pytest.raises(UnreadableModel) as caught:
        read_network(path)
    one_line(caught, path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.98])
def test_truncated_keras_files_are_refused(suffix: str, kept: float, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    small_model().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(UnreadableModel) as caught:
        read_network(path)
    one_line(caught, path)


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.98])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_truncated_torch_files_are_refused(suffix: str, kept: float, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path, state = tmp_path / f"net{suffix}", {"weight": torch.rand(20, 20)}
    torch.save(state, path) if suffix == ".pt" else save_file(state, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(UnreadableModel) as caught:
        read_network(path, "deepid")
    one_line(caught, path)


TEXTS = [
    "",
    "hello, world\n",
    "I am no model\n",
    "\x80\x04",
    "{}",
    "data,label\n1,2\n",
    "PK\x03\x04 not a zip",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("suffix", [".h5", ".keras", ".pt", ".pth", ".safetensors"])
def test_text_with_the_ending_of_a_model_is_refused(suffix: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(UnreadableModel) as caught:
        read_network(path, "deepid")
    assert "expected" in one_line(caught, path)


def test_a_torchscript_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
        with pytest.raises(UnreadableModel) as caught:
            read_network(path, "deepid")
    one_line(caught, path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent.h5", "no such file"),
        ("folder.h5", "found a folder"),
        ("net.onnx", "unknown kind of model '.onnx'"),
    ],
)
def test_paths_that_are_no_models(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "folder.h5").mkdir()
    (tmp_path / "net.onnx").write_bytes(b"x")
    with pytest.raises(UnreadableModel, match=words) as caught:
        read_network(tmp_path / name)
    one_line(caught, tmp_path / name)


def test_keras_weights_need_an_architecture(tmp_path: Path) -> None:
    path = tmp_path / "only.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv_1"]
        file.create_group("conv_1").attrs["weight_names"] = [b"conv_1/kernel:0"]
    with pytest.raises(UnreadableModel, match="--architecture") as caught:
        read_network(path)
    one_line(caught, path)
    with pytest.raises(UnreadableModel, match="damaged") as caught:
        read_network(path, "deepid")
    one_line(caught, path)


def test_a_configuration_that_is_not_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("config.json", b"\xff\xfe{")
    path.write_bytes(buffer.getvalue())
    with pytest.raises(UnreadableModel, match="expected a Keras model") as caught:
        read_keras(path)
    one_line(caught, path)
