"""The door for data: what a file holds decides, whatever it is called."""

import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from goodnet.core.errors import UnreadableData
from goodnet.formats.data import read_data

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 6), dtype=np.uint8)
LABELS = np.array([1, 0, 2, 1])
NAMES = ["d.h5", "d.hdf5", "d.hdf", "d.mat", "d.npz", "d.zip", "d.png", "d.keras", "d", "d.H5", "\udcff.bin"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("user_block", [0, 512])
def test_hdf5_by_any_name(user_block: int, name: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / name, "w", userblock_size=user_block) as file:
        file["data"], file["label"] = PIXELS, LABELS
    data = read_data(tmp_path / name)
    assert np.array_equal(data.source.read(np.arange(4)), PIXELS)
    assert data.targets.tolist() == LABELS.tolist()
    assert data.name == name.replace("\udcff", r"\xff")


@pytest.mark.parametrize("name", NAMES)
def test_npz_by_any_name(name: str, tmp_path: Path) -> None:
    with (tmp_path / name).open("wb") as stream:
        np.savez_compressed(stream, images=PIXELS, y=LABELS)
    data = read_data(tmp_path / name)
    assert np.array_equal(data.source.read(np.arange(4)), PIXELS)
    assert data.targets.tolist() == LABELS.tolist()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_a_picture_by_any_name(kind: str, name: str, tmp_path: Path) -> None:
    Image.fromarray(PIXELS[0].transpose(1, 2, 0)).save(tmp_path / name, kind)
    data = read_data(tmp_path / name)
    assert np.array_equal(data.source.read(np.array([0])), PIXELS[:1])
    assert data.labels is None


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345678\n"


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".png", ".mat", ""])
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (POINTER.encode(), r"got a pointer of Git LFS without the data \(git lfs pull fetches them\); give"),
        (b"", "got an empty file; give"),
        (b"1,2\n", "got text; give"),
        (pickle.dumps({"data": 1}), "got a pickle; give"),
        (b"\1\2\3\0", "got something else; give"),
    ],
)
def test_what_cannot_be_read_is_named(content: bytes, kind: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"d{suffix}"
    path.write_bytes(content)
    with pytest.raises(UnreadableData, match=kind) as caught:
        read_data(path)
    assert str(caught.value).startswith(f"{path}: expected an HDF5 file, an .npz file")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".png"])
def test_a_network_in_a_zip_archive_is_no_data(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"d{suffix}"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(UnreadableData, match=r"got a zip archive of other things \('.*data\.pkl'.*\); give the file"):
        read_data(path)


def test_a_hostile_name_inside_an_archive_stays_on_its_line(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("a\nb\x1b[2J", b"x")
    with pytest.raises(UnreadableData, match=r"\('a\\nb\\x1b\[2J'\)"):
        read_data(tmp_path / "d.npz")
