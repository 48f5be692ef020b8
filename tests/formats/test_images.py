"""Single pictures and class folders."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from goodnet.core.errors import UnreadableData, WrongShape
from goodnet.formats.data import read_data
from goodnet.formats.images import read_image, read_pictures

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray, mode: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(path)
    return path


def test_a_colour_picture(tmp_path: Path) -> None:
    pixels = read_image(save(tmp_path / "a.png", RGB))
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, RGB.transpose(2, 0, 1))


def test_transparency_is_dropped(tmp_path: Path) -> None:
    alpha = RNG.integers(0, 256, (4, 6, 1), dtype=np.uint8)
    pixels = read_image(save(tmp_path / "a.png", np.concatenate([RGB, alpha], axis=2)))
    assert np.array_equal(pixels, RGB.transpose(2, 0, 1))


def test_grey_pictures_have_one_channel_or_three_equal_ones(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", RGB[..., 0])
    assert np.array_equal(read_image(path, 1), RGB[None, ..., 0])
    assert np.array_equal(read_image(path, 3), RGB[None, ..., 0].repeat(3, axis=0))
    assert read_image(save(tmp_path / "b.png", RGB), 1).shape == (1, 4, 6)


def test_pictures_are_grey_where_all_are_unless_told_otherwise(tmp_path: Path) -> None:
    grey, coloured = save(tmp_path / "a.png", RGB[..., 0]), save(tmp_path / "b.png", RGB)
    (tmp_path / "c.png").write_bytes(b"damaged")
    assert read_pictures([grey, grey, tmp_path / "c.png"]).image_shape == (1, 4, 6)
    assert read_pictures([grey, coloured]).image_shape == (3, 4, 6)
    assert read_pictures([coloured, grey]).image_shape == (3, 4, 6)
    assert read_pictures([grey], channels=3).image_shape == (3, 4, 6)
    assert np.array_equal(read_data(grey).images()[0, 0].mul(255).round().byte().numpy(), RGB[..., 0])
    assert read_data(coloured).image_shape == (3, 4, 6)


@pytest.mark.parametrize("transparency", [None, 3, b"\x00\x10\xff"])
def test_a_palette_is_looked_up(transparency: int | bytes | None, tmp_path: Path) -> None:
    indices = np.arange(6, dtype=np.uint8).reshape(2, 3)
    colours = RNG.integers(0, 256, (256, 3), dtype=np.uint8)
    picture = Image.fromarray(indices, "L")
    picture.putpalette(colours.tobytes())
    options = {} if transparency is None else {"transparency": transparency}
    picture.save(tmp_path / "p.png", **options)
    assert np.array_equal(read_image(tmp_path / "p.png"), colours[indices].transpose(2, 0, 1))


def test_sixteen_bits_are_refused_not_clipped(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.array([[0, 2560, 65535]], np.uint16))
    with pytest.raises(UnreadableData, match="expected 8 bits per channel, got mode 'I;16"):
        read_image(path)


def test_one_picture_is_a_set_without_labels(tmp_path: Path) -> None:
    data = read_data(save(tmp_path / "Face.PNG", RGB))
    assert (len(data), data.image_shape, data.labels, data.name) == (1, (3, 4, 6), None, "Face.PNG")
    np.testing.assert_allclose(data.images()[0].numpy(), RGB.transpose(2, 0, 1) / 255, atol=1e-6)
    assert read_data(tmp_path / "Face.PNG", channels=1).image_shape == (1, 4, 6)


def flat(value: int) -> np.ndarray:
    return np.full((4, 6, 3), value, np.uint8)


def test_named_class_folders_are_numbered_in_order_of_name(tmp_path: Path) -> None:
    for value, name in enumerate(["dog/b.png", "cat/z.png", "cat/a.png", "eel/x.bmp", ".cache/x.png"]):
        save(tmp_path / name, flat(value))
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    (tmp_path / "README.md").write_text("no class")
    data = read_data(tmp_path)
    assert data.class_names == ("cat", "dog", "eel")
    assert data.targets.tolist() == [0, 0, 1, 2]
    assert (data.images()[:, 0, 0, 0] * 255).round().tolist() == [2, 1, 0, 3]
    assert [len(batch.images) for batch in data.batches(3)] == [3, 1]
    assert (data.subset([3, 1]).images()[:, 0, 0, 0] * 255).round().tolist() == [3, 1]


def test_numbered_class_folders_keep_their_numbers(tmp_path: Path) -> None:
    for value, name in enumerate(["10/a.png", "9/a.png", "00002/a.png"]):
        save(tmp_path / name, flat(value))
    data = read_data(tmp_path)
    assert data.class_names is None
    assert data.targets.tolist() == [2, 9, 10]
    assert (data.images()[:, 0, 0, 0] * 255).round().tolist() == [2, 1, 0]


def test_pictures_of_two_sizes(tmp_path: Path) -> None:
    save(tmp_path / "0" / "a.png", RGB)
    odd = save(tmp_path / "1" / "b.png", RGB[:, :5])
    data = read_data(tmp_path)
    assert len(data.subset([0]).images()) == 1
    with pytest.raises(WrongShape, match=r"expected 6 x 4 pixels .*, got 5 x 4") as caught:
        data.images()
    assert str(caught.value).startswith(f"{odd}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0.0, 0.02, 0.1, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_damaged_pictures(suffix: str, kept: float, tmp_path: Path) -> None:
    path = save(tmp_path / f"a{suffix}", RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(UnreadableData, match="expected a picture") as caught:
        read_data(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_picture_that_is_far_too_large_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (9000, 9000)).save(path)
    with pytest.raises(UnreadableData, match="9000 x 9000 pixels is refused"):
        read_image(path)


def test_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(UnreadableData, match="at least one picture"):
        read_pictures([])
    (tmp_path / "empty class").mkdir()
    with pytest.raises(UnreadableData, match="found none") as caught:
        read_data(tmp_path)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(UnreadableData, match="no such file"):
        read_image(tmp_path / "absent.png")
