"""Pictures as text inside a page: `data:` addresses, so that a report is one file."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from goodnet.core.errors import UnreadableData
from goodnet.formats.arrays import to_uint8
from goodnet.formats.images import open_picture

#: A picture file up to this size (bytes) goes in as it is; a larger one is scaled to `_WIDEST` pixels and compressed.
_AS_IT_IS, _WIDEST = 300_000, 1400


def inline_image(image: Tensor) -> str:
    """Return an image (C, H, W) or mask (1, H, W), float32 in [0, 1], as a `data:` address of a PNG of its own size."""
    pixels = to_uint8(image.detach().cpu().float().numpy())
    shown = pixels[:3].transpose(1, 2, 0) if len(pixels) >= 3 else pixels[0]
    return _address(_encode(Image.fromarray(np.ascontiguousarray(shown)), "PNG"), "png")


def inline_file(path: Path) -> str | None:
    """Return a picture file as a `data:` address, scaled down where it is large; None where it is no picture."""
    try:
        with open_picture(path) as picture:
            if picture.format == "PNG" and path.stat().st_size <= _AS_IT_IS:
                return _address(path.read_bytes(), "png")
            small = picture.convert("RGB")
            small.thumbnail((_WIDEST, 4 * _WIDEST), Image.Resampling.LANCZOS)
    except UnreadableData:
        return None
    return _address(_encode(small, "WEBP"), "webp")


def _encode(picture: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **({"quality": 82} if kind == "WEBP" else {"optimize": True}))
    return stream.getvalue()


def _address(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
