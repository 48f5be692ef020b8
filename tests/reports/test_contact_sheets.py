"""Contact sheets show the very pixels that were sampled, and say what they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from goodnet.core.dataset import Dataset
from goodnet.core.errors import WrongShape
from goodnet.reports.contact_sheets import describe_labels, draw_contact_sheet, draw_pairs, enlarge, shorten


def make_images(count: int, channels: int = 3, height: int = 8, width: int = 6) -> np.ndarray:
    """Images of which no two have the same first pixels."""
    return np.random.default_rng(3).integers(0, 250, (count, channels, height, width)).astype(np.uint8)


def read(path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def find(sheet: np.ndarray, tile: np.ndarray) -> list[tuple[int, int]]:
    """Every (row, column) at which `tile` lies in `sheet`."""
    high, wide = tile.shape[:2]
    starts = np.argwhere((sheet[: -high + 1, : -wide + 1] == tile[0, 0]).all(-1))
    return [(y, x) for y, x in starts.tolist() if (sheet[y : y + high, x : x + wide] == tile).all()]


def by_hand(image: np.ndarray, factor: int) -> np.ndarray:
    rgb = image.transpose(1, 2, 0) if len(image) == 3 else image[[0, 0, 0]].transpose(1, 2, 0)
    return np.kron(rgb, np.ones((factor, factor, 1), dtype=np.uint8))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_sheet_holds_the_sampled_images_in_reading_order(tmp_path, channels):
    images = make_images(12, channels)
    data = Dataset.from_arrays(images, np.arange(12))
    sheet = read(draw_contact_sheet(data, tmp_path / "sheet.png", count=7, seed=5, columns=3))
    factor = round(140 / 8)
    sampled = data.sample(7, seed=5).positions
    places = [find(sheet, by_hand(images[position], factor)) for position in sampled]
    assert [len(found) for found in places] == [1] * 7
    assert places == sorted(places)
    assert len({found[0][0] for found in places}) == 3
    left_out = set(range(12)) - set(sampled.tolist())
    assert not any(find(sheet, by_hand(images[position], factor)) for position in left_out)


def test_another_seed_samples_other_images(tmp_path):
    data = Dataset.from_arrays(make_images(30), np.arange(30))
    one, two, again = (
        read(draw_contact_sheet(data, tmp_path / f"{number}.png", count=4, seed=seed))
        for number, seed in enumerate((0, 1, 0))
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, two)


def test_labels_say_class_target_or_number():
    images = make_images(3)
    assert [text for text, _ in describe_labels(Dataset.from_arrays(images, [4, 0, 2]))] == ["4", "0", "2"]
    poisoned = Dataset.from_arrays(images, [0, 0, 0], true_labels=[7, 0, 2])
    assert [text for text, _ in describe_labels(poisoned)] == ["7 -> 0", "0", "2 -> 0"]
    named = Dataset(poisoned.source, poisoned.labels, "p", ("cat", "dog", "frog"), poisoned.true_labels)
    assert [text for text, _ in describe_labels(named)] == ["7 -> cat", "cat", "frog -> cat"]
    unlabelled = Dataset.from_arrays(images).subset([2, 1])
    assert [text for text, _ in describe_labels(unlabelled)] == ["no. 2", "no. 1"]


def test_poisoned_labels_stand_out(tmp_path):
    images = np.zeros((1, 3, 8, 8), dtype=np.uint8)
    clean = read(draw_contact_sheet(Dataset.from_arrays(images, [0]), tmp_path / "a.png"))
    marked = read(draw_contact_sheet(Dataset.from_arrays(images, [0], true_labels=[1]), tmp_path / "b.png"))
    colourful = [(sheet.max(-1).astype(int) - sheet.min(-1) > 80).any() for sheet in (clean, marked)]
    assert colourful == [False, True]


@pytest.mark.parametrize(("size", "factor"), [((28, 28), 5), ((55, 47), 3), ((224, 224), 1), ((1, 1), 140)])
def test_small_images_are_enlarged_by_a_whole_number(size, factor):
    assert enlarge(torch.rand(2, 3, *size)).shape == (2, factor * size[0], factor * size[1], 3)


def test_long_labels_are_cut_to_their_cell():
    font = ImageFont.load_default(size=13)
    text = shorten("a very long class name indeed", font, 90)
    assert text.endswith("…")
    assert font.getlength(text) <= 90
    assert shorten("cat", font, 90) == "cat"


@pytest.mark.parametrize("options", [{"count": 0}, {"columns": 0}])
def test_no_images_or_columns_is_an_error(tmp_path, options):
    with pytest.raises(ValueError, match="at least 1"):
        draw_contact_sheet(Dataset.from_arrays(make_images(2), [0, 1]), tmp_path / "x.png", **options)
    assert not list(tmp_path.iterdir())


def test_pairs_lie_side_by_side(tmp_path):
    clean, triggered = (torch.from_numpy(make_images(6)).float() / 255).split(3)
    columns = {"clean": clean, "triggered": triggered}
    sheet = read(draw_pairs(columns, tmp_path / "pairs.png", labels=["a", "b", "c"], title="an attack"))
    places = [[find(sheet, tile) for tile in enlarge(images)] for images in (clean, triggered)]
    assert all(len(found) == 1 for column in places for found in column)
    (clean_at, triggered_at) = [[found[0] for found in column] for column in places]
    assert [y for y, _ in clean_at] == [y for y, _ in triggered_at] == sorted(y for y, _ in clean_at)
    assert len({x for _, x in clean_at}) == 1
    assert max(x for _, x in clean_at) < min(x for _, x in triggered_at)


def test_pairs_that_do_not_fit_are_errors(tmp_path):
    images = torch.zeros(2, 3, 4, 4)
    with pytest.raises(WrongShape, match="same number and size"):
        draw_pairs({"a": images, "b": images[:1]}, tmp_path / "x.png")
    with pytest.raises(WrongShape, match="2 rows"):
        draw_pairs({"a": images}, tmp_path / "x.png", labels=["one"])
    with pytest.raises(ValueError, match="at least one column"):
        draw_pairs({}, tmp_path / "x.png")
    with pytest.raises(ValueError, match="at least one column"):
        draw_pairs({"a": images[:0]}, tmp_path / "x.png")
