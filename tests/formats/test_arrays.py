"""HDF5 and .npz data sets: layouts, ranges, streaming, and every way in which a file can be wrong."""

import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnreadableData, WrongShape
from goodnet.formats.arrays import Hdf5Source, read_arrays, to_uint8, write_hdf5
from goodnet.formats.data import read_data
from goodnet.formats.pixel_scales import Scale

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 3, 5, 7), dtype=np.uint8)
PIXELS[0, 0, 0, :2] = 0, 255
LABELS = np.array([3, 0, 1, 1, 2, 0])


def write(path: Path, **arrays: Any) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
        return path
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            file[key] = value
    return path


def as_stored(layout: str, kind: str) -> np.ndarray:
    pixels = PIXELS if layout == "NCHW" else PIXELS.transpose(0, 2, 3, 1)
    scale = 255 if kind == "float 0..1" else 1
    return pixels if kind == "uint8" else (pixels / scale).astype({"int64 0..255": np.int64}.get(kind, np.float32))


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("kind", ["uint8", "float 0..1", "float 0..255", "int64 0..255"])
def test_every_layout_and_range_gives_the_same_images(suffix: str, layout: str, kind: str, tmp_path: Path) -> None:
    data = read_data(write(tmp_path / f"d{suffix}", data=as_stored(layout, kind), label=LABELS))
    assert data.image_shape == (3, 5, 7)
    np.testing.assert_allclose(data.images().numpy(), PIXELS / 255, atol=1e-6)
    assert data.images().dtype.is_floating_point
    assert data.targets.tolist() == LABELS.tolist()
    assert data.targets.dtype == np.int64
    assert data.name == f"d{suffix}"


@pytest.mark.parametrize("indices", [[0], [4, 1], [2, 2, 2], [5, 0, 5, 3], [1, 2, 3], [0, 5], [3, 2, 1]])
@pytest.mark.parametrize("chunks", [None, (2, 3, 5, 7)])
def test_images_come_in_the_order_asked_for(indices: list[int], chunks: Any, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.create_dataset("data", data=PIXELS, chunks=chunks, compression="gzip" if chunks else None)
    data = read_arrays(tmp_path / "d.h5")
    assert np.array_equal(data.source.read(np.array(indices)), PIXELS[indices])
    assert np.array_equal(data.subset(indices).source.read(np.array(indices)), PIXELS[indices])


def test_far_apart_indices_come_in_the_order_asked_for(tmp_path: Path) -> None:
    pixels = np.arange(1000, dtype=np.uint8).reshape(1000, 1, 1, 1).repeat(2, axis=2)
    data = read_arrays(write(tmp_path / "d.h5", data=pixels))
    indices = np.array([900, 3, 900, 0])
    assert np.array_equal(data.source.read(indices), pixels[indices])


class Spy:
    """Stands for an HDF5 data set and notes which rows are read."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels, self.shape, self.rows = pixels, pixels.shape, 0
        self.file = type("File", (), {"filename": "spy.h5"})()

    def __getitem__(self, rows: Any) -> np.ndarray:
        read = self.pixels[rows]
        self.rows += len(read)
        return read


@pytest.mark.parametrize(("indices", "most"), [([10, 11, 12], 3), ([0, 999], 2), ([5, 7, 9], 12)])
def test_only_what_is_asked_for_is_read(indices: list[int], most: int) -> None:
    spy = Spy(np.zeros((1000, 1, 2, 2), np.uint8))
    Hdf5Source(spy, "NCHW", Scale()).read(np.array(indices))
    assert 0 < spy.rows <= most


def test_one_batch_is_in_memory_at_a_time(tmp_path: Path) -> None:
    pixels = np.zeros((4000, 3, 32, 32), np.uint8)
    path = write(tmp_path / "d.h5", data=pixels, label=np.zeros(4000, np.int64))
    size = pixels.nbytes
    del pixels
    tracemalloc.start()
    count = sum(len(batch.images) for batch in read_arrays(path).batches(64))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 4000
    assert peak < size / 8


@pytest.mark.parametrize("keys", [("data", "label"), ("images", "labels"), ("x", "y")])
def test_other_names_of_the_keys(keys: tuple[str, str], tmp_path: Path) -> None:
    data = read_arrays(write(tmp_path / "d.h5", **{keys[0]: PIXELS, keys[1]: LABELS[:, None].astype(np.float32)}))
    assert data.targets.tolist() == LABELS.tolist()


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_of_several_keys_the_first_is_read_and_that_is_said(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"d{suffix}", x=255 - PIXELS, data=PIXELS, y=LABELS, labels=LABELS[::-1], other=LABELS)
    data = read_arrays(path)
    assert np.array_equal(data.source.read(np.arange(6)), PIXELS)
    assert data.targets.tolist() == LABELS[::-1].tolist()
    assert data.notes == (
        "of the keys 'data', 'x' the first is read",
        "of the keys 'labels', 'y' the first is read",
    )
    assert read_arrays(write(tmp_path / f"e{suffix}", data=PIXELS, label=LABELS)).notes == ()


@pytest.mark.parametrize("content", [b"no array", b"\x93NUMPY\1\0\xff\xff{", b"\x93NUMPY\1\0\4\0{'a'"])
def test_an_npz_with_a_member_that_is_no_array(content: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("data.npy", content)
    with pytest.raises(UnreadableData, match="damaged or holds objects"):
        read_arrays(tmp_path / "d.npz")


def test_an_npz_with_a_file_beside_its_arrays(tmp_path: Path) -> None:
    path = write(tmp_path / "d.npz", data=PIXELS)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("label", b"no array")
    assert read_arrays(path).labels is None


def test_data_without_labels(tmp_path: Path) -> None:
    data = read_arrays(write(tmp_path / "d.h5", data=PIXELS))
    assert data.labels is None
    with pytest.raises(UnreadableData, match=r"d\.h5 has no labels, .*; give a 'label' array"):
        _ = data.targets


@pytest.mark.parametrize("true_labels", [None, LABELS[::-1]])
def test_what_is_written_is_read_back(true_labels: Any, tmp_path: Path) -> None:
    data = Dataset.from_arrays(PIXELS, LABELS, true_labels=true_labels).subset([4, 0, 2])
    back = read_arrays(write_hdf5(tmp_path / "new" / "d.h5", data, block=2))
    assert np.array_equal(back.source.read(np.arange(3)), PIXELS[[4, 0, 2]])
    assert back.targets.tolist() == LABELS[[4, 0, 2]].tolist()
    if true_labels is None:
        assert back.true_targets is None
    else:
        assert back.true_targets is not None
        assert back.true_targets.tolist() == true_labels[[4, 0, 2]].tolist()
    with h5py.File(tmp_path / "new" / "d.h5") as file:
        assert file["data"].dtype == np.uint8


def test_floats_become_bytes_by_rounding() -> None:
    pixels = np.array([0, 0.4999 / 255, 0.5001 / 255, 1, 1.2, -0.1], np.float32)
    assert to_uint8(pixels).tolist() == [0, 0, 1, 255, 255, 0]


NAN, FLOATS = float("nan"), (PIXELS / 255).astype(np.float32)


def spoilt(value: float, position: int = 3) -> np.ndarray:
    pixels = FLOATS.copy()
    pixels[position, 1, 2, 3] = value
    return pixels


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no images": (
        {"pictures": PIXELS, "label": LABELS},
        UnreadableData,
        "expected a key 'data', found .*'pictures'",
    ),
    "no keys": ({}, UnreadableData, "expected a key 'data', found none"),
    "empty": ({"data": PIXELS[:0], "label": LABELS[:0]}, UnreadableData, "got an empty set"),
    "two dimensions": ({"data": PIXELS[:, 0, 0]}, WrongShape, r"got shape \(6, 7\)"),
    "five channels": ({"data": np.zeros((2, 5, 6, 7), np.uint8)}, WrongShape, r"got shape \(2, 5, 6, 7\)"),
    "strings": ({"data": np.zeros((2, 3, 4, 4), "S3")}, UnreadableData, "got .S3"),
    "complex": ({"data": np.zeros((2, 3, 4, 4), complex)}, UnreadableData, "got complex128"),
    "NaN": ({"data": spoilt(NAN)}, UnreadableData, "NaN or infinity among images 0 to 5"),
    "infinity": ({"data": spoilt(np.inf)}, UnreadableData, "NaN or infinity"),
    "minus infinity": ({"data": spoilt(-np.inf)}, UnreadableData, "NaN or infinity"),
    "negative": ({"data": spoilt(-0.5)}, UnreadableData, "expected pixels in 0..1 or 0..255, got -0.5 to 1"),
    "above 255": ({"data": spoilt(256.0)}, UnreadableData, "got 0 to 256"),
    "16 bits": ({"data": np.full((2, 3, 4, 4), 65535, np.uint16)}, UnreadableData, "got 65535 to 65535"),
    "label negative": ({"data": PIXELS, "label": LABELS - 1}, UnreadableData, "labels of 0 or more, got -1"),
    "label fraction": ({"data": PIXELS, "label": LABELS + 0.5}, UnreadableData, "got fractions"),
    "label NaN": ({"data": PIXELS, "label": LABELS * NAN}, UnreadableData, "got fractions, NaN"),
    "label infinity": ({"data": PIXELS, "label": LABELS + np.inf}, UnreadableData, "infinity"),
    "label short": ({"data": PIXELS, "label": LABELS[:4]}, WrongShape, "6 images but 4 labels"),
    "label long": ({"data": PIXELS, "label": np.zeros(9, int)}, WrongShape, "6 images but 9 labels"),
    "label text": (
        {"data": PIXELS, "label": np.array([b"cat"] * 6)},
        UnreadableData,
        r"got shape \(6,\) of .S3",
    ),
    "label of several classes": (
        {"data": PIXELS, "label": np.ones((6, 6))},
        UnreadableData,
        r"got shape \(6, 6\) of float64; give one class for each image",
    ),
    "label scalar": ({"data": PIXELS, "label": np.int64(3)}, UnreadableData, r"got shape \(\)"),
    "true label short": (
        {"data": PIXELS, "label": LABELS, "true_label": LABELS[:2]},
        WrongShape,
        "6 images but 2 true labels",
    ),
}


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
@pytest.mark.parametrize("case", WRONG)
def test_wrong_data_is_refused_in_one_line(case: str, suffix: str, tmp_path: Path) -> None:
    arrays, error, words = WRONG[case]
    path = write(tmp_path / f"d{suffix}", **arrays)
    with pytest.raises(error, match=words) as caught:
        read_data(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


def test_a_nan_far_into_the_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goodnet.formats.pixel_scales._BLOCK", 3 * 5 * 7 * 4 * 2)
    with pytest.raises(UnreadableData, match="among images 4 to 5"):
        read_arrays(write(tmp_path / "d.h5", data=spoilt(NAN, 5)))


@pytest.mark.parametrize("key", ["data", "label"])
def test_a_group_where_an_array_should_be(key: str, tmp_path: Path) -> None:
    path = tmp_path / "d.h5"
    with h5py.File(path, "w") as file:
        file["data" if key == "label" else "label"] = PIXELS if key == "label" else LABELS
        file.create_group(key)
    if key == "label":
        assert read_arrays(path).labels is None
    else:
        with pytest.raises(UnreadableData, match=r"expected a key 'data'"):
            read_arrays(path)


def test_a_link_to_nowhere(tmp_path: Path) -> None:
    path = write(tmp_path / "d.h5", label=LABELS)
    with h5py.File(path, "a") as file:
        file["data"] = h5py.SoftLink("/nowhere")
    with pytest.raises(UnreadableData, match="'data' points to another file"):
        read_arrays(path)


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_truncated_files(suffix: str, kept: float, tmp_path: Path) -> None:
    path = write(tmp_path / f"d{suffix}", data=RNG.integers(0, 256, (40, 3, 9, 9), dtype=np.uint8), label=np.zeros(40))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(UnreadableData, match="damaged" if kept else "an empty file") as caught:
        read_data(path)
    assert str(caught.value).startswith(f"{path}: expected an")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["data", "floats", "label"])
def test_damaged_bytes_inside_a_file(kind: str, tmp_path: Path) -> None:
    """The checksum of a chunk is wrong: floats and labels are read at once, uint8 images when asked for."""
    path, noise = tmp_path / "d.h5", RNG.random((6, 3, 5, 7), dtype=np.float32)
    arrays = {"data": noise if kind == "floats" else PIXELS, "label": LABELS}
    key = "label" if kind == "label" else "data"
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            file.create_dataset(name, data=value, chunks=value.shape, compression="gzip", fletcher32=True)
        where = file[key].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[where.byte_offset + where.size // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(UnreadableData, match="damaged") as caught:
        read_arrays(path).images()
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".npz", ".png", ".jpg"])
@pytest.mark.parametrize("text", ["", "data,label\n1,2\n"])
def test_text_with_the_ending_of_data(suffix: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / f"d{suffix}"
    path.write_text(text)
    with pytest.raises(UnreadableData, match=r"expected a") as caught:
        read_data(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_single_array_that_is_called_npz(tmp_path: Path) -> None:
    with (tmp_path / "d.npz").open("wb") as file:
        np.save(file, PIXELS)
    with pytest.raises(UnreadableData, match=r"expected an HDF5 file, an .npz file, .* got a single numpy array"):
        read_arrays(tmp_path / "d.npz")


@pytest.mark.parametrize(
    ("name", "words"),
    [("absent.h5", "no such file"), ("absent", "no such file"), ("d.csv", "got text")],
)
def test_paths_that_are_no_data(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("1,2")
    with pytest.raises(UnreadableData, match=words) as caught:
        read_data(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_folder_that_is_called_h5(tmp_path: Path) -> None:
    (tmp_path / "d.h5").mkdir()
    with pytest.raises(UnreadableData, match="found a folder"):
        read_arrays(tmp_path / "d.h5")
    with pytest.raises(UnreadableData, match="expected class folders with pictures"):
        read_data(tmp_path / "d.h5")


@pytest.mark.parametrize("ending", [".h5", ".npz"])
def test_labels_that_are_one_hot(ending: str, tmp_path: Path) -> None:
    data = read_arrays(write(tmp_path / f"d{ending}", data=PIXELS, label=np.eye(9)[LABELS]))
    np.testing.assert_array_equal(data.targets, LABELS)


@pytest.mark.parametrize("ending", [".h5", ".npz"])
def test_grey_images_without_an_axis_for_it(ending: str, tmp_path: Path) -> None:
    data = read_arrays(write(tmp_path / f"d{ending}", data=PIXELS[:, 0], label=LABELS))
    np.testing.assert_array_equal(data.source.read(np.array([2, 0])), PIXELS[[2, 0], :1])
