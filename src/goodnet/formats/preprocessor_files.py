"""What the files beside a network's weights say of its pixels, its picture size and its classes: data, never code."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goodnet.core.errors import UnreadableModel
from goodnet.core.one_line import describe_error, one_line
from goodnet.core.preprocessing import name_range
from goodnet.core.resizing import Resizing

#: No configuration of a network is larger.
_LARGEST = 4 << 20
#: Pillow's numbers for ways to compute pixels in between, as `resample` has them.
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
#: From this size on ConvNeXt's processor stretches; below it crops, and `crop_pct` says from which size.
_STRETCHED_FROM = 384


@dataclass(frozen=True)
class PictureRules:
    """What is done to pictures before a network: the range of its pixels, (H, W) and how it is reached; None: not said."""

    input_range: str | None = None
    size: tuple[int, int] | None = None
    resizing: str | None = None


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        UnreadableModel: it is missing, too large, damaged or no object.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise UnreadableModel(f"{path}: expected a configuration of at most {_LARGEST >> 20} MiB, it is larger")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableModel(
            f"{path}: expected JSON, but it cannot be read ({one_line(str(error))[:80]}); fetch the folder again"
        ) from error
    if not isinstance(content, dict):
        raise UnreadableModel(f"{path}: expected an object in JSON, got {type(content).__name__}")
    return content


def read_preprocessor(path: Path) -> PictureRules:
    """Return what a `preprocessor_config.json` of Hugging Face says; nothing where there is none.

    Raises:
        UnreadableModel: it is damaged, or its numbers are none.
    """
    if not path.is_file():
        return PictureRules()
    content = read_json(path)
    try:
        return PictureRules(_range(content), *_resizing(content))
    except (TypeError, ValueError, ZeroDivisionError, AttributeError) as error:
        raise UnreadableModel(
            f"{path}: expected finite numbers for size, mean and standard deviation ({describe_error(error)}); fetch the folder "
            "again"
        ) from error


def _range(content: Mapping[str, Any]) -> str:
    """Return the input range: pixels of 0..255 are multiplied by a factor, then normalised."""
    factor = 255 * float(content.get("rescale_factor", 1 / 255)) if content.get("do_rescale", True) else 255.0
    mean, std = ([0.0], [1.0]) if not content.get("do_normalize", True) else _normalisation(content)
    if content.get("rescale_offset") and content.get("do_rescale", True):
        mean = [value + 1 for value in mean]  # pixels are moved down by 1
    if content.get("include_top"):
        std = [value**2 for value in std]  # EfficientNet's processor divides twice
    bgr = bool(content.get("do_flip_channel_order", False))
    return name_range([value / factor for value in mean], [value / factor for value in std], bgr=bgr)


def _normalisation(content: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    mean, std = (content.get(key) for key in ("image_mean", "image_std"))
    if mean is None or std is None:
        return [0.0], [1.0]
    return _numbers(mean), _numbers(std)


def _numbers(values: Any) -> list[float]:
    numbers = [float(value) for value in (values if isinstance(values, Sequence) else [values])]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"expected finite numbers, got {values}")
    return numbers


def _resizing(content: Mapping[str, Any]) -> tuple[tuple[int, int] | None, str | None]:
    """Return (H, W) that the network takes, and how pictures are brought to it."""
    size, crop = _size(content.get("size")), _size(content.get("crop_size"))
    interpolation = _RESAMPLE.get(content.get("resample", 2), "bilinear")
    wanted = crop if content.get("do_center_crop") and crop else size
    if wanted is None:
        return None, None
    stretched = isinstance(content.get("size"), dict) and "height" in content["size"]
    if "crop_pct" in content and content["crop_pct"] and not crop:
        stretched = wanted[0] >= _STRETCHED_FROM
        size = (int(wanted[0] / float(content["crop_pct"])),) * 2
    resizing = Resizing(interpolation=interpolation)
    if (content.get("do_center_crop") or not stretched) and size and not (stretched and size == wanted):
        resizing = Resizing(True, size[0], interpolation)
    return wanted, resizing.text


def _size(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    if isinstance(value, Mapping):
        both = (value.get("height"), value.get("width"))
        if None in both:
            both = (value.get("shortest_edge"),) * 2
    else:
        both = (value, value) if isinstance(value, int) else tuple(value)
    if None in both:
        return None
    height, width = (int(str(item)) for item in both)
    if not (1 <= height <= 4096 and 1 <= width <= 4096):
        raise ValueError(f"expected a height and a width from 1 to 4096, got {height} x {width}")
    return height, width


def read_timm_rules(config: Mapping[str, Any], path: Path) -> PictureRules:
    """Return what timm's `pretrained_cfg` says.

    Raises:
        UnreadableModel: its numbers are none.
    """
    try:
        _, height, width = (int(item) for item in config.get("input_size") or (3, 224, 224))
        fraction = float(config.get("crop_pct") or 1.0)
        interpolation = str(config.get("interpolation") or "bilinear")
        crops = config.get("crop_mode", "center") == "center"
        way = f"crop:{int(height / fraction)}" if crops else "stretch"
        resizing = Resizing.read(f"{way}+{interpolation}").text
        input_range = name_range(_numbers(config.get("mean") or [0.0]), _numbers(config.get("std") or [1.0]))
        return PictureRules(input_range, (height, width), resizing)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise UnreadableModel(
            f"{path}: expected timm's finite numbers for size, mean and standard deviation ({describe_error(error)}); fetch the "
            "folder again"
        ) from error


def read_class_names(labels: Any, classes: int) -> tuple[str, ...] | None:
    """Return the names in an `id2label` (numbers or numbers as text to names), None where it does not name all classes."""
    if not isinstance(labels, Mapping):
        return None
    names = {str(number): one_line(str(name))[:200] for number, name in labels.items()}
    found = tuple(names.get(str(number), "") for number in range(classes))
    # transformers numbers what nobody named.
    return found if all(found) and found != tuple(f"LABEL_{number}" for number in range(classes)) else None
