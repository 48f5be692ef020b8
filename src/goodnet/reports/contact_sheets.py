"""Sheets of images: samples of a data set with their labels, and the same images in several states side by side.

Pixels are enlarged by a whole number with nearest neighbour, so what is seen is what the network sees.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from goodnet.core.dataset import Dataset
from goodnet.core.errors import WrongShape
from goodnet.formats.files import replacing

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_INK, _GREY, _VERMILLION, _FRAME = "#222222", "#6B6B6B", "#B34700", "#C8C8C8"

#: Sizes in pixels: of text, of the space between cells and around the sheet, and of an image that was enlarged.
_TEXT, _TITLE, _GAP, _MARGIN, _SIDE = 13, 17, 10, 16, 140

#: A cell is at least this wide, in pixels, so that a label has room.
_NARROWEST = 76


@dataclass(frozen=True)
class Cell:
    """One enlarged image (H, W, 3) uint8 and the line under it, in `colour`."""

    pixels: npt.NDArray[np.uint8]
    label: str = ""
    colour: str = _INK


def draw_contact_sheet(
    dataset: Dataset,
    path: str | Path,
    *,
    count: int = 40,
    seed: int = 0,
    columns: int | None = None,
    title: str | None = None,
) -> Path:
    """Draw `count` images sampled at random, each with its label; a poisoned image says "true class -> target".

    Args:
        dataset: images and, if it has them, labels; class names stand in for class numbers.
        path: where the PNG goes.
        count: how many images (all, where the set has no more).
        seed: of the sample; `dataset.sample(count, seed=seed)` are the images, row by row.
        columns: images to a row, or None for a sheet that is wider than high.
        title: None for the set's name and the sample's size.

    Raises:
        ValueError: fewer than one image or column.
        UnwritableOutput: the folder cannot be written to.
    """
    if count < 1 or (columns is not None and columns < 1):
        raise ValueError(f"expected at least 1 image and 1 column, got count {count}, columns {columns}")
    sample = dataset.sample(count, seed=seed)
    images = enlarge(sample.images())
    cells = [Cell(image, *label) for image, label in zip(images, describe_labels(sample), strict=True)]
    height, width = images.shape[1:3]
    wide, high = max(width, _NARROWEST) + _GAP, height + _TEXT + _GAP
    columns = min(columns or math.ceil(math.sqrt(1.5 * len(cells) * high / wide)), len(cells))
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    if title is None:
        title = f"{dataset.name}: {len(sample):,} of {len(dataset):,} images"
    return _write(compose(rows, title=title), path)


def draw_pairs(
    columns: Mapping[str, Tensor], path: str | Path, *, labels: Sequence[str] = (), title: str | None = None
) -> Path:
    """Draw one row per image and one column per entry, e.g. clean, triggered, and their difference.

    Args:
        columns: heading -> images (N, C, H, W) float32 in [0, 1], the same N, H and W in every column.
        path: where the PNG goes.
        labels: N lines, one to the left of each row, or none.
        title: above the sheet.

    Raises:
        ValueError: no columns, or no images in them.
        WrongShape: columns, or labels, that do not fit one another.
        UnwritableOutput: the folder cannot be written to.
    """
    if not columns or not all(images.ndim == 4 and len(images) for images in columns.values()):
        raise ValueError("expected at least one column of images (N, C, H, W), N >= 1")
    shapes = {name: (len(images), *images.shape[2:]) for name, images in columns.items()}
    if len(set(shapes.values())) > 1:
        raise WrongShape(f"expected columns of the same number and size of images, got (N, H, W) {shapes}")
    rows = len(next(iter(columns.values())))
    if len(labels) not in (0, rows):
        raise WrongShape(f"expected a label for each of the {rows} rows, or none, got {len(labels)}")
    enlarged = [enlarge(images) for images in columns.values()]
    cells = [[Cell(column[row]) for column in enlarged] for row in range(rows)]
    return _write(compose(cells, headings=list(columns), labels=labels, title=title), path)


def draw_difference(
    clean: Tensor, triggered: Tensor, path: str | Path, *, labels: Sequence[str] = (), title: str | None = None
) -> Path:
    """Draw clean images, the same with a trigger, and the difference on mid grey, enlarged until it fills the range.

    Args:
        clean, triggered: images (N, C, H, W) float32 in [0, 1].
        path, labels, title: as in `draw_pairs`.

    Raises:
        WrongShape: the two do not fit each other.
        UnwritableOutput: the folder cannot be written to.
    """
    if clean.shape != triggered.shape:
        raise WrongShape(
            f"expected as many images of the same shape, got {tuple(clean.shape)}, {tuple(triggered.shape)}"
        )
    difference = triggered - clean
    largest = float(difference.abs().max())
    factor = 1.0 if largest == 0 else 1 / largest
    columns = {"clean": clean, "triggered": triggered, f"difference x {factor:.1f}": 0.5 + 0.5 * factor * difference}
    return draw_pairs(columns, path, labels=labels, title=title)


def enlarge(images: Tensor) -> npt.NDArray[np.uint8]:
    """Return images (N, C, H, W) in [0, 1] as RGB pixels (N, k * H, k * W, 3) uint8, each pixel repeated k x k times.

    k brings the longer side near 140 pixels; images with one or two channels are shown by the first, in grey.
    """
    pixels = (images.detach().cpu().float().clamp(0, 1) * 255).round().byte().numpy().transpose(0, 2, 3, 1)
    rgb = pixels[..., :3] if pixels.shape[-1] >= 3 else np.repeat(pixels[..., :1], 3, axis=-1)
    factor = max(1, round(_SIDE / max(rgb.shape[1:3])))
    return np.repeat(np.repeat(rgb, factor, axis=1), factor, axis=2)


def describe_labels(dataset: Dataset) -> list[tuple[str, str]]:
    """Return (text, colour) for each image: its class, "true class -> target" if poisoned, "no. 7" without labels."""
    if dataset.labels is None:
        return [(f"no. {position}", _GREY) for position in dataset.positions]
    names = dataset.class_names or ()
    named = [names[k] if 0 <= k < len(names) else str(k) for k in dataset.targets.tolist()]
    if dataset.true_targets is None:
        return [(name, _INK) for name in named]
    true = [names[k] if 0 <= k < len(names) else str(k) for k in dataset.true_targets.tolist()]
    return [
        (now, _INK) if was == now else (f"{was} -> {now}", _VERMILLION) for was, now in zip(true, named, strict=True)
    ]


@dataclass(frozen=True)
class _Grid:
    """Where the cells of a sheet lie, in pixels."""

    left: int
    top: int
    cell_width: int
    cell_height: int

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Return (x, y) of a cell's upper left corner."""
        return self.left + column * (self.cell_width + _GAP), self.top + row * (self.cell_height + _GAP)


def compose(
    rows: Sequence[Sequence[Cell]],
    *,
    headings: Sequence[str] = (),
    labels: Sequence[str] = (),
    title: str | None = None,
) -> Image.Image:
    """Put cells of one size on a white sheet, with a heading over each column, a label beside each row, and a title.

    The sheet is as wide as its cells or its title need; text that is wider than its cell is cut with "…".
    """
    font, large = ImageFont.load_default(size=_TEXT), ImageFont.load_default(size=_TITLE)
    grid = _arrange(rows, headings, labels, title, font)
    right, bottom = grid.corner(len(rows), max(map(len, rows)))
    title_end = _MARGIN + math.ceil(large.getlength(title or ""))
    size = (max(right - _GAP, title_end) + _MARGIN, bottom - _GAP + _MARGIN)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, _MARGIN), title or "", _INK, large)
    for column, heading in enumerate(headings):
        centre = grid.corner(0, column)[0] + grid.cell_width // 2
        pen.text((centre, grid.top - 6), shorten(heading, font, grid.cell_width), _INK, font, anchor="ms")
    for number, label in enumerate(labels):
        middle = grid.corner(number, 0)[1] + rows[0][0].pixels.shape[0] // 2
        pen.text((_MARGIN, middle), label, _INK, font, anchor="lm")
    for number, row in enumerate(rows):
        for column, cell in enumerate(row):
            _place(sheet, pen, cell, grid.corner(number, column), grid.cell_width, font)
    return sheet


def _arrange(
    rows: Sequence[Sequence[Cell]], headings: Sequence[str], labels: Sequence[str], title: str | None, font: Font
) -> _Grid:
    height, width = rows[0][0].pixels.shape[:2]
    under = [cell.label for row in rows for cell in row if cell.label]
    wanted = max((math.ceil(font.getlength(text)) for text in (*headings, *under)), default=0)
    return _Grid(
        left=_MARGIN + max((math.ceil(font.getlength(label)) + _GAP for label in labels), default=0),
        top=_MARGIN + (_TITLE + 14 if title else 0) + (_TEXT + 8 if headings else 0),
        cell_width=max(width, _NARROWEST if wanted else 0, min(wanted, max(2 * width, _NARROWEST))),
        cell_height=height + (_TEXT + 8 if under else 0),
    )


def _place(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, cell: Cell, corner: tuple[int, int], width: int, font: Font
) -> None:
    """Put one cell at `corner`: its image in the middle of `width` pixels in a thin frame, its label below."""
    x, y = corner
    high, wide = cell.pixels.shape[:2]
    start = x + (width - wide) // 2
    pen.rectangle((start - 1, y - 1, start + wide, y + high), outline=_FRAME)
    sheet.paste(Image.fromarray(np.ascontiguousarray(cell.pixels)), (start, y))
    if cell.label:
        text = shorten(cell.label, font, width)
        pen.text((x + width // 2, y + high + _TEXT + 4), text, cell.colour, font, anchor="ms")


def shorten(text: str, font: Font, width: int) -> str:
    """Return `text` if it fits `width` pixels, else as much of its beginning as fits, and "…"."""
    if font.getlength(text) <= width:
        return text
    kept = len(text) - 1
    while kept and font.getlength(text[:kept] + "…") > width:
        kept -= 1
    return text[:kept] + "…"


def _write(sheet: Image.Image, path: str | Path) -> Path:
    path = Path(path)
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)
    return path
