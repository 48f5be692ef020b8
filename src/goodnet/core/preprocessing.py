"""`Preprocessing`: what is done to the pixels of an image, in [0, 1], before they enter a network."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import torch
from pydantic import AfterValidator
from torch import Tensor

from goodnet.core.errors import InvalidOption

#: Ranges and normalisations by name: mean and standard deviation of each channel, of pixels in [0, 1].
#: Sources: torchvision's models (ImageNet); the training sets' own figures (CIFAR-10, MNIST); Keras' mode "caffe", whose mean
#: is given for pixels in 0..255 and for channels in the order blue, green, red.
_NAMED: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "0..1": ((0.0,), (1.0,)),
    "0..255": ((0.0,), (1 / 255,)),
    "-1..1": ((0.5,), (0.5,)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "mnist": ((0.1307,), (0.3081,)),
    "caffe": ((103.939 / 255, 116.779 / 255, 123.68 / 255), (1 / 255, 1 / 255, 1 / 255)),
}
#: The ranges that most networks take.
PLAIN_RANGES = ("0..1", "0..255")
#: What a name ends with where the network takes channels in the order blue, green, red.
_BGR = "+bgr"
#: Those whose networks take them in that order anyway.
_ALWAYS_BGR = ("caffe",)
#: Names that say nothing of other numbers of channels.
_GREY_ONLY = ("mnist",)

FORMS = f"{', '.join(_NAMED)}, or MEAN,.../STD,... of pixels in 0..1; with {_BGR} for channels in the order blue, green, red"


@dataclass(frozen=True)
class Preprocessing:
    """Channels are reversed if `bgr`; then pixels become (pixel - mean) / std, channel by channel, or all alike."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False

    @classmethod
    @cache
    def read(cls, text: str) -> Preprocessing:
        """Return what `text` names: `FORMS`.

        Raises:
            InvalidOption: it names nothing.
        """
        name = text.removesuffix(_BGR)
        mean, std = _NAMED.get(name) or _read_numbers(name)
        return cls(mean, std, bgr=name != text or name in _ALWAYS_BGR)

    def fits(self, channels: int) -> bool:
        """Whether images with so many channels can be brought to it."""
        return len(self.mean) in (1, channels) and (channels == 3 or not self.bgr)

    @property
    def scale(self) -> float:
        """The factor by which pixels in [0, 1] are multiplied, on average over the channels."""
        return sum(1 / std for std in self.std) / len(self.std)

    def apply(self, images: Tensor) -> Tensor:
        """Bring images (N, C, H, W) in [0, 1] to what the network takes."""
        images = images.flip(1) if self.bgr else images
        if self._scales_alone:
            return images if self.scale == 1.0 else images * self.scale
        return (images - self._channels(self.mean, images)) / self._channels(self.std, images)

    def undo(self, images: Tensor) -> Tensor:
        """Bring images (N, C, H, W) as the network takes them back to [0, 1]."""
        if self._scales_alone:
            images = images / self.scale
        else:
            images = images * self._channels(self.std, images) + self._channels(self.mean, images)
        return images.flip(1) if self.bgr else images

    @property
    def _scales_alone(self) -> bool:
        """Whether one multiplication does it, which is more exact."""
        return len(self.std) == 1 and self.mean == (0.0,)

    @staticmethod
    def _channels(values: tuple[float, ...], images: Tensor) -> Tensor | float:
        if len(values) == 1:
            return values[0]
        return torch.tensor(values, dtype=images.dtype, device=images.device).reshape(1, -1, 1, 1)


def _read_numbers(text: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    try:
        mean, std = (tuple(map(float, part.split(","))) for part in re.sub(r"\s", "", text).split("/"))
    except ValueError:
        raise InvalidOption(f"expected an input range: {FORMS}; got '{text[:60]}'") from None
    if len(mean) != len(std) or not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise InvalidOption(
            f"expected as many means as standard deviations, all of them numbers, the latter above 0, got '{text[:60]}'"
        )
    return mean, std


def name_range(mean: Sequence[float], std: Sequence[float], *, bgr: bool = False) -> str:
    """Return the text that `Preprocessing.read` reads as these means and deviations: a name where there is one.

    Raises:
        InvalidOption: they are no normalisation.
    """
    one_for_all = len(set(mean)) == 1 and len(set(std)) == 1
    values = (tuple(mean[:1]), tuple(std[:1])) if one_for_all else (tuple(mean), tuple(std))
    for name, (known_mean, known_std) in _NAMED.items():
        known = (*known_mean, *known_std)
        alike = len(known) == len(values[0]) + len(values[1]) and name not in _ALWAYS_BGR
        if alike and all(
            math.isclose(a, b, abs_tol=1e-6) for a, b in zip(known, (*values[0], *values[1]), strict=True)
        ):
            text = name
            break
    else:
        text = "/".join(",".join(f"{value:.9g}" for value in part) for part in values)
    text = f"{text}{_BGR}" if bgr else text
    Preprocessing.read(text)
    return text


def usual_preprocessings(channels: int) -> list[str]:
    """Return the names that are worth a try for images with so many channels, the plainest first."""
    plain = [
        name for name in _NAMED if Preprocessing.read(name).fits(channels) and (channels == 1 or name not in _GREY_ONLY)
    ]
    turned = [f"{name}{_BGR}" for name in plain if channels == 3 and name not in _ALWAYS_BGR]
    return plain + turned


def _check(text: str) -> str:
    try:
        Preprocessing.read(text)
    except InvalidOption as error:
        raise ValueError(str(error)) from error
    return text


#: How pixels enter a network: a name of `Preprocessing.read`.
InputRange = Annotated[str, AfterValidator(_check)]


def _check_option(text: str) -> str:
    return text if text == "auto" else _check(text)


#: The same, or "auto": to be found out.
RangeOption = Annotated[str, AfterValidator(_check_option)]
