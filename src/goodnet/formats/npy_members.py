"""The arrays in an `.npz` archive, each as large as its bytes: what a header says is compared with what is there."""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from goodnet.core.errors import UnreadableData
from goodnet.formats.declared_sizes import require_held
from goodnet.formats.one_reading import require_one_reading
from goodnet.formats.shown_paths import show_path
from goodnet.formats.zip_archives import unpacked_size

#: More letters than any header of a plain array has.
_LONGEST_HEADER = 1_000
Header = tuple[tuple[int, ...], bool, np.dtype[Any]]
_READ: dict[tuple[int, int], Callable[..., Header]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npy_header(stream: IO[bytes]) -> Header:
    """Read the header of a .npy file: shape, whether it is stored by columns, type. The stream is then at the values.

    Raises:
        Exception: of any kind, where the header is damaged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a stranger sends, nothing is to be written into the log
        return _READ[np.lib.format.read_magic(stream)](stream, max_header_size=_LONGEST_HEADER)


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays in an archive by their names; members that are not called .npy are passed over.

    Raises:
        UnreadableData: the archive is damaged, can be read in two ways, unpacks to far more than its size, or an array holds
            objects or is not as large as its header says.
    """
    require_one_reading(path, UnreadableData)
    try:
        with zipfile.ZipFile(path) as archive:
            require_held(show_path(path), unpacked_size(archive), path.stat().st_size, UnreadableData)
            members = _list_arrays(archive, path)
            return {member.filename.removesuffix(".npy"): _read_member(archive, member) for member in members}
    except UnreadableData:
        raise
    except Exception as error:  # numpy and zipfile fail in many ways on hostile bytes
        raise UnreadableData(
            f"{show_path(path)}: expected an .npz file of plain arrays, but it is damaged or holds objects"
        ) from error


def read_npy(path: Path) -> npt.NDArray[Any]:
    """Return the array in a .npy file.

    Raises:
        UnreadableData: the file is damaged, or the array holds objects or is not as large as its header says.
    """
    try:
        with path.open("rb") as stream:
            return _read_array(stream, path.stat().st_size)
    except Exception as error:  # numpy fails in many ways on hostile bytes
        raise UnreadableData(
            f"{show_path(path)}: expected an array of numbers (.npy), but it is damaged or holds objects"
        ) from error


def _list_arrays(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
    if archive.namelist() and not members:
        found = ", ".join(f"'{show_path(name)}'" for name in archive.namelist()[:3])
        raise UnreadableData(
            f"{show_path(path)}: expected an .npz file of arrays, got a zip archive of other things ({found}); give the file "
            "that holds the data"
        )
    return members


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
    with archive.open(member) as stream:
        values = _read_array(stream, member.file_size)
        stream.read(1)  # at the end the checksum is compared
    return values


def _read_array(stream: IO[bytes], held: int) -> npt.NDArray[Any]:
    """Return the array in a .npy stream of `held` bytes that can be wound back."""
    shape, _, kind = read_npy_header(stream)
    if kind.hasobject or min(shape, default=0) < 0 or math.prod(shape) * kind.itemsize != held - stream.tell():
        raise ValueError("an array holds objects or is not as large as its header says")
    stream.seek(0)
    values: npt.NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False, max_header_size=_LONGEST_HEADER)
    return values
