"""A numpy array of pixels, as one .npy file -> its pictures: the quickest way in for a program that has them unpacked."""

from __future__ import annotations

import math
from http import HTTPStatus
from io import BytesIO

import numpy as np

from goodnet.core.one_line import one_line
from goodnet.formats.npy_members import read_npy_header
from goodnet.serve.rejections import Rejected

#: The content type of a .npy file.
NPY = b"application/x-npy"
_EXPECTED = "expected a .npy of uint8, shape (n, H, W), (n, H, W, 1) or (n, H, W, 3)"


def split_array(body: bytes, most: int) -> list[bytes]:
    """Return the pictures of a .npy file (n, H, W), (n, H, W, 1) or (n, H, W, 3) uint8, each as a PGM or PPM.

    So the limits, the reasons for rejection and the audit log are the same as for image files. What the header says is compared
    with the bytes that are there before anything is made of them; nothing is unpickled.

    Raises:
        Rejected: 413: more than `most` images; 422: another type or shape, or truncated.
    """
    stream = BytesIO(body)
    shape = _read_shape(stream)
    if shape[0] > most:
        raise Rejected(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"expected at most {most} pictures in a request, got {one_line(str(shape[0]))}",
        )
    size, pixels = math.prod(shape[1:]), memoryview(body)[stream.tell() :]
    if size * shape[0] != len(pixels):
        raise _damaged(f"its header says {size * shape[0]} bytes, {len(pixels)} came")
    head = b"%s\n%d %d\n255\n" % (b"P6" if shape[3:] == (3,) else b"P5", shape[2], shape[1])
    return [head + pixels[start : start + size] for start in range(0, len(pixels), size)]


def _read_shape(stream: BytesIO) -> tuple[int, ...]:
    """Read the header and return the shape, of at least one picture of at least one pixel."""
    try:
        shape, by_column, kind = read_npy_header(stream)
        got = f"got {kind}, shape {shape}{', by columns' if by_column else ''}"
    except Exception as error:  # it may fail in any way on hostile bytes
        raise _damaged("its header cannot be read") from error
    if kind != np.uint8 or by_column or len(shape) not in (3, 4) or min(shape) < 1 or shape[3:] not in ((), (1,), (3,)):
        raise _damaged(got)
    if len(shape) == 3 and shape[2] in (3, 4):
        raise _damaged(f"{got}; one picture in colour is sent as pictures[None]")
    return shape


def _damaged(what: str) -> Rejected:
    return Rejected(HTTPStatus.UNPROCESSABLE_ENTITY, f"{_EXPECTED}: {one_line(what)}")
