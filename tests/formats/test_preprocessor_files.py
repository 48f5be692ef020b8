"""What the files beside weights say of pixels, sizes and classes."""

import json
from pathlib import Path

import pytest

from goodnet.core.errors import UnreadableModel
from goodnet.formats.preprocessor_files import PictureRules, read_class_names, read_preprocessor, read_timm_rules

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def read(folder: Path, **content: object) -> PictureRules:
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(content))
    return read_preprocessor(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (IMAGENET, "imagenet"),
        ({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}, "-1..1"),
        ({"do_normalize": False}, "0..1"),
        ({"do_normalize": False, "do_rescale": False}, "0..255"),
        ({"do_normalize": False, "do_flip_channel_order": True}, "0..1+bgr"),
        # Pixels of 0..255 times 1/127.5 are 0..2: half of mean and deviation in pixels of 0..1.
        ({"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}, "-1..1"),
        ({"image_mean": [0.1, 0.2, 0.3], "image_std": [1.0, 2.0, 4.0]}, "0.1,0.2,0.3/1,2,4"),
    ],
)
def test_the_range_of_pixels(content: dict[str, object], expected: str, tmp_path: Path) -> None:
    assert read(tmp_path, **content).input_range == expected


@pytest.mark.parametrize(
    ("content", "size", "resizing"),
    [
        ({"size": {"height": 224, "width": 200}, "resample": 3}, (224, 200), "stretch+bicubic"),
        ({"size": 224, "resample": 2}, (224, 224), "crop:224"),
        (
            {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
            (224, 224),
            "crop:256",
        ),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 3}, (224, 224), "crop:256+bicubic"),
        ({"size": {"shortest_edge": 384}, "crop_pct": 1.0}, (384, 384), "stretch"),
        ({}, None, None),
    ],
)
def test_the_size_of_pictures(
    content: dict[str, object], size: tuple[int, int] | None, resizing: str | None, tmp_path: Path
) -> None:
    rules = read(tmp_path, **content)
    assert (rules.size, rules.resizing) == (size, resizing)


def test_no_such_file_says_nothing(tmp_path: Path) -> None:
    assert read_preprocessor(tmp_path / "absent.json") == PictureRules()


@pytest.mark.parametrize(
    "text", ["[1]", "{", '{"image_mean": ["a"], "image_std": [1]}', '{"size": {"height": -1, "width": 5}}']
)
def test_damaged_files(text: str, tmp_path: Path) -> None:
    path = tmp_path / "preprocessor_config.json"
    path.write_text(text)
    with pytest.raises(UnreadableModel, match="expected"):
        read_preprocessor(path)


def test_what_timm_says() -> None:
    config = {
        "input_size": [3, 224, 224],
        "crop_pct": 0.95,
        "interpolation": "bicubic",
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }
    assert read_timm_rules(config, Path("c")) == PictureRules("-1..1", (224, 224), "crop:235+bicubic")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"1": "dog", "0": "cat"}, ("cat", "dog")),
        ({0: "cat", 1: "dog"}, ("cat", "dog")),
        ({"0": "LABEL_0", "1": "LABEL_1"}, None),
        ({"0": "cat"}, None),
        (["cat", "dog"], None),
    ],
)
def test_class_names(labels: object, expected: tuple[str, ...] | None) -> None:
    assert read_class_names(labels, 2) == expected
