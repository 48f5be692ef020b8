"""Single images, and a folder with one folder of images per class -> `Dataset`.

Pictures are read as Pillow unpacks them, so are they by torchvision and by Keras, with which networks are trained. A mark
that says how to turn the picture (EXIF orientation) is not followed but counted in the notes; a TIFF's own is part of
its format and Pillow follows it. Of several frames or pages the first is read.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from goodnet.core.dataset import ArraySource, Dataset, Pixels
from goodnet.core.errors import InputError, MixedSizes, UnreadableData, WrongShape
from goodnet.core.resizing import Fitting
from goodnet.formats.class_folders import SUFFIXES, choose_split, list_class_folders, note_paths
from goodnet.formats.declared_sizes import require_held
from goodnet.formats.files import require_file
from goodnet.formats.first_bytes import PICTURES
from goodnet.formats.shown_paths import show_path

#: More pixels than any classifier takes: a picture of that size is a decompression bomb.
_MOST_PIXELS = 64_000_000
#: Scans in a JPEG, of which progressive ones have 10: each may go through the whole picture again, for a few bytes.
_MOST_SCANS = 100
#: Pillow's modes of pictures without colours.
GREY = ("1", "L", "LA", "La")


#: A picture: a file, or the bytes of one that lay in another.
Stored = Path | bytes


def read_image(path: str | Stored, channels: int = 3, fitting: Fitting | None = None) -> npt.NDArray[np.uint8]:
    """Read one picture as (C, H, W) uint8, grey for one channel, else RGB (transparency is dropped).

    It is read as it is stored: an EXIF orientation is not followed, but a TIFF's own is. `fitting` is the size that it is
    brought to, None leaves it.

    Raises:
        UnreadableData: there is no such file, or it is not a picture, or it is damaged or absurdly large.
    """
    with open_picture(path if isinstance(path, bytes) else Path(path)) as picture:
        return picture_pixels(picture, channels, fitting=fitting)


@contextmanager
def open_picture(path: Stored) -> Iterator[Image.Image]:
    """Open a picture of one of the kinds that are read; whatever goes wrong with it while it is open is one error.

    Raises:
        UnreadableData: there is no such file, or it is not a picture, or it is damaged or absurdly large.
    """
    shown = "a picture in the table" if isinstance(path, bytes) else show_path(require_file(path))
    try:
        with warnings.catch_warnings():
            # Pillow warns of sizes, which are judged here, and of what does not touch the pixels.
            warnings.simplefilter("ignore")
            with Image.open(BytesIO(path) if isinstance(path, bytes) else path, formats=tuple(PICTURES)) as picture:
                if picture.width * picture.height > _MOST_PIXELS:
                    raise UnreadableData(f"{shown}: a picture of {picture.width} x {picture.height} pixels is refused")
                unpacked = picture.width * picture.height * len(picture.getbands())
                held = len(path) if isinstance(path, bytes) else path.stat().st_size
                require_held(shown, unpacked, held, UnreadableData)
                if picture.format == "JPEG":
                    require_few_scans(path if isinstance(path, bytes) else path.read_bytes(), shown)
                yield picture
    except WrongDepth as error:
        raise UnreadableData(f"{shown}: {error}") from error
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableData(f"{shown}: a picture of more than {_MOST_PIXELS:,} pixels is refused") from error
    except Exception as error:  # a decoder may fail in any way on hostile bytes
        raise UnreadableData(
            f"{shown}: expected a picture ({', '.join(PICTURES)}), but the file is damaged or of another kind"
        ) from error


def require_few_scans(data: bytes, shown: str) -> None:
    """Refuse a JPEG file that takes minutes to unpack.

    Raises:
        UnreadableData: `data` has too many scans.
    """
    if (scans := data.count(b"\xff\xda")) > _MOST_SCANS:
        raise UnreadableData(f"{shown}: expected a JPEG of at most {_MOST_SCANS} scans, got {scans}; save it anew")


class WrongDepth(UnreadableData):
    """A picture has another number of bits per channel than 8, and they cannot be turned into 8 without loss."""


def picture_pixels(
    picture: Image.Image, channels: int, size: tuple[int, int] | None = None, fitting: Fitting | None = None
) -> npt.NDArray[np.uint8]:
    """Return a picture as (C, H, W) uint8, grey for one channel, else RGB (transparency is dropped).

    Grey of 16 bits is taken where all values are multiples of 257, as they are where 8 bits were stored in 16. Of
    colours of 16 bits Pillow gives the upper 8.

    Args:
        picture: an open picture; its pixels are unpacked here.
        channels: 1 or 3.
        size: (width, height) to scale it to.
        fitting: or the size that it is brought to, and how.

    Raises:
        WrongDepth: it does not have 8 bits per channel.
    """
    opaque = _with_eight_bits(picture)
    # By way of RGBA a palette with transparency loses it without a warning.
    opaque = opaque.convert("RGBA") if opaque.mode == "P" else opaque
    opaque = opaque.convert("L" if channels == 1 else "RGB")
    if size is not None and opaque.size != size:
        opaque = opaque.resize(size, Image.Resampling.BILINEAR)
    if fitting is not None:
        opaque = _fit(opaque, fitting)
    pixels = np.asarray(opaque, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _fit(picture: Image.Image, fitting: Fitting) -> Image.Image:
    """Bring a picture to the size that a network takes."""
    height, width = fitting.size
    scaled = fitting.resizing.scaled_size(picture.size, (width, height))
    if scaled != picture.size:
        picture = picture.resize(scaled, Image.Resampling[fitting.resizing.interpolation.upper()])
    # As torchvision rounds where the border is odd.
    left, top = round((scaled[0] - width) / 2), round((scaled[1] - height) / 2)
    return picture.crop((left, top, left + width, top + height))


def _with_eight_bits(picture: Image.Image) -> Image.Image:
    if picture.mode[0] not in "IF":
        return picture
    # Pillow scales a PGM of more than 8 bits to 0..65535 and gives it as mode I; in another file I may be of any scale.
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PPM"):
        values, rest = np.divmod(np.asarray(picture, dtype=np.int64), 257)
        if not rest.any():
            return Image.fromarray(values.astype(np.uint8))
    raise WrongDepth(
        f"expected 8 bits per channel, got mode '{picture.mode}'; convert the pictures to 8 bits in the same way as the training "
        "pictures"
    )


@dataclass(frozen=True)
class ImageFiles:
    """Pictures of one size, each read when asked for, and brought to that size by `fitting`."""

    paths: Sequence[Stored]
    shape: tuple[int, int, int, int]
    fitting: Fitting | None = None

    def read(self, indices: npt.NDArray[np.int64]) -> Pixels:
        """Return the pictures at `indices`, (len(indices), C, H, W) uint8.

        Raises:
            UnreadableData: a picture is no longer what it was when the set was opened.
            WrongShape: it has another size by now.
        """
        pictures = [read_image(self.paths[int(index)], self.shape[1], self.fitting) for index in indices]
        for index, picture in zip(indices, pictures, strict=True):
            if picture.shape != self.shape[1:]:
                raise WrongShape(
                    f"{_show(self.paths[int(index)])}: the picture was replaced by one of another size while it was in "
                    "use; run this again"
                )
        return np.stack(pictures)


@dataclass(frozen=True)
class _Seen:
    """What is known of a picture once it was unpacked: (width, height), colours, and what is to be said of it."""

    size: tuple[int, int]
    grey: bool
    turned: bool
    frames: bool
    deep: bool


def _show(path: Stored) -> str:
    return "a picture in the table" if isinstance(path, bytes) else show_path(path)


def look_at(path: Stored) -> _Seen:
    """Unpack and convert a picture once, so that a damaged one is found before hours of work hang on it.

    Raises:
        UnreadableData: it cannot be read.
    """
    with open_picture(path) as picture:
        # Unpacking forgets how the pixels were stored; looking for further frames may change size and mode.
        deep = picture.mode[0] != "I" and ";16" in str(getattr(picture, "tile", ()))
        size, grey = picture.size, picture.mode in GREY or picture.mode[0] == "I"
        picture_pixels(picture, 1 if grey else 3)
        return _Seen(size, grey, _is_turned(picture), _has_frames(picture), deep)


def _is_turned(picture: Image.Image) -> bool:
    """Whether a picture says that it is to be turned or mirrored for people, and Pillow did not do so already."""
    with suppress(Exception):  # damaged remarks leave the pixels what they are
        return picture.format != "TIFF" and picture.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
    return False


def _has_frames(picture: Image.Image) -> bool:
    with suppress(Exception):  # a damaged second frame leaves the first what it is
        return bool(getattr(picture, "is_animated", False))
    return True


def read_pictures(
    paths: Sequence[str | Path], channels: int | None = None, *, name: str = "images", fitting: Fitting | None = None
) -> Dataset:
    """Return pictures as unlabelled data, all of them with so many channels, 1 or 3; None: RGB if one of them is.

    Each is unpacked once to see that it can be; they are read again when asked for.

    Raises:
        UnreadableData: no paths, or a file that is not a picture.
        MixedSizes: the pictures are not of one size, and no `fitting` brings them to one.
    """
    if not paths:
        raise UnreadableData("expected at least one picture")
    files = [Path(path) for path in paths]
    seen = [look_at(path) for path in files]
    return Dataset(gather(files, seen, channels, fitting), None, name, notes=tuple(_remarks(files, seen)))


def gather(
    paths: Sequence[Stored], seen: Sequence[_Seen], channels: int | None, fitting: Fitting | None = None
) -> ImageFiles:
    """Return pictures that were looked at as one source.

    Raises:
        MixedSizes: they are not of one size, and no `fitting` brings them to one.
    """
    channels = channels or (1 if all(item.grey for item in seen) else 3)
    if fitting is not None:
        return ImageFiles(paths, (len(paths), channels, *fitting.size), fitting)
    (width, height), count = Counter(item.size for item in seen).most_common(1)[0]
    for path, item in zip(paths, seen, strict=True):
        if item.size != (width, height):
            raise MixedSizes(
                f"{_show(path)}: expected {width} x {height} pixels (width x height) like {count:,} of the {len(paths):,} "
                f"pictures, got {item.size[0]} x {item.size[1]}; say what the network takes: --image-shape C,H,W"
            )
    return ImageFiles(paths, (len(paths), channels, height, width))


def fit_arrays(dataset: Dataset, fitting: Fitting) -> Dataset:
    """Return images that came as arrays in another size, by way of pictures of 8 bits."""
    channels, fitted = dataset.image_shape[0], []
    for batch in dataset.batches():
        pixels = (batch.images * 255).round().byte().permute(0, 2, 3, 1).numpy()
        pictures = (Image.fromarray(item[..., 0] if channels == 1 else item) for item in pixels)
        fitted += [picture_pixels(picture, channels, fitting=fitting) for picture in pictures]
    whole = dataset.in_memory()
    return replace(whole, source=ArraySource(np.stack(fitted)))


def _remarks(paths: Sequence[Path], seen: Sequence[_Seen]) -> Iterator[str]:
    """Give a line for each kind of picture of which the user may think that it is read in another way."""
    both = list(zip(paths, seen, strict=True))
    yield from note_paths("EXIF orientation not followed, read as stored", [path for path, item in both if item.turned])
    yield from note_paths("several frames or pages, the first is read", [path for path, item in both if item.frames])
    yield from note_paths("16 bits per channel, the upper 8 are read", [path for path, item in both if item.deep])


def read_class_folders(
    folder: str | Path, channels: int | None = None, fitting: Fitting | None = None, *, strict: bool = False
) -> Dataset:
    """Read a folder of class folders: the classes are the folders in order of name (of number, where all are numbers).

    Folders called 0, 1, 2, ... (also 00012) are the class of that number, whichever are missing; `other_order` gives
    the other reading. Hidden files, those of systems, files of other kinds and pictures that cannot be read are left out
    and named in the notes. Cost: each picture is unpacked once. Of a folder of splits (train, val, test) one is read, what a
    network was not trained on first, and that is said.

    Args:
        folder: where the class folders are.
        channels: 1 reads grey, 3 RGB, None grey if all pictures are.
        fitting: brings pictures to one size.
        strict: refuses instead of leaving pictures out.

    Raises:
        UnreadableData: no class folders, no pictures in them, or more than half of the pictures cannot be read; with
            `strict`, one.
        MixedSizes: the pictures are not of one size, and no `fitting` brings them to one.
    """
    folder, said = choose_split(Path(folder))
    found = list_class_folders(folder)
    if not found.pictures:
        seen_instead = f"; {'; '.join(found.notes)}" if found.notes else ""
        raise UnreadableData(
            f"{show_path(folder)}: expected class folders with pictures ({', '.join(SUFFIXES)}), found none{seen_instead}"
        )
    readable, left_out = leave_out_unreadable(folder, found.pictures, strict=strict)
    paths, seen = list(readable), list(readable.values())
    labels = [found.numbers[path.parent.name] for path in paths]
    taken = set(labels)
    empty = [Path(name) for name, number in found.numbers.items() if number not in taken]
    notes = (
        *said,
        *found.notes,
        *left_out,
        *note_paths("class folders without a picture", empty),
        *_remarks([path.relative_to(folder) for path in paths], seen),
    )
    name = show_path(folder.absolute().name)
    return Dataset(
        gather(paths, seen, channels, fitting),
        np.array(labels, np.int64),
        name,
        class_names=found.class_names,
        notes=notes,
    )


def leave_out_unreadable(
    folder: Path, paths: Sequence[Path], *, strict: bool = False
) -> tuple[dict[Path, _Seen], list[str]]:
    """Return the pictures that can be read, and a note that names the others, if any.

    Raises:
        UnreadableData: more than half of them cannot be read; with `strict`, one.
    """
    # Alike for whoever names the same picture twice.
    readable: dict[Path, _Seen] = {}
    failures: dict[Path, InputError] = {}
    for path in paths:
        try:
            readable[path] = look_at(path)
        except InputError as error:
            failures[path] = error
    reason = f"; of the first: {next(iter(failures.values()), '')}"
    if 2 * len(failures) > len(paths) or (strict and failures):
        raise UnreadableData(
            f"{show_path(folder)}: {len(failures):,} of {len(paths):,} pictures cannot be read{reason}"
        )
    notes = note_paths("left out, cannot be read", [path.relative_to(folder) for path in failures])
    return readable, [f"{note}{reason}" for note in notes]


def other_order(dataset: Dataset) -> Dataset | None:
    """Return the same pictures with the classes that their folders have in order of name, None where those are the same.

    Folders 1, 2, 10 are the classes 1, 2, 10 for `read_class_folders`, but 0, 2, 1 (1, 10, 2 in order of name) for the
    loaders of torchvision and Keras, and so for the networks that were trained with them.
    """
    names = dataset.class_names or ()
    words = sorted(name for name in names if name)
    if dataset.labels is None or tuple(words) == names or not all(word.isdecimal() for word in words):
        return None
    order = {word: place for place, word in enumerate(words)}
    # A number without a folder has no images.
    places = np.array([order.get(name, -1) for name in names], np.int64)
    truth = None if dataset.true_labels is None else places[dataset.true_labels]
    labels = places[dataset.labels]
    return replace(dataset, labels=labels, true_labels=truth, class_names=tuple(words), canonical=False)
