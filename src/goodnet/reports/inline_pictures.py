"""Pictures as text inside a page, so that a report is one file: images as `data:` addresses, figures as SVG."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
from PIL import Image
from torch import Tensor

from goodnet.core.errors import UnreadableData
from goodnet.formats.arrays import to_uint8
from goodnet.formats.images import open_picture
from goodnet.formats.shown_paths import show_path
from goodnet.reports.figures import NARROW, PruningCurve, plot_pruning_curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: A picture file up to this size (bytes) goes in as it is; a larger one is scaled to `_WIDEST` pixels and compressed.
_AS_IT_IS, _WIDEST = 300_000, 1400

_SVG = "http://www.w3.org/2000/svg"
ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")


@dataclass(frozen=True)
class Chart:
    """A figure in a page: the line above it, and its SVG."""

    title: str
    svg: str


def inline_figure(figure: Figure, summary: str, key: str) -> str:
    """Return a figure as an SVG element for a page, its text as text and without a background.

    Args:
        summary: says in words what the figure shows, for readers who do not see it.
        key: makes the ids in the element differ from those of other figures in the page.
    """
    import matplotlib

    stream = io.StringIO()
    with matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": show_path(key), "font.sans-serif": ["DejaVu Sans"]}
    ):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    root = ElementTree.fromstring(stream.getvalue())
    # The style would hold for the whole page (report.css has it). Nothing refers to the ids of groups. The marks of a
    # group have one style, so the group has it for all of them.
    for style in root.findall(f"{{{_SVG}}}defs[{{{_SVG}}}style]"):
        root.remove(style)
    for group in root.iter(f"{{{_SVG}}}g"):
        group.attrib.pop("id", None)
        for mark in group.findall(f"{{{_SVG}}}use"):
            group.set("style", mark.attrib.pop("style"))
    root.attrib.update({"role": "img", "aria-label": show_path(summary)})
    return ElementTree.tostring(root, encoding="unicode")


def pruning_chart(curve: PruningCurve, key: str) -> Chart:
    """Return the chart of accuracy and attack success against the fraction of channels pruned; `key` as in `inline_figure`."""
    figure = plot_pruning_curves([replace(curve, title="")])
    figure.set_figwidth(NARROW)
    rates = ", ".join(["accuracy", *(f"ASR: {name}" if name else "ASR" for name in curve.attack_success_rates)])
    summary = f"{rates} while up to {len(curve.accuracy) - 1} of {curve.channels} channels are pruned"
    return Chart(curve.title, inline_figure(figure, summary, f"{key} {curve.title}"))


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
