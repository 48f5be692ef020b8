"""HDF5 as plain data: groups, their attributes, and arrays of numbers; taken from an untrusted file, and written as our own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from goodnet.confinement.answers import Blob
from goodnet.core.errors import UnreadableModel
from goodnet.formats.shown_paths import show_path

Array = npt.NDArray[Any]
#: The words of safetensors for numpy's types.
_WORDS = {
    **{"f2": "F16", "f4": "F32", "f8": "F64", "b1": "BOOL"},
    **{f"i{size}": f"I{8 * size}" for size in (1, 2, 4, 8)},
    **{f"u{size}": f"U{8 * size}" for size in (1, 2, 4, 8)},
}
#: Groups within groups, more than any network has.
_DEEPEST = 100


def take_tree(group: h5py.Group, shown: str) -> tuple[dict[str, Any], dict[str, Blob]]:
    """Return a group as a record and arrays; the record says of each place in the group, "" itself, what is there.

    Raises:
        UnreadableModel: an array or attribute holds something else than numbers and text, or a group is inside itself.
    """
    places: list[dict[str, Any]] = [{"place": "", "attributes": _take_attributes(group, shown)}]
    arrays: dict[str, Blob] = {}
    for place, item in _walk(group, shown):
        found: dict[str, Any] = {"place": place, "attributes": _take_attributes(item, shown)}
        if isinstance(item, h5py.Dataset):
            found["array"] = f"array {len(arrays)}"
            arrays[found["array"]] = _take_array(item, place, shown)
        places.append(found)
    return {"places": places}, arrays


def _walk(group: h5py.Group, shown: str, above: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    if depth > _DEEPEST:
        raise UnreadableModel(f"{shown}: refused, its groups are nested without end; save the model again")
    for name in group:
        item, place = group[name], f"{above}{name}"
        yield place, item
        if isinstance(item, h5py.Group):
            yield from _walk(item, shown, f"{place}/", depth + 1)


def _take_array(item: h5py.Dataset, place: str, shown: str) -> Blob:
    word = _WORDS.get(item.dtype.str[1:])
    if word is None or item.shape is None:
        raise UnreadableModel(
            f"{shown}: refused, '{show_path(place)}' holds {item.dtype}, expected numbers; save the model again"
        )
    values = np.asarray(item[()], item.dtype.newbyteorder("<"), order="C")
    # As bytes: numpy does not show half floats and truth values as plain memory.
    return Blob(word, values.shape, values.reshape(-1).view(np.uint8))


def _take_attributes(item: Any, shown: str) -> dict[str, Any]:
    return {name: _take_value(item.attrs[name], name, shown) for name in item.attrs}


def _take_value(value: Any, name: str, shown: str) -> dict[str, Any]:
    """Return an attribute as JSON knows it: its kind, and values whose bytes are letters."""
    if isinstance(value, str):
        return {"kind": "text", "value": value}
    if isinstance(value, bytes):
        return {"kind": "bytes", "value": value.decode("latin-1")}
    if isinstance(value, np.ndarray | np.generic):
        values = value.reshape(-1).tolist()
        if value.dtype.kind in "biuf":
            return {"kind": value.dtype.str, "value": values, "shape": value.shape}
        if value.dtype.kind == "S" or (value.dtype.kind == "O" and all(isinstance(word, bytes) for word in values)):
            kind = value.dtype.str if value.dtype.kind == "S" else "bytes of any length"
            return {"kind": kind, "value": [word.decode("latin-1") for word in values], "shape": value.shape}
        if value.dtype.kind == "O" and all(isinstance(word, str) for word in values):
            return {"kind": "texts", "value": values, "shape": value.shape}
    raise UnreadableModel(
        f"{shown}: refused, the attribute '{show_path(name)}' holds neither numbers nor text; save it again"
    )


def write_tree(group: h5py.Group, record: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write into an empty group what `take_tree` took.

    Args:
        group: of a file of our own.
        record, arrays: what was taken.

    Raises:
        KeyError, TypeError, ValueError: the record is damaged.
    """
    for found in record["places"]:
        place, array = str(found["place"]), found.get("array")
        if not place:
            item: Any = group
        elif array is None:
            item = group.require_group(place)
        else:
            item = group.create_dataset(place, data=arrays[array])
        for name, value in found["attributes"].items():
            item.attrs[name] = _give_value(value)


def _give_value(taken: Mapping[str, Any]) -> Any:
    kind, value = taken["kind"], taken["value"]
    if kind == "text":
        return str(value)
    if kind == "bytes":
        return np.bytes_(value.encode("latin-1"))
    shape = tuple(taken["shape"])
    if kind == "texts":
        return np.array(value, h5py.string_dtype()).reshape(shape)
    if kind == "bytes of any length":
        return np.array([word.encode("latin-1") for word in value], h5py.string_dtype("ascii")).reshape(shape)
    if np.dtype(kind).kind == "S":
        return np.array([word.encode("latin-1") for word in value], kind).reshape(shape)
    return np.array(value, kind).reshape(shape)[()]
