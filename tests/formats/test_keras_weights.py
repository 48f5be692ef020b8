"""Keras weights-only files with a network of the user's own."""

from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import torch
from keras import layers as kl
from torch import Tensor, nn

from goodnet.architectures import Architecture
from goodnet.core.errors import UnreadableModel, UnwritableOutput
from goodnet.formats.file_kinds import find_kind
from goodnet.formats.keras_deepid import build_keras
from goodnet.formats.keras_weights import read_keras_weights
from goodnet.formats.networks import read_model_file, read_network

RNG = np.random.default_rng(0)
ARRAYS = {
    "conv": {"kernel": RNG.random((3, 2, 3, 4)), "bias": RNG.random(4)},
    "pool": {},
    "norm": {
        "gamma": RNG.random(4),
        "beta": RNG.random(4),
        "moving_mean": RNG.random(4),
        "moving_variance": RNG.random(4),
    },
    "head": {"kernel": RNG.random((4, 5)), "bias": RNG.random(5)},
}


class Network(nn.Module):
    def __init__(self, classes: int, traceable: bool) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, (3, 2)), nn.BatchNorm2d(4, eps=1e-3)
        self.head, self.traceable = nn.Linear(4, classes), traceable

    def forward(self, images: Tensor) -> Tensor:
        values = self.norm(self.conv(images))
        if not self.traceable and values.sum() > 1e9:
            values = values * 2
        return self.head(values.mean(dim=(2, 3)))


def write(path: Path, arrays: dict[str, dict[str, np.ndarray]]) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in arrays]
        file.attrs["backend"] = b"tensorflow"
        for layer, values in arrays.items():
            names = [f"{layer}/{name}:0" for name in values]
            group = file.create_group(layer)
            group.attrs["weight_names"] = np.array(names, dtype="S") if names else np.zeros(0)
            for name, value in zip(names, values.values(), strict=True):
                group[name] = value.astype(np.float32)
    return path


@pytest.mark.parametrize("traceable", [True, False])
def test_kernels_and_statistics_find_their_places_and_come_back(traceable: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "w.h5", ARRAYS)
    assert find_kind(path) == "keras weights"
    architecture = Architecture("own", lambda classes: Network(classes, traceable))
    classifier = read_keras_weights(path, architecture, (3, 6, 7))
    assert classifier.classes == 5
    images = torch.from_numpy(RNG.random((2, 3, 6, 7), dtype=np.float32))
    # By hand: convolution as a sum over windows, in Keras's order of axes.
    kernel, pixels = ARRAYS["conv"]["kernel"], images.numpy().transpose(0, 2, 3, 1)
    maps = sum(
        np.einsum("nhwc,co->nhwo", pixels[:, y : y + 4, x : x + 6], kernel[y, x]) for y in range(3) for x in range(2)
    )
    norm = ARRAYS["norm"]
    scaled = (maps + ARRAYS["conv"]["bias"] - norm["moving_mean"]) / np.sqrt(norm["moving_variance"] + 1e-3)
    features = (scaled * norm["gamma"] + norm["beta"]).mean(axis=(1, 2))
    expected = features @ ARRAYS["head"]["kernel"] + ARRAYS["head"]["bias"]
    with torch.no_grad():
        np.testing.assert_allclose(classifier(images).numpy(), expected, rtol=0, atol=1e-5)
        for parameter in classifier.network.parameters():
            parameter.add_(1)
    with h5py.File(classifier.save(tmp_path / "new.h5")) as file:
        assert list(file) == sorted(ARRAYS)
        assert file.attrs["backend"] in ("tensorflow", b"tensorflow")
        for layer, values in ARRAYS.items():
            for name, value in values.items():
                moved = 0 if name.startswith("moving") else 1
                np.testing.assert_allclose(file[f"{layer}/{layer}/{name}:0"][()], value + moved, rtol=1e-6)
    assert find_kind(tmp_path / "new.h5") == "keras weights"


@pytest.mark.parametrize(
    ("layer", "name", "value", "words"),
    [
        ("conv", "kernel", np.zeros((2, 2, 3, 4)), r"conv.weight \(4, 3, 2, 2\) instead of \(4, 3, 3, 2\)"),
        ("conv", "bias", np.full(4, np.nan), "found NaN or infinity"),
        ("conv", "depthwise_kernel", np.zeros((3, 2, 3, 1)), "'conv/depthwise_kernel:0' has no counterpart"),
        ("other", "kernel", np.zeros((4, 4)), "left over, e.g. other.weight"),
    ],
)
def test_weights_that_do_not_fit(layer: str, name: str, value: np.ndarray, words: str, tmp_path: Path) -> None:
    arrays = {"other": {}, **{key: dict(values) for key, values in ARRAYS.items()}}
    arrays[layer][name] = value
    path = write(tmp_path / "w.h5", arrays)
    with pytest.raises(UnreadableModel, match=words) as caught:
        read_keras_weights(path, Architecture("own", lambda classes: Network(classes, True)), (3, 6, 7))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


def test_text_where_weights_should_be(tmp_path: Path) -> None:
    path = write(tmp_path / "w.h5", ARRAYS)
    with h5py.File(path, "a") as file:
        del file["conv/conv/bias:0"]
        file["conv/conv/bias:0"] = "words"
    with pytest.raises(UnreadableModel, match="damaged"):
        read_keras_weights(path, Architecture("own", lambda classes: Network(classes, True)), (3, 6, 7))


def test_only_hdf5_with_layers_and_without_an_architecture_is_weights(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("text")
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["data"] = np.zeros(3)
    assert find_kind(tmp_path / "text.h5") != "keras weights"
    assert find_kind(tmp_path / "data.h5") != "keras weights"


@pytest.mark.parametrize(
    ("name", "ending"), [("w.hdf5", ".hdf5"), ("W.H5", ".h5"), ("w.keras", ".h5"), ("w.ckpt", ".h5"), ("w", ".h5")]
)
def test_weights_are_known_by_their_content_and_written_under_an_ending_that_keras_knows(
    name: str, ending: str, tmp_path: Path
) -> None:
    path = write(tmp_path / name, ARRAYS)
    assert find_kind(path) == "keras weights"
    architecture = Architecture("own", lambda classes: Network(classes, True))
    classifier = read_keras_weights(path, architecture, (3, 6, 7))
    assert classifier.suffix == ending
    with h5py.File(classifier.save(tmp_path / f"new{ending}")) as file:
        np.testing.assert_allclose(file["head/head/bias:0"][()], ARRAYS["head"]["bias"], rtol=1e-6)
    with pytest.raises(UnwritableOutput, match=r"Keras reads such weights from \.h5 and \.hdf5, got '\.keras'"):
        classifier.save(tmp_path / "new.keras")


# --- Keras 3 ------------------------------------------------------------------------------------------------------


def deepid_weights(path: Path) -> tuple[Any, Path]:
    """Write a live Keras DeepID's weights as Keras 3 does."""
    model = build_keras(7, seed=4)
    for layer in model.layers:
        layer.set_weights([RNG.normal(0, 0.1, array.shape) for array in layer.get_weights()])
    model.save_weights(path)
    return model, path


@pytest.mark.parametrize("name", ["d.weights.h5", "renamed.H5"])
def test_keras_3_weights_there_and_back(name: str, tmp_path: Path) -> None:
    model, path = deepid_weights(tmp_path / "d.weights.h5")
    path = path.rename(tmp_path / name)
    assert read_model_file(path).is_network
    classifier = read_network(path, "deepid")
    assert (classifier.classes, classifier.suffix, classifier.layout) == (7, ".weights.h5", "NHWC")
    pixels = RNG.random((3, 55, 47, 3), dtype=np.float32)
    images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    with torch.no_grad():
        before = classifier(images).softmax(1).numpy()
        np.testing.assert_allclose(before, model.predict(pixels, verbose=0), rtol=0, atol=1e-5)
        for parameter in classifier.network.parameters():
            parameter.mul_(1.1)
        changed = classifier(images).softmax(1).numpy()
    assert np.abs(changed - before).max() > 0.01
    other = build_keras(7, seed=5)
    other.load_weights(classifier.save(tmp_path / "new.weights.h5"))
    np.testing.assert_allclose(other.predict(pixels, verbose=0), changed, rtol=0, atol=1e-5)
    with pytest.raises(UnwritableOutput, match=r"only from files that end in \.weights\.h5"):
        classifier.save(tmp_path / "new.h5")


def test_keras_3_weights_of_the_user_s_own_network(tmp_path: Path) -> None:
    """Batch norm has four arrays, dropout a state of its own that is no weight."""
    layers = [
        kl.Conv2D(4, (3, 2), name="conv"),
        kl.BatchNormalization(name="norm"),
        kl.GlobalAveragePooling2D(),
        kl.Dropout(0.5),
        kl.Dense(5, name="head"),
    ]
    model = keras.Sequential([keras.Input((6, 7, 3)), *layers])
    for name in ("conv", "norm", "head"):
        model.get_layer(name).set_weights([value.astype(np.float32) for value in ARRAYS[name].values()])
    model.save_weights(tmp_path / "w.weights.h5")
    architecture = Architecture("own", lambda classes: Network(classes, True))
    classifier = read_keras_weights(tmp_path / "w.weights.h5", architecture, (3, 6, 7))
    pixels = RNG.random((3, 6, 7, 3), dtype=np.float32)
    with torch.no_grad():
        logits = classifier(torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))).numpy()
    np.testing.assert_allclose(logits, model.predict(pixels, verbose=0), rtol=0, atol=1e-5)
    model.load_weights(classifier.save(tmp_path / "new.weights.h5"))
    for name in ("conv", "norm", "head"):
        for value, back in zip(ARRAYS[name].values(), model.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(back, value.astype(np.float32))


def test_keras_3_weights_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    _, path = deepid_weights(tmp_path / "d.weights.h5")
    with pytest.raises(UnreadableModel, match="holds weights alone; say which network they belong to"):
        read_network(path)
    with pytest.raises(UnreadableModel, match="do not fit the architecture 'small_cnn'"):
        read_network(path, "small_cnn", (3, 55, 47))
    with h5py.File(path, "a") as file:
        del file["layers/conv2d/vars"].attrs["name"]
    with pytest.raises(UnreadableModel, match=r"have no names, .* save the whole model"):
        read_network(path, "deepid")
    with h5py.File(path, "a") as file:
        del file["layers"]
        file["layers"] = h5py.ExternalLink("other.h5", "/layers")
    assert find_kind(path) != "keras weights"
