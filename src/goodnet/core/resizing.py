"""`Resizing`: how a picture of any size becomes one of the size that a network takes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated

from pydantic import AfterValidator, Field

from goodnet.core.errors import InvalidOption

#: The ways to compute pixels in between, by the names that Pillow, torchvision and timm share.
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
_LARGEST = 4096

FORMS = (
    "stretch; crop (resize the shorter side to fit, then crop the centre); crop:SIZE (resize the shorter side to SIZE "
    f"pixels, then crop). An interpolation may follow: +{', +'.join(INTERPOLATIONS)}"
)
#: What is done where nobody says anything: as Keras' loaders and torchvision's `Resize((H, W))` do.
USUAL = "stretch"


@dataclass(frozen=True)
class Resizing:
    """Stretch the whole picture (`crop` False), or scale its shorter side to `shorter` pixels and take the middle.

    `shorter` None is the size that the network takes. `interpolation` is one of `INTERPOLATIONS`.
    """

    crop: bool = False
    shorter: int | None = None
    interpolation: str = "bilinear"

    @classmethod
    @cache
    def read(cls, text: str) -> Resizing:
        """Return what `text` says: `FORMS`.

        Raises:
            InvalidOption: it says nothing.
        """
        way, _, interpolation = text.partition("+")
        name, colon, number = way.partition(":")
        shorter = int(number) if number.isdecimal() and len(number) < 6 else None
        fits = name in ("stretch", "crop") and (not colon or (name == "crop" and shorter is not None))
        if not fits or (shorter is not None and not 1 <= shorter <= _LARGEST):
            raise InvalidOption(f"expected a way to resize pictures: {FORMS}; got '{text[:60]}'")
        if ("+" in text) and interpolation not in INTERPOLATIONS:
            raise InvalidOption(f"expected one of {', '.join(INTERPOLATIONS)} behind the +, got '{interpolation[:40]}'")
        return cls(name == "crop", shorter, interpolation or "bilinear")

    @property
    def text(self) -> str:
        """What `read` reads."""
        way = "stretch" if not self.crop else "crop" if self.shorter is None else f"crop:{self.shorter}"
        return way if self.interpolation == "bilinear" else f"{way}+{self.interpolation}"

    def scaled_size(self, size: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
        """Return (width, height) to which a picture of `size` is scaled before the middle of `wanted` is taken."""
        if not self.crop:
            return wanted
        # Never smaller than the crop.
        shorter = max(self.shorter or 0, *wanted)
        longer = int(shorter * max(size) / min(size))
        other = max(longer, *wanted)
        return (shorter, other) if size[0] <= size[1] else (other, shorter)


@dataclass(frozen=True)
class Fitting:
    """The size (H, W) to which pictures are brought, and how."""

    size: tuple[int, int]
    resizing: Resizing

    def __str__(self) -> str:
        return f"{self.size[0]} x {self.size[1]} (H x W), {self.resizing.text}"


def _check(text: str) -> str:
    try:
        Resizing.read(text)
    except InvalidOption as error:
        raise ValueError(str(error)) from error
    return text


#: How pictures become as large as a network takes them: a text of `Resizing.read`.
ResizeOption = Annotated[str, AfterValidator(_check)]
#: The same in the card of a GoodNet, which says nothing where nobody says anything, as older ones do.
CardResizing = Annotated[ResizeOption | None, Field(exclude_if=lambda text: text is None)]
