"""Single images, and a folder with one folder of images per class -> `Dataset`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from goodnet.core.dataset import Dataset, Pixels
from goodnet.core.errors import UnreadableData, WrongShape
from goodnet.formats.files import require_file

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm")

#: More pixels than any classifier takes: a picture of that size is a decompression bomb.
_MOST_PIXELS = 64_000_000
#: Pillow's modes of pictures without colours.
_GREY = ("1", "L", "LA")


def read_image(path: str | Path, channels: int = 3) -> npt.NDArray[np.uint8]:
    """Read one picture as (C, H, W) uint8, grey for one channel, else RGB (transparency is dropped).

    Raises:
        UnreadableData: there is no such file, or it is not a picture, or it is damaged or absurdly large.
    """
    path = require_file(path)
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                raise UnreadableData(f"{path}: a picture of {picture.width} x {picture.height} pixels is refused")
            return picture_pixels(picture, channels)
    except WrongDepth as error:
        raise UnreadableData(f"{path}: {error}") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableData(
            f"{path}: expected a picture (PNG, JPEG), but the file is damaged or of another kind"
        ) from error


class WrongDepth(UnreadableData):
    """A picture has another number of bits per channel than 8."""


def picture_pixels(picture: Image.Image, channels: int, size: tuple[int, int] | None = None) -> npt.NDArray[np.uint8]:
    """Return a picture as (C, H, W) uint8, grey for one channel, else RGB (transparency is dropped).

    Args:
        picture: an open picture; its pixels are unpacked here.
        channels: 1 or 3.
        size: (width, height) to scale it to.

    Raises:
        WrongDepth: it does not have 8 bits per channel.
    """
    if picture.mode[0] in "IF":
        raise WrongDepth(f"expected 8 bits per channel, got mode '{picture.mode}'; convert the picture")
    # By way of RGBA a palette with transparency loses it without a warning.
    opaque = picture.convert("RGBA") if picture.mode == "P" else picture
    opaque = opaque.convert("L" if channels == 1 else "RGB")
    if size is not None and opaque.size != size:
        opaque = opaque.resize(size, Image.Resampling.BILINEAR)
    pixels = np.asarray(opaque, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


@dataclass(frozen=True)
class ImageFiles:
    """Pictures of one size, each read when asked for."""

    paths: Sequence[Path]
    shape: tuple[int, int, int, int]

    def read(self, indices: npt.NDArray[np.int64]) -> Pixels:
        """Return the pictures at `indices`, (len(indices), C, H, W) uint8.

        Raises:
            WrongShape: a picture has another size than the first.
        """
        pictures = [read_image(self.paths[int(index)], self.shape[1]) for index in indices]
        for index, picture in zip(indices, pictures, strict=True):
            if picture.shape != self.shape[1:]:
                raise WrongShape(
                    f"{self.paths[int(index)]}: expected {self.shape[3]} x {self.shape[2]} pixels (width x height) like the "
                    f"first picture, got {picture.shape[2]} x {picture.shape[1]}; scale them to one size"
                )
        return np.stack(pictures)


def read_pictures(paths: Sequence[str | Path], channels: int | None = None, *, name: str = "images") -> Dataset:
    """Return pictures as unlabelled data, all of them with so many channels, 1 or 3; None: RGB if one of them is.

    Raises:
        UnreadableData: no paths, or a file that is not a picture.
    """
    if not paths:
        raise UnreadableData("expected at least one picture")
    first = read_image(paths[0], channels or _find_channels(paths))
    return Dataset(ImageFiles([Path(path) for path in paths], (len(paths), *first.shape)), None, name)


def _find_channels(paths: Sequence[str | Path]) -> int:
    """Return 1 where all pictures are grey, else 3, by what their headers say; damaged ones are found when they are read."""
    for path in paths:
        with suppress(OSError, SyntaxError, ValueError, Image.DecompressionBombError), Image.open(path) as picture:
            if picture.mode not in _GREY:
                return 3
    return 1


def read_class_folders(folder: str | Path, channels: int | None = None) -> Dataset:
    """Read a folder of class folders: the classes are the folders in order of name (of number, where all are numbers).

    Folders called 0, 1, 2, ... (also 00012) are the class of that number, whichever are missing.

    Raises:
        UnreadableData: no class folders, or no pictures in them.
    """
    folder = Path(folder)
    names = sorted(item.name for item in folder.iterdir() if item.is_dir() and not item.name.startswith("."))
    numbered = all(name.isdecimal() for name in names)
    classes = {name: int(name) if numbered else index for index, name in enumerate(names)}
    found = [
        (path, classes[name])
        for name in sorted(names, key=lambda name: classes[name])
        for path in sorted((folder / name).iterdir())
        if path.suffix.lower() in SUFFIXES
    ]
    if not found:
        raise UnreadableData(f"{folder}: expected class folders with pictures ({', '.join(SUFFIXES)}), found none")
    pictures = read_pictures([path for path, _ in found], channels)
    labels = np.array([label for _, label in found], dtype=np.int64)
    class_names = None if numbered else tuple(names)
    return Dataset(pictures.source, labels, folder.name, class_names)
