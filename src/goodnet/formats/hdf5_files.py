"""Reads untrusted HDF5 files, and writes HDF5 files.

It refuses files with parts that lie in other files, and with data sets that unpack to far more than the file's size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from goodnet.core.errors import InputError
from goodnet.formats.declared_sizes import require_held
from goodnet.formats.files import replacing
from goodnet.formats.shown_paths import show_path

#: The filters that the HDF5 library and h5py bring along: deflate, shuffle, fletcher32, szip, nbit, scaleoffset, lzf. For
#: any other the library would look for a program on this machine.
_FILTERS = frozenset({*range(1, 7), 32000})
_WRAPPERS = {h5py.h5d.DatasetID: h5py.Dataset, h5py.h5g.GroupID: h5py.Group}
#: More groups within groups than any network has.
_DEEPEST = 100


def require_own_content(file: h5py.File, shown: str, held: int, kind: type[InputError]) -> None:
    """Check every group and data set of an HDF5 file before any value is read.

    Args:
        file: the open file.
        shown: its name, for messages.
        held: its bytes.
        kind: the error to raise.

    Raises:
        InputError: (of `kind`) a part lies in another file, needs a program of its own to unpack, or a group is inside
            itself; or the data sets are far larger than the file.
    """
    declared = 0
    for name, item in _walk(file, shown, kind, seen={_address(file)}):
        if item.external or item.is_virtual:
            raise _elsewhere(shown, name, kind)
        if not _FILTERS.issuperset(_filters(item)):
            raise kind(
                f"{shown}: refused, '{show_path(name)}' uses a compression filter that HDF5 does not bring along; write it again "
                "with gzip or uncompressed"
            )
        declared += _unpacked(item)
    require_held(shown, declared, held, kind)


def _walk(
    group: h5py.Group, shown: str, kind: type[InputError], seen: set[int], depth: int = 0
) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield the data sets in a group and in the groups within, by every name that they have."""
    for raw in group.id:
        name = raw.decode("utf-8", "surrogateescape")
        # What a link names is not looked up: looking would open it.
        if group.id.links.get_info(raw).type != h5py.h5l.TYPE_HARD:
            raise _elsewhere(shown, name, kind)
        found = h5py.h5o.open(group.id, raw)
        item = _WRAPPERS.get(type(found), lambda _: None)(found)
        if isinstance(item, h5py.Dataset):
            yield name, item
        elif isinstance(item, h5py.Group):
            if _address(item) in seen or depth == _DEEPEST:
                raise kind(
                    f"{shown}: refused, the group '{show_path(name)}' is inside itself, met twice or too deep; write it again"
                )
            seen.add(_address(item))
            yield from _walk(item, shown, kind, seen, depth + 1)


def _elsewhere(shown: str, name: str, kind: type[InputError]) -> InputError:
    return kind(
        f"{shown}: refused, '{show_path(name)}' points to another file, or is a link that may; save it as one file"
    )


def _address(group: h5py.Group) -> int:
    return int(h5py.h5o.get_info(group.id).addr)


def _filters(item: h5py.Dataset) -> list[int]:
    made = item.id.get_create_plist()
    return [int(made.get_filter(index)[0]) for index in range(made.get_nfilters())]


def _unpacked(item: h5py.Dataset) -> int:
    """Return the bytes of a data set, or of one of its chunks where that is more: a chunk is unpacked as a whole."""
    shapes = [item.shape or (), item.chunks or ()]
    return max(math.prod(map(int, shape)) * int(item.dtype.itemsize) for shape in shapes if shape) if any(shapes) else 0


def holds_weights_alone(file: h5py.File) -> bool:
    """Whether a file holds layers' weights and no architecture."""
    return "model_config" not in file.attrs and ("layer_names" in file.attrs or is_keras_3(file))


def is_keras_3(file: h5py.File) -> bool:
    """Whether a file of weights has the layout of Keras 3."""
    local = isinstance(file.get("layers", getlink=True), h5py.HardLink)
    return local and isinstance(file["layers"], h5py.Group)


@contextmanager
def new_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """Give an HDF5 file to fill; on success it takes the place of `path` in one step.

    Python writes to the disk: where that is full, the HDF5 library, which could do so itself, ends the whole process.

    Raises:
        UnwritableOutput: the folder cannot be written to, or the disk is full.
    """
    with replacing(path) as temporary, temporary.open("w+b") as stream, h5py.File(stream, "w") as file:
        yield file
