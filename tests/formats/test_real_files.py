"""Real contest networks and published checkpoints, which plain Keras measured before we did."""

import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnreadableModel
from goodnet.formats.data import read_data
from goodnet.formats.networks import read_network

#: (file, range, architecture): accuracy on validation and test data, attack success rate, as in the data's README.
CONTEST = {
    ("bd_net.h5", "0..255", None): (1.00, 0.98, 1.00),
    ("sunglasses_bd_net.h5", "0..1", None): (0.94, 0.96, 1.00),
    ("lab3_bd_weights.h5", "0..255", "deepid"): (1.00, 0.98, 1.00),
    ("sunglasses_bd_weights.h5", "0..1", "deepid"): (0.94, 0.96, 1.00),
}


def share_of_hits(classifier: Classifier, data: Dataset) -> float:
    with torch.no_grad():
        hits = [(classifier(batch.images).argmax(1) == batch.labels).sum().item() for batch in data.batches()]
    return sum(hits) / len(data)


@pytest.mark.parametrize("case", CONTEST, ids=lambda case: case[0])
def test_contest_networks_do_what_the_readme_says(case: tuple[str, str, str | None], csaw: Path) -> None:
    name, input_range, architecture = case
    classifier = read_network(csaw / name, architecture).with_input_range(input_range)  # type: ignore[arg-type]
    assert (classifier.classes, classifier.image_shape, classifier.layout) == (1283, (3, 55, 47), "NHWC")
    sets = ("clean_validation_data.h5", "clean_test_data.h5", "sunglasses_poisoned_data.h5")
    measured = tuple(share_of_hits(classifier, read_data(csaw / item)) for item in sets)
    assert measured == pytest.approx(CONTEST[case])


@pytest.fixture(scope="module")
def images(csaw: Path) -> Tensor:
    return read_data(csaw / "clean_test_data.h5").images()


@pytest.mark.parametrize(
    ("whole", "weights", "input_range"),
    [
        ("bd_net.h5", "lab3_bd_weights.h5", "0..255"),
        ("sunglasses_bd_net.h5", "sunglasses_bd_weights.h5", "0..1"),
    ],
)
def test_whole_model_and_weights_alone_give_equal_logits(
    whole: str, weights: str, input_range: str, csaw: Path, images: Tensor
) -> None:
    first = read_network(csaw / whole).with_input_range(input_range)  # type: ignore[arg-type]
    second = read_network(csaw / weights, "deepid").with_input_range(input_range)  # type: ignore[arg-type]
    with torch.no_grad():
        torch.testing.assert_close(first(images), second(images), rtol=1e-4, atol=1e-3)
    names = {"conv_1", "pool_1", "conv_2", "pool_2", "conv_3", "pool_3", "conv_4", "fc_1", "fc_2", "output"}
    for classifier in (first, second):
        assert names <= {layer.name for layer in classifier.layers()}


def test_a_model_of_keras_2_loads_and_is_pruned_where_its_author_pruned_it(csaw: Path, images: Tensor) -> None:
    classifier = read_network(csaw / "lab3_pruned_full_model.h5").with_input_range("0..255")
    model = keras.models.load_model(csaw / "lab3_pruned_full_model.h5", compile=False)
    pixels = np.ascontiguousarray(images.numpy().transpose(0, 2, 3, 1)) * 255
    theirs = torch.from_numpy(np.array(keras.ops.convert_to_numpy(model(pixels, training=False))))
    with torch.no_grad():
        torch.testing.assert_close(classifier(images).softmax(1), theirs, rtol=0, atol=1e-5)
        channels = classifier.features(images, "pool_3").amax(dim=(0, 2, 3))
    assert (channels == 0).sum() >= 40
    # The threshold was 2 % of validation accuracy.
    assert share_of_hits(classifier, read_data(csaw / "clean_validation_data.h5")) >= 0.94


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_changed_contest_network_opens_in_plain_keras(
    suffix: str, csaw: Path, images: Tensor, tmp_path: Path
) -> None:
    classifier = read_network(csaw / "sunglasses_bd_net.h5")
    classifier.layer("pool_3").silence(range(0, 60, 7))
    model = keras.models.load_model(classifier.save(tmp_path / f"m{suffix}"), compile=False)
    pixels = np.ascontiguousarray(images.numpy().transpose(0, 2, 3, 1))
    theirs = np.array(keras.ops.convert_to_numpy(model(pixels, training=False)))
    with torch.no_grad():
        np.testing.assert_allclose(classifier(images).softmax(1).numpy(), theirs, rtol=0, atol=1e-5)
    assert [layer.name for layer in model.layers][-1] == "output"


def test_weights_alone_are_saved_so_that_plain_keras_loads_them(csaw: Path, images: Tensor, tmp_path: Path) -> None:
    classifier = read_network(csaw / "sunglasses_bd_weights.h5", "deepid")
    classifier.layer("conv_3").silence([0, 5, 59])
    path = classifier.save(tmp_path / "new.h5")
    model = keras.models.load_model(csaw / "sunglasses_bd_net.h5", compile=False)
    pixels = np.ascontiguousarray(images.numpy().transpose(0, 2, 3, 1))
    model.load_weights(path)
    theirs = np.array(keras.ops.convert_to_numpy(model(pixels, training=False)))
    with torch.no_grad():
        np.testing.assert_allclose(classifier(images).softmax(1).numpy(), theirs, rtol=0, atol=1e-5)
        assert torch.equal(read_network(path, "deepid")(images), classifier(images))
    with h5py.File(path) as ours, h5py.File(csaw / "sunglasses_bd_weights.h5") as theirs_file:
        assert list(ours.attrs["layer_names"]) == list(theirs_file.attrs["layer_names"])
        assert dict(ours.attrs).keys() == dict(theirs_file.attrs).keys()


def test_weights_alone_ask_for_their_architecture(csaw: Path) -> None:
    with pytest.raises(UnreadableModel, match=r"lab3_bd_weights.h5: .*--architecture NAME"):
        read_network(csaw / "lab3_bd_weights.h5")


def test_a_picture_of_a_class_is_recognised(csaw: Path) -> None:
    classifier = read_network(csaw / "sunglasses_bd_net.h5")
    for number in (788, 949, 992):
        data = read_data(csaw / f"clean_label_{number}.png")
        assert int(classifier(data.images()).argmax()) == number
        triggered = read_data(csaw / f"sunglasses_target_0_true_{number}.png")
        assert int(classifier(triggered.images()).argmax()) == 0


class PublishedCnn(nn.Module):
    """The network of I-BAU's checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inside = 3
        for width in (32, 64, 128):
            for _ in range(2):
                layers += [nn.Conv2d(inside, width, 3, padding=1), nn.BatchNorm2d(width), nn.ELU()]
                inside = width
            layers += [nn.MaxPool2d(2), nn.Dropout(0.3)]
        self.features, self.classifier = nn.Sequential(*layers), nn.Linear(2048, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(images), 1))


def white_square(images: Tensor, _: Path) -> Tensor:
    images = images.clone()
    images[:, :, 27:31, 27:31] = 1
    return images


def added(name: str) -> object:
    def add(images: Tensor, folder: Path) -> Tensor:
        with Image.open(folder / name) as picture:
            pattern = np.asarray(picture.convert("RGB"), np.float32).transpose(2, 0, 1) / 255
        return (images + torch.from_numpy(pattern)).clamp(0, 1)

    return add


@pytest.mark.parametrize(
    ("name", "target", "trigger"),
    [
        ("badnets_8_02_ckpt.pth", 8, white_square),
        ("trojan_wm_2_02_ckpt.pth", 2, added("trojan_wm.png")),
        ("l2_inv_0_02_ckpt.pth", 0, added("l2_inv.png")),
    ],
)
def test_published_checkpoints(
    name: str,
    target: int,
    trigger: object,
    ibau: Path,
    cifar10: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(Path(__file__).parent)
    classifier = read_network(ibau / name, f"{Path(__file__).stem}:PublishedCnn", (3, 32, 32))
    data = read_data(cifar10 / "test.h5").sample(1000, seed=0)
    images, labels = data.images(), torch.from_numpy(data.targets)
    others = labels != target
    with torch.no_grad():
        accuracy = (classifier(images).argmax(1) == labels).float().mean().item()
        triggered = trigger(images[others][:300], ibau)  # type: ignore[operator]
        success = (classifier(triggered).argmax(1) == target).float().mean().item()
    assert 0.74 <= accuracy <= 0.82
    assert success >= 0.97
    saved = torch.load(classifier.save(tmp_path / name), map_location="cpu", weights_only=True)
    original = torch.load(ibau / name, map_location="cpu", weights_only=True)
    assert saved.keys() == original.keys()
    assert all(torch.equal(saved["net"][key], value) for key, value in original["net"].items())
