"""Keras weights-only files with a network of the user's own."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from goodnet.architectures import Architecture
from goodnet.core.errors import UnreadableModel
from goodnet.formats.keras_weights import is_keras_weights, read_keras_weights

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
    assert is_keras_weights(path)
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
    assert is_keras_weights(tmp_path / "new.h5")


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
    assert not is_keras_weights(tmp_path / "text.h5")
    assert not is_keras_weights(tmp_path / "data.h5")
