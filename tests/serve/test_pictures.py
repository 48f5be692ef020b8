"""Pictures that are plain pixels: the same as what the decoder makes of them."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from goodnet.serve import pictures
from goodnet.serve.pictures import read_picture
from goodnet.serve.rejections import Rejected


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
