"""Pictures that Pillow does not read: the same as what it makes of them. JPEGs that would take minutes."""

import random
import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from goodnet.serve import pictures
from goodnet.serve.pictures import read_picture
from goodnet.serve.rejections import Rejected

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def plain(array, mode):
    stream = BytesIO()
    Image.fromarray(array, mode).save(stream, "PPM")
    return stream.getvalue()


@pytest.fixture
def colours():
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def read(data, shape=(3, 5, 7), most=100):
    return read_picture(data, shape, max_pixels=most, resize=False)


def test_plain_pixels_are_read_as_they_are_and_no_decoder_is_asked(colours, monkeypatch):
    decoded = read(plain(colours, "RGB").replace(b"P6\n", b"P6\n# by hand\n"))
    monkeypatch.setattr(pictures.Image, "open", None)
    assert np.array_equal(read(plain(colours, "RGB")), decoded)
    assert np.array_equal(decoded, colours.transpose(2, 0, 1))
    assert np.array_equal(read(plain(colours[..., 0], "L"), (1, 5, 7))[0], colours[..., 0])


@pytest.mark.parametrize(
    ("change", "shape", "most", "status"),
    [
        (lambda data: data, (3, 5, 7), 34, 413),
        (lambda data: data, (3, 7, 5), 100, 422),
        (lambda data: data[:-1], (3, 5, 7), 100, 422),
        (lambda data: data.replace(b"P6", b"P7"), (3, 5, 7), 100, 415),
    ],
)
def test_limits_hold_for_plain_pixels(change, shape, most, status, colours):
    with pytest.raises(Rejected) as caught:
        read(change(plain(colours, "RGB")), shape, most)
    assert caught.value.status == status


def test_a_grey_network_gets_coloured_pixels_as_the_decoder_makes_them(colours):
    grey = np.asarray(Image.fromarray(colours).convert("L"))
    assert np.array_equal(read(plain(colours, "RGB"), (1, 5, 7))[0], grey)
    assert np.array_equal(read(plain(colours[..., 0], "L")), np.stack([colours[..., 0]] * 3))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + b"x",
        lambda data: data.replace(b"\n7 5\n", b"\n07 5\n"),
        lambda data: data.replace(b"255\n", b"254\n"),
    ],
)
def test_what_is_not_quite_plain_goes_to_the_decoder(change, colours, monkeypatch):
    def asked(*_, **__):
        raise Rejected(418, "the decoder was asked")

    monkeypatch.setattr(pictures.Image, "open", asked)
    with pytest.raises(Rejected, match="the decoder was asked"):
        read(change(plain(colours, "RGB")))


def png(array, **options):
    stream = BytesIO()
    Image.fromarray(array).save(stream, "PNG", **options)
    return stream.getvalue()


def test_a_png_is_read_without_pillow_where_it_fits(colours, monkeypatch):
    monkeypatch.setattr(pictures.Image, "open", None)
    assert np.array_equal(read(png(colours)), colours.transpose(2, 0, 1))
    assert np.array_equal(read(png(colours[..., 0]), (1, 5, 7)), colours[None, ..., 0])
    assert np.array_equal(read(png(colours, transparency=(1, 2, 3))), colours.transpose(2, 0, 1))


def test_any_other_png_goes_to_pillow(colours):
    grey = np.asarray(Image.fromarray(colours).convert("L"))
    assert np.array_equal(read(png(colours), (1, 5, 7))[0], grey)
    assert np.array_equal(read(png(grey)), np.stack([grey] * 3))
    assert np.array_equal(read(png(np.dstack([colours, grey]))), colours.transpose(2, 0, 1))
    with pytest.raises(Rejected, match="expected 5 x 7 pixels"):
        read(png(colours), (3, 7, 5))
    with pytest.raises(Rejected, match="cut off or damaged"):
        read(png(colours)[:-40])


def test_a_damaged_png_never_gives_other_pixels_than_pillow(colours):
    """Bytes are changed in chunks with right checksums, so that both decoders believe them."""
    rng, same = random.Random(5), 0
    chunks = list(split(png(colours, transparency=(1, 2, 3))))
    for _ in range(2_000):
        place = rng.randrange(1, len(chunks))
        changed = bytearray(chunks[place][1] or b"x")
        changed[rng.randrange(len(changed))] = rng.randrange(256)
        kind = rng.choice((chunks[place][0], b"iCCP", b"acTL", b"IDAT", b"gAMA"))
        data = b"".join(map(packed, [*chunks[:place], (kind, bytes(changed)), *chunks[place + rng.randrange(2) :]]))
        mine = answer_or_none(lambda data=data: read(SIGNATURE + data))
        pillows = answer_or_none(lambda data=data: by_pillow(SIGNATURE + data))
        if mine is not None and pillows is not None:
            assert np.array_equal(mine, pillows)
            same += 1
    assert 100 < same < 1_900


def split(data):
    place = 8
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        yield data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        place += 12 + length


def packed(chunk):
    kind, data = chunk
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def by_pillow(data):
    with Image.open(BytesIO(data), formats=("PNG",)) as picture:
        return np.asarray(picture.convert("RGB")).transpose(2, 0, 1)


def answer_or_none(read):
    try:
        return read()
    except Exception:
        return None


def test_a_jpeg_of_a_hundred_scans_is_read_and_one_of_more_is_refused():
    stream = BytesIO()
    Image.new("L", (7, 5), 128).save(stream, "JPEG", progressive=True)
    data = stream.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    most = data[:-2] + last * (100 - data.count(b"\xff\xda")) + data[-2:]
    assert (read(most, (1, 5, 7)) == 128).all()
    with pytest.raises(Rejected, match="expected a JPEG of at most 100 scans, got 101") as caught:
        read(most[:-2] + last + data[-2:], (1, 5, 7))
    assert caught.value.status == 422
