"""Data that is brought to what a network takes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import fx, nn

from goodnet.api.fitting import fit_labels, fit_pictures
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import MixedSizes, UnreadableData
from goodnet.core.reading import Reading
from goodnet.formats.data import read_data


def network(names: tuple[str, ...] | None = None, resizing: str | None = None) -> Classifier:
    graph = fx.Graph()
    graph.output(graph.call_module("fc", (graph.call_method("flatten", (graph.placeholder("images"), 1)),)))
    modules = nn.Module()
    modules.add_module("fc", nn.Linear(3 * 8 * 8, 3))
    return Classifier(fx.GraphModule(modules, graph), image_shape=(3, 8, 8), class_names=names, resizing=resizing)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of several sizes: red on the left half, blue on the right."""
    for name, size in (("cat", (16, 8)), ("dog", (32, 16)), ("owl", (8, 8))):
        picture = Image.new("RGB", size, (255, 0, 0))
        picture.paste((0, 0, 255), (size[0] // 2, 0, *size))
        (tmp_path / name).mkdir()
        picture.save(tmp_path / name / "1.png")
    return tmp_path


@pytest.mark.parametrize(("resize", "left"), [("stretch+nearest", 4), ("crop+nearest", 4)])
def test_pictures_of_any_size(resize: str, left: int, folder: Path) -> None:
    with pytest.raises(MixedSizes, match="--image-shape"):
        read_data(folder)
    data = fit_pictures(network(), None, folder, Reading(resize=resize))
    images = data.images().numpy()
    assert images.shape == (3, 3, 8, 8)
    np.testing.assert_array_equal(images[:, 0, :, :left], 1)
    np.testing.assert_array_equal(images[:, 2, :, left:], 1)
    assert f"8 x 8 (H x W), {resize}" in data.notes[-1]


def test_the_networks_own_way_comes_first(folder: Path) -> None:
    assert "crop:16+nearest" in fit_pictures(network(resizing="crop:16+nearest"), None, folder).notes[-1]
    assert "nobody says" in fit_pictures(network(), None, folder).notes[-1]


def data_of(labels: list[int], names: tuple[str, ...] | None = None) -> Dataset:
    return replace(Dataset.from_arrays(np.zeros((len(labels), 3, 8, 8), np.uint8), labels), class_names=names)


def test_labels_from_one() -> None:
    data = fit_labels(network(), data_of([1, 3, 2]))
    assert data.targets.tolist() == [0, 2, 1]
    assert "1 to 3" in data.notes[0]
    assert fit_labels(network(), data_of([1, 2])).targets.tolist() == [1, 2]


@pytest.mark.parametrize("names", [("Cat", "ship_of_war", "dog"), ("cat", "ship of war", "DOG")])
def test_class_names_lead(names: tuple[str, ...]) -> None:
    own = network(names=("dog", "cat", "Ship of War"))
    data = fit_labels(own, data_of([0, 1, 2, 2], names))
    assert data.targets.tolist() == [1, 2, 0, 0]
    assert data.class_names == ("dog", "cat", "Ship of War")


def test_other_names_are_said_or_refused() -> None:
    own = network(names=("dog", "cat", "ship"))
    data = fit_labels(own, data_of([0, 1], ("a", "b")))
    assert data.targets.tolist() == [0, 1]
    assert "numbered in order of name" in data.notes[0]
    with pytest.raises(UnreadableData, match="class 'b' is not a class of the network, but 'cat' is"):
        fit_labels(own, data_of([0, 1], ("cat", "b")))
