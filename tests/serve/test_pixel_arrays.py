"""Arrays of pixels: the same answers as the same pictures in files, and a reason for each that is none."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from goodnet.serve.pixel_arrays import split_array
from goodnet.serve.rejections import Rejected
from tests.serve.telling_network import HEIGHT, WIDTH, picture

KIND = "application/x-npy"


def npy(array, version=None):
    """Return an array as the bytes of a .npy file."""
    stream = BytesIO()
    np.lib.format.write_array(stream, array, version=version)
    return stream.getvalue()


def header(shape):
    """Return the beginning of a .npy file that says it has this shape."""
    stream = BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def pixels(*labels):
    return np.stack([np.asarray(Image.open(BytesIO(picture(label)))) for label in labels])


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_each_row_is_a_picture_that_pillow_reads(version):
    array = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), dtype=np.uint8)
    read = [np.asarray(Image.open(BytesIO(file))) for file in split_array(npy(array, version), most=3)]
    assert np.array_equal(np.stack(read), array)


@pytest.mark.parametrize("shape", [(2, 4, 6), (2, 4, 6, 1)])
def test_grey_pictures_have_no_channels_or_one(shape):
    array = np.arange(2 * 4 * 6, dtype=np.uint8).reshape(shape)
    read = [Image.open(BytesIO(file)) for file in split_array(npy(array), most=3)]
    assert [file.mode for file in read] == ["L", "L"]
    assert np.array_equal(np.stack([np.asarray(file) for file in read]), array.reshape(2, 4, 6))


def test_the_server_answers_an_array_in_its_order(site):
    labels = [3, 199, 0, 3, 77]
    reply = site.predict(npy(pixels(*labels)), KIND)
    assert [image["class"] for image in reply.json["images"]] == labels


def test_too_many_pictures_and_another_size_get_a_reason(site):
    many, wide = (site.predict(npy(array), KIND) for array in (pixels(*range(9)), np.zeros((1, 6, 9, 3), np.uint8)))
    assert (many.status, many.json["reason"]) == (413, "expected at most 8 pictures in a request, got 9")
    assert wide.status == 422
    assert wide.json["reason"].startswith(f"expected {WIDTH} x {HEIGHT} pixels (width x height), got 9 x 6")


GOOD = npy(pixels(1, 2))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "its header cannot be read"),
        (b"\x93NUMPY", "its header cannot be read"),
        (b"\x93NUMPY\x09\x00" + GOOD[8:], "its header cannot be read"),
        (GOOD[:40], "its header cannot be read"),
        (GOOD.replace(b"'descr'", b"'other'"), "its header cannot be read"),
        (GOOD[:-1], "its header says 288 bytes, 287 came"),
        (GOOD + b"x", "its header says 288 bytes, 289 came"),
        # A shape that would take all memory is compared with what came, and nothing is made of it.
        (header((2, 10**9, 10**9, 3)) + b"x" * 288, "its header says 6000000000000000000 bytes, 288 came"),
        (npy(pixels(1).astype(np.float32)), "got float32, shape (1, 6, 8, 3)"),
        (npy(np.asfortranarray(pixels(1, 2))), "by columns"),
        (npy(pixels(1)[0, :, 0]), "got uint8, shape (6, 3)"),
        (npy(pixels(1)[0]), "one picture in colour is sent as pictures[None]"),
        (npy(np.zeros((8, 6, 4), np.uint8)), "one picture in colour is sent as pictures[None]"),
        (npy(pixels(1)[:0]), "got uint8, shape (0, 6, 8, 3)"),
        (npy(np.zeros((1, 6, 8, 4), np.uint8)), "got uint8, shape (1, 6, 8, 4)"),
        (npy(np.array([b"os.system"], dtype=object)), "got object"),
    ],
)
def test_what_is_no_such_array_is_refused(body, words):
    with pytest.raises(Rejected, match=r"expected a \.npy of uint8") as refused:
        split_array(body, most=8)
    assert refused.value.status == 422
    assert words in refused.value.reason
