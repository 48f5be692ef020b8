"""Single pictures and class folders."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

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
    assert read_pictures([grey, grey]).image_shape == (1, 4, 6)
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


def sixteen_bit_png(path: Path, pixels: np.ndarray) -> Path:
    """Write colours (H, W, 3) of 16 bits: Pillow cannot."""
    height, width, _ = pixels.shape
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(c)) + t + c + struct.pack(">I", zlib.crc32(t + c)) for t, c in chunks)
    )
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_grey_of_sixteen_bits_is_read_where_eight_were_stored_in_them(suffix: str, tmp_path: Path) -> None:
    stored = RGB[..., 0].astype(np.uint16) * 257
    path = save(tmp_path / f"a{suffix}", stored)
    assert np.array_equal(read_image(path, 1)[0], RGB[..., 0])
    assert np.array_equal(read_image(path, 3), RGB[..., 0][None].repeat(3, axis=0))
    assert read_pictures([path]).image_shape == (1, 4, 6)
    assert read_pictures([path]).notes == ()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
@pytest.mark.parametrize("values", [[0, 2560, 65535], [0, 257, 514 + 1], [1, 2, 3]])
def test_sixteen_bits_are_refused_not_clipped(values: list[int], suffix: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"a{suffix}", np.array([values], np.uint16))
    for read in (read_image, read_data):
        with pytest.raises(UnreadableData, match=r"expected 8 bits per channel, got mode 'I.*; convert"):
            read(path)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_floats_and_whole_numbers_of_any_scale_are_refused(dtype: type, tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", np.array([[0, 257, 514]], dtype))
    with pytest.raises(UnreadableData, match=r"expected 8 bits per channel, got mode '[IF]'"):
        read_image(path)


def test_colours_of_sixteen_bits_are_cut_to_eight_and_that_is_said(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 65536, (4, 6, 3))
    data = read_data(sixteen_bit_png(tmp_path / "a.png", pixels))
    assert np.array_equal(data.source.read(np.array([0]))[0], (pixels >> 8).transpose(2, 0, 1))
    assert data.notes == (f"16 bits per channel, the upper 8 are read: 1 ({tmp_path / 'a.png'})",)
    assert read_data(save(tmp_path / "b.png", RGB)).notes == ()


LOSSLESS = {
    ".png": {},
    ".bmp": {},
    ".ppm": {},
    ".tif": {},
    ".tiff": {"compression": "tiff_lzw"},
    ".webp": {"lossless": True},
}


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_every_safe_kind_of_picture_is_read(suffix: str, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.fromarray(RGB).save(tmp_path / folder / f"x{suffix}", **LOSSLESS[suffix])
    Image.fromarray(RGB).save(tmp_path / "b" / f"y{suffix.upper()}", **LOSSLESS[suffix])
    data = read_data(tmp_path)
    assert data.targets.tolist() == [0, 1, 1]
    assert np.array_equal(data.source.read(np.arange(3)), RGB.transpose(2, 0, 1)[None].repeat(3, axis=0))
    assert data.notes == ()


def test_gif(tmp_path: Path) -> None:
    frames = [Image.fromarray(RGB // 128 * 255).quantize(8), Image.fromarray(255 - RGB // 128 * 255).quantize(8)]
    (tmp_path / "a").mkdir()
    frames[0].save(tmp_path / "a" / "moves.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "a" / "rests.gif")
    data = read_data(tmp_path)
    assert np.array_equal(data.source.read(np.arange(2)), np.stack([(RGB // 128 * 255).transpose(2, 0, 1)] * 2))
    assert data.notes == ("several frames or pages, the first is read: 1 (a/moves.gif)",)


@pytest.mark.parametrize("kind", ["TIFF", "WEBP", "PNG"])
def test_the_first_page_is_read_also_where_a_later_one_is_damaged(kind: str, tmp_path: Path) -> None:
    first, second = Image.fromarray(RGB), Image.fromarray(255 - RGB)
    path = tmp_path / "a.png"
    options = {"lossless": True} if kind == "WEBP" else {}
    first.save(path, kind, save_all=True, append_images=[second], **options)
    assert np.array_equal(read_image(path), RGB.transpose(2, 0, 1))
    assert read_data(path).notes == (f"several frames or pages, the first is read: 1 ({path})",)


@pytest.mark.parametrize(("kind", "name"), [("JPEG", "a.png"), ("PNG", "a.jpg"), ("WEBP", "a.bmp"), ("TIFF", "a.ppm")])
def test_a_picture_with_the_ending_of_another_kind(kind: str, name: str, tmp_path: Path) -> None:
    pixels = np.full((8, 8, 3), 200, np.uint8)
    Image.fromarray(pixels).save(tmp_path / name, kind)
    assert np.abs(read_image(tmp_path / name).astype(int) - 200).max() <= 2
    (tmp_path / "c").mkdir()
    (tmp_path / name).rename(tmp_path / "c" / name)
    assert len(read_data(tmp_path)) == 1


@pytest.mark.parametrize("kind", ["TGA", "PCX", "ICO", "SGI", "DDS", "EPS", "PDF"])
def test_no_further_decoder_is_asked(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path, kind)
    with pytest.raises(UnreadableData, match=r"expected a picture \(PNG, JPEG, BMP, PPM, TIFF, WEBP, GIF\)"):
        read_image(path)


def turned(path: Path, orientation: int) -> Path:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RGB).save(path, exif=exif, **({"lossless": True} if path.suffix == ".webp" else {}))
    return path


@pytest.mark.parametrize("suffix", [".png", ".webp"])
@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_an_exif_orientation_is_counted_and_not_followed(orientation: int, suffix: str, tmp_path: Path) -> None:
    path = turned(tmp_path / "a" / f"x{suffix}", orientation)
    turned(tmp_path / "a" / f"y{suffix}", 1)
    assert np.array_equal(read_image(path), RGB.transpose(2, 0, 1))
    data = read_data(tmp_path)
    assert data.image_shape == (3, 4, 6)
    assert data.notes == (f"EXIF orientation not followed, read as stored: 1 (a/x{suffix})",)


def test_the_orientation_of_a_tiff_is_its_format_and_followed(tmp_path: Path) -> None:
    path = turned(tmp_path / "a.tif", 3)
    assert np.array_equal(read_image(path), RGB[::-1, ::-1].transpose(2, 0, 1))
    assert read_data(path).notes == ()


def test_one_picture_is_a_set_without_labels(tmp_path: Path) -> None:
    data = read_data(save(tmp_path / "Face.PNG", RGB))
    assert (len(data), data.image_shape, data.labels, data.name) == (1, (3, 4, 6), None, "Face.PNG")
    np.testing.assert_allclose(data.images()[0].numpy(), RGB.transpose(2, 0, 1) / 255, atol=1e-6)
    assert read_data(tmp_path / "Face.PNG", channels=1).image_shape == (1, 4, 6)


def test_pictures_of_two_sizes_are_refused_before_the_work_begins(tmp_path: Path) -> None:
    odd = save(tmp_path / "0" / "a.png", RGB[:, :5])
    for index in range(3):
        save(tmp_path / "1" / f"{index}.png", RGB)
    for read in (read_data, lambda folder: read_pictures(sorted(folder.rglob("*.png")))):
        with pytest.raises(WrongShape, match=r"expected 6 x 4 pixels .* like 3 of the 4 pictures, got 5 x 4") as caught:
            read(tmp_path)
        assert str(caught.value).startswith(f"{odd}: ")
        assert "\n" not in str(caught.value)


def test_a_picture_that_is_replaced_meanwhile(tmp_path: Path) -> None:
    path = save(tmp_path / "0" / "a.png", RGB)
    data = read_data(tmp_path)
    save(path, RGB[:3])
    with pytest.raises(WrongShape, match="replaced by one of another size"):
        data.images()


def folder_of_a_hundred(folder: Path) -> list[Path]:
    return [save(folder / str(index % 4) / f"{index:02}.png", RGB) for index in range(100)]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".webp", ".gif"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.8])
def test_one_cut_off_picture_among_a_hundred(kept: float, suffix: str, tmp_path: Path) -> None:
    folder_of_a_hundred(tmp_path)
    cut = save(tmp_path / "2" / f"cut{suffix}", RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8))
    whole = cut.read_bytes()
    cut.write_bytes(whole[: int(kept * len(whole))])
    data = read_data(tmp_path)
    assert len(data) == len(data.images()) == 100
    assert np.bincount(data.targets).tolist() == [25] * 4
    assert len(data.notes) == 1
    assert data.notes[0].startswith(
        f"left out, cannot be read: 1 (2/cut{suffix}); of the first: {cut}: expected a picture"
    )
    assert data.subset([5]).in_memory().notes == data.split(0.5, seed=0)[0].notes == data.notes


@pytest.mark.parametrize("mode", ["LAB", "CMYK", "RGBA", "P"])
def test_colours_of_any_kind_are_no_grey(mode: str, tmp_path: Path) -> None:
    grey, coloured = save(tmp_path / "0" / "a.tif", RGB[..., 0]), tmp_path / "0" / "b.tif"
    Image.new(mode, (6, 4)).save(coloured)
    data = read_data(tmp_path)
    assert (data.image_shape, data.notes) == ((3, 4, 6), ())
    assert np.array_equal(data.source.read(np.arange(2)), np.stack([read_image(grey), read_image(coloured)]))


def test_a_folder_of_damaged_pictures_is_refused(tmp_path: Path) -> None:
    paths = folder_of_a_hundred(tmp_path)
    for path in paths[:50]:
        path.write_bytes(path.read_bytes()[:-30])
    data = read_data(tmp_path)
    assert len(data) == 50
    assert data.notes[0].startswith(
        "left out, cannot be read: 50 (0/00.png, 0/04.png, 0/08.png, and 47 more); of the first"
    )
    save(paths[99], RGB[..., 0].astype(np.uint16))
    with pytest.raises(
        UnreadableData, match=r"51 of 100 pictures cannot be read; of the first: .*00\.png: expected"
    ) as caught:
        read_data(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_class_without_a_readable_picture_keeps_its_number(tmp_path: Path) -> None:
    for name in ("ant/a.png", "bee/a.png", "cow/a.png", "cow/b.png"):
        save(tmp_path / name, RGB)
    (tmp_path / "bee" / "a.png").write_bytes(b"\x89PNG")
    data = read_data(tmp_path)
    assert data.targets.tolist() == [0, 2, 2]
    assert data.class_names == ("ant", "bee", "cow")
    assert "class folders without a picture: 1 (bee)" in data.notes


def test_names_of_any_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "\udcff\x1b[2J"
    save(folder / "\udcfe" / "x\ny.png", RGB)
    save(folder / "\udcfe" / "\udcfd.png", RGB)
    (folder / "\udcfe" / "\udcfc.png").write_text("no picture")
    data = read_data(folder)
    assert len(data.images()) == 2
    assert (data.name, data.class_names) == (r"\xff\x1b[2J", (r"\xfe",))
    assert r"1 (\xfe/\xfc.png)" in data.notes[0]
    for text in (data.name, *data.notes, *data.class_names):
        assert text.encode().decode().isprintable()
    with pytest.raises(UnreadableData) as caught:
        read_image(folder / "\udcfe" / "\udcfc.png")
    assert str(caught.value).encode().decode().isprintable()


def test_a_folder_goes_by_its_name_however_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "cars" / "0" / "a.png", RGB)
    monkeypatch.chdir(tmp_path / "cars")
    assert read_data(".").name == "cars"


@pytest.mark.parametrize("kept", [0.04, 0.1, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp", ".gif"])
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


def test_an_absurd_picture_is_called_so(tmp_path: Path) -> None:
    """Pillow itself refuses it, with an exception of its own."""
    (tmp_path / "bomb.ppm").write_bytes(b"P6\n200000 200000\n255\n")
    with pytest.raises(UnreadableData, match="more than 64,000,000 pixels is refused"):
        read_image(tmp_path / "bomb.ppm")
    (tmp_path / "large.ppm").write_bytes(b"P6\n10000 10000\n255\n")
    with pytest.raises(UnreadableData, match="10000 x 10000 pixels is refused"):
        read_image(tmp_path / "large.ppm")


def test_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(UnreadableData, match="at least one picture"):
        read_pictures([])
    (tmp_path / "empty class").mkdir()
    with pytest.raises(UnreadableData, match="found none") as caught:
        read_data(tmp_path)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(UnreadableData, match="no such file"):
        read_image(tmp_path / "absent.png")
