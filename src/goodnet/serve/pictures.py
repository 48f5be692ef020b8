"""The bytes of a picture -> its pixels, or the reason why not; what is sent is hostile until shown otherwise."""

from __future__ import annotations

import struct
from contextlib import suppress
from http import HTTPStatus
from io import BytesIO

import numpy as np
from kornia_rs.io import decode_image_png_u8
from PIL import Image, UnidentifiedImageError

from goodnet.core.errors import UnreadableData
from goodnet.formats.first_bytes import PICTURES
from goodnet.formats.images import picture_pixels, require_few_scans
from goodnet.serve.network import Pixels
from goodnet.serve.rejections import Rejected

#: What is read, by how it begins: fewer kinds than from files, since these come from everybody.
_BEGINNINGS = {kind: PICTURES[kind] for kind in ("PNG", "JPEG", "BMP", "PPM")}
KINDS = ", ".join(_BEGINNINGS)
#: How a PNG begins, up to its size.
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


def read_picture(data: bytes, shape: tuple[int, int, int], *, max_pixels: int, resize: bool) -> Pixels:
    """Return the pixels of a picture file, `shape` (C, H, W) uint8.

    Its size is read and judged before any pixel is unpacked.

    Args:
        data: the file's bytes.
        shape: that of the network's images.
        max_pixels: the largest picture, as width x height.
        resize: whether a picture of another size is scaled to the network's.

    Raises:
        Rejected: 413 it is too large, 415 it is no picture of a kind that is read, 422 it is damaged, of another
            size than the network's, or a JPEG of too many scans.
    """
    if (pixels := _read_plain(data, shape)) is not None and shape[1] * shape[2] <= max_pixels:
        return pixels
    kind = next((kind for kind, beginnings in _BEGINNINGS.items() if data.startswith(beginnings)), None)
    if kind is None:
        what = "nothing" if not data else "something else"
        raise Rejected(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"expected a picture ({KINDS}), got {what}")
    try:
        if kind == "JPEG":
            require_few_scans(data, "the picture")
        with Image.open(BytesIO(data), formats=(kind,)) as picture:
            _check_size(picture, shape, max_pixels, resize)
            return picture_pixels(picture, shape[0], (shape[2], shape[1]))
    except Rejected:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large("more pixels than any camera takes", max_pixels) from error
    except UnreadableData as error:
        raise Rejected(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error
    except Exception as error:  # a decoder may fail in any way on hostile bytes
        what = (
            "cut off or damaged before its size" if isinstance(error, UnidentifiedImageError) else "cut off or damaged"
        )
        raise Rejected(HTTPStatus.UNPROCESSABLE_ENTITY, f"the {kind} is {what}; send the whole file") from error


def _read_plain(data: bytes, shape: tuple[int, int, int]) -> Pixels | None:
    """Return the pixels of a PPM, PGM or PNG in the network's size and colours with 8 bits, a view; None: all others.

    Arrays become PPM or PGM, and nothing needs to be decoded there. For a PNG Pillow took three times as long; it reads
    all other pictures, and says what is wrong with a damaged one.
    """
    channels, height, width = shape
    if channels not in (1, 3):
        return None
    letter, colours, mode = (b"P6", 2, "rgb") if channels == 3 else (b"P5", 0, "mono")
    head = b"%s\n%d %d\n255\n" % (letter, width, height)
    if len(data) == len(head) + channels * height * width and data.startswith(head):
        return np.frombuffer(data, np.uint8, offset=len(head)).reshape(height, width, channels).transpose(2, 0, 1)
    if data.startswith(_PNG + struct.pack(">IIBBBBB", width, height, 8, colours, 0, 0, 0)):
        with suppress(Exception):  # the decoder has no exception of its own
            pixels: Pixels = decode_image_png_u8(data, (height, width), mode)
            return pixels.transpose(2, 0, 1)
    return None


def _check_size(picture: Image.Image, shape: tuple[int, int, int], max_pixels: int, resize: bool) -> None:
    width, height = picture.size
    if width * height > max_pixels:
        raise _too_large(f"{width} x {height} pixels", max_pixels)
    if (height, width) != shape[1:] and not resize:
        raise Rejected(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"expected {shape[2]} x {shape[1]} pixels (width x height), got {width} x {height}; scale the picture, or start "
            "the server with --resize",
        )


def _too_large(what: str, max_pixels: int) -> Rejected:
    return Rejected(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected a picture of at most {max_pixels} pixels, got {what}"
    )
