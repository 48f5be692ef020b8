"""HDF5 as plain data and back: what h5py finds in the copy is what it found in the file."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from goodnet.core.errors import UnreadableModel
from goodnet.formats.hdf5_trees import take_tree, write_tree

ATTRIBUTES: dict[str, Any] = {
    "text": "früh",
    "bytes": np.bytes_(b"\xff\x00x"),
    "names": np.array([b"kernel:0", b"bias:0"]),
    "none": np.array([], dtype="S1"),
    "texts": np.array(["a", "bc"], h5py.string_dtype()),
    "number": np.float32(1.5),
    "flag": np.bool_(True),
    "numbers": np.arange(4, dtype=np.int64).reshape(2, 2),
}


def copied(write: Any, folder: Path) -> h5py.File:
    with h5py.File(folder / "theirs.h5", "w") as file:
        write(file)
    with h5py.File(folder / "theirs.h5") as file:
        record, blobs = take_tree(file, "theirs.h5")
    words = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8", "U8": "u1", "BOOL": "?"}
    arrays = {
        name: np.frombuffer(bytes(blob.data), words[blob.dtype]).reshape(blob.shape) for name, blob in blobs.items()
    }
    ours = h5py.File(folder / "ours.h5", "w")
    write_tree(ours, record, arrays)
    return ours


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_come_back_as_they_were(name: str, tmp_path: Path) -> None:
    value = ATTRIBUTES[name]

    def write(file: h5py.File) -> None:
        file.create_group("layer").attrs[name] = value

    with copied(write, tmp_path) as ours, h5py.File(tmp_path / "theirs.h5") as theirs:
        found, expected = ours["layer"].attrs[name], theirs["layer"].attrs[name]
        assert np.array_equal(found, expected)
        assert (type(found), getattr(found, "dtype", None)) == (type(expected), getattr(expected, "dtype", None))


@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8", ">f4", "i8", "u1", "?"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_arrays_come_back_as_they_were(kind: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(kind)
    with copied(lambda file: file.create_dataset("a/b/kernel", data=values), tmp_path) as ours:
        found = ours["a/b/kernel"]
        assert np.array_equal(found[()], values)
        assert found.dtype == values.dtype.newbyteorder("<")


def test_what_is_neither_numbers_nor_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableModel, match=r"theirs\.h5: refused, 'a\\nb' holds .*, expected numbers"):
        copied(lambda file: file.create_dataset("a\nb", data=np.zeros(2, [("x", "i4"), ("y", "f8")])), tmp_path)
    with pytest.raises(UnreadableModel, match="the attribute 'x' holds neither numbers nor text"):
        copied(lambda file: file.attrs.create("x", np.zeros(2, np.complex64)), tmp_path)


def test_a_group_inside_itself_is_refused(tmp_path: Path) -> None:
    def write(file: h5py.File) -> None:
        group = file.create_group("a")
        group["itself"] = group

    with pytest.raises(UnreadableModel, match="nested without end"):
        copied(write, tmp_path)
