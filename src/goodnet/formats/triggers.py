"""Triggers -> files: arrays in `.npz`, and a picture to look at; patches come back from their arrays."""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from goodnet.core.backdoor import Backdoor, Patch, Trigger
from goodnet.core.errors import UnreadableData
from goodnet.formats.files import replacing, require_file

#: Name of the file of suspected backdoors in the folder of a scan.
SUSPECTED = "suspected.npz"


def write_trigger(trigger: Trigger | None, stem: Path) -> tuple[Path, ...]:
    """Write a trigger's tensors to `stem`.npz and its picture to `stem`.png; return what was written.

    A patch's picture has the mask as its opacity; a pattern that is added is shown on mid grey. A trigger without
    tensors (lipstick follows the face) leaves no file.
    """
    arrays = {} if trigger is None else trigger_arrays(trigger)
    if not arrays:
        return ()
    with replacing(stem.with_name(stem.name + ".npz")) as temporary:
        np.savez(temporary, **arrays)  # type: ignore[arg-type]
    written = (stem.with_name(stem.name + ".npz"),)
    picture = _picture(arrays)
    if picture is None:
        return written
    path = stem.with_name(stem.name + ".png")
    with replacing(path) as temporary:
        Image.fromarray(picture).save(temporary)
    return (*written, path)


def trigger_arrays(trigger: Trigger) -> dict[str, npt.NDArray[np.float32]]:
    """Return the tensors that a trigger is made of, by their names."""
    if not dataclasses.is_dataclass(trigger):
        return {}
    values = {field.name: getattr(trigger, field.name) for field in dataclasses.fields(trigger)}
    return {name: value.detach().cpu().numpy() for name, value in values.items() if isinstance(value, Tensor)}


def _picture(arrays: dict[str, npt.NDArray[np.float32]]) -> npt.NDArray[np.uint8] | None:
    pattern = arrays.get("pattern")
    if pattern is None or pattern.ndim != 3 or pattern.shape[0] not in (1, 3):
        return None
    colours = np.repeat(pattern, 3, axis=0) if pattern.shape[0] == 1 else pattern
    mask = arrays.get("mask")
    layers = [colours, mask] if mask is not None else [0.5 + 0.5 * colours]
    pixels = np.clip(np.concatenate(layers), 0, 1).transpose(1, 2, 0)
    return np.asarray(np.rint(pixels * 255), np.uint8)


def write_backdoors(path: Path, backdoors: tuple[Backdoor, ...]) -> Path:
    """Write suspected backdoors, of their triggers those that are patches; `read_backdoors` reads them."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for index, item in enumerate(backdoors):
        if isinstance(item.trigger, Patch):
            arrays |= {f"{name}_{index}": value for name, value in trigger_arrays(item.trigger).items()}
        if item.sources is not None:
            arrays[f"sources_{index}"] = np.array(item.sources, np.int64)
    targets = np.array([item.target for item in backdoors], np.int64)
    names = np.array([item.name for item in backdoors], np.str_)
    with replacing(path) as temporary:
        np.savez(temporary, targets=targets, names=names, **arrays)  # type: ignore[arg-type]
    return path


def read_backdoors(path: Path) -> tuple[Backdoor, ...]:
    """Read what `write_backdoors` wrote; the trigger is None where it was no patch.

    Raises:
        UnreadableData: the file is missing or damaged.
    """
    try:
        with require_file(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            targets = arrays["targets"].tolist()
            names = arrays["names"].tolist() if "names" in arrays else [""] * len(targets)  # Older files have none.
            return tuple(
                Backdoor(_read_patch(arrays, index), int(target), _read_sources(arrays, index), name)
                for index, (target, name) in enumerate(zip(targets, names, strict=True))
            )
    except (ValueError, KeyError, OSError, TypeError, zipfile.BadZipFile) as error:
        raise UnreadableData(f"{path}: expected suspected backdoors, but the file is damaged") from error


def _read_sources(arrays: Mapping[str, npt.NDArray[np.int64]], index: int) -> tuple[int, ...] | None:
    key = f"sources_{index}"
    return tuple(int(label) for label in arrays[key]) if key in arrays else None


def _read_patch(arrays: Mapping[str, npt.NDArray[np.float32]], index: int) -> Patch | None:
    if f"mask_{index}" not in arrays:
        return None
    return Patch(*(torch.from_numpy(arrays[f"{name}_{index}"]) for name in ("mask", "pattern")))
