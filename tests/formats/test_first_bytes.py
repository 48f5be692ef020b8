"""What files are, whatever they are called."""

import pickle
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from goodnet.formats.first_bytes import HDF5, PICTURE, PICTURES, ZIP, kind_of


@pytest.mark.parametrize("kind", PICTURES)
def test_each_kind_of_picture_as_pillow_writes_it(kind: str, tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.h5", kind)
    assert kind_of(tmp_path / "a.h5") == PICTURE


@pytest.mark.parametrize("user_block", [0, 512, 2048])
def test_hdf5_with_a_block_of_the_users_before_it(user_block: int, tmp_path: Path) -> None:
    path = tmp_path / "\udcff.png"
    with h5py.File(path, "w", userblock_size=user_block) as file:
        file["data"] = np.zeros(3)
    assert kind_of(path) == HDF5


def test_a_file_is_one_thing_only(tmp_path: Path) -> None:
    """A picture with HDF5 behind it: the first bytes decide."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["data"] = np.zeros(3)
    with path.open("r+b") as stream:
        stream.write(b"\x89PNG\r\n\x1a\n")
    assert h5py.is_hdf5(path)
    assert kind_of(path) == PICTURE


def zipped() -> bytes:
    stream = BytesIO()
    np.savez(stream, data=np.zeros(3))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (zipped(), ZIP),
        (b"", "an empty file"),
        (b"data,label\n1,2\n", "text"),
        ("fünf, 鳥\n".encode(), "text"),
        (b"\0\1\2\3", "something else"),
        (pickle.dumps([1]), "a pickle"),
        (b"\x1f\x8b\x08\0", "a gzip archive"),
        (b"8BPS\0\1", "a Photoshop picture"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a pointer of Git LFS"),
    ],
)
def test_what_else_lies_about(content: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(content)
    assert kind_of(tmp_path / "a.h5").startswith(kind)
