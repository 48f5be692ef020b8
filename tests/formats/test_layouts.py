"""CIFAR-10, MNIST and GTSRB in the layouts in which they are published: tiny ones are written and read back."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from goodnet.core.errors import InvalidOption, UnreadableData
from goodnet.formats import layouts
from goodnet.formats.layouts import read_cifar10, read_gtsrb, read_mnist
from goodnet.formats.plain_pickles import read_plain_pickle

NAMES = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse", b"ship", b"truck"]


def python_2_pickle(images, labels):
    """Return the bytes of a batch as Python 2's cPickle wrote them: protocol 2, text and pixels as short byte strings."""

    def text(value):
        return b"T" + struct.pack("<i", len(value)) + value

    def number(value):
        return b"J" + struct.pack("<i", value)

    empty = [b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n", number(0), b"\x85", text(b"b"), b"\x87R"]
    kind = [b"cnumpy\ndtype\n", text(b"u1"), number(0), number(1), b"\x87R"]
    kind_state = [b"(", number(3), text(b"|"), b"NNN", number(-1), number(-1), number(0), b"tb"]
    shape = [*map(number, images.shape), b"\x86"]
    array = [*empty, b"(", number(1), *shape, *kind, *kind_state, b"\x89", text(images.tobytes()), b"tb"]
    numbers = [b"](", *map(number, labels), b"e"]
    rest = [text(b"labels"), *numbers, text(b"batch_label"), text(b"testing batch 1 of 1")]
    return b"".join([b"\x80\x02}(", text(b"data"), *array, *rest, b"u."])


def write_cifar(folder: Path, batch=python_2_pickle, count=4):
    """Write a CIFAR-10 archive of `count` images a batch and return all images and labels, training set first."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, count, 3072), dtype=np.uint8)
    labels = rng.integers(0, 10, (6, count))
    for index, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        (folder / name).write_bytes(batch(images[index], labels[index].tolist()))
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": NAMES, b"num_vis": 3072}, protocol=2))
    return images, labels


def python_3_pickle(protocol):
    """Return what writes a batch with this Python and numpy."""
    return lambda images, labels: pickle.dumps({b"data": images, b"labels": labels}, protocol=protocol)


@pytest.mark.parametrize("batch", [python_2_pickle, *(python_3_pickle(protocol) for protocol in (1, 2, 3, 4))])
def test_cifar10_is_read_as_written(tmp_path, batch):
    images, labels = write_cifar(tmp_path / "cifar-10-batches-py", batch)
    for folder in (tmp_path, tmp_path / "cifar-10-batches-py"):
        train, test = read_cifar10(folder)
        assert (train.source.read(np.arange(20)) == images[:5].reshape(20, 3, 32, 32)).all()
        assert (test.source.read(np.arange(4)) == images[5].reshape(4, 3, 32, 32)).all()
        assert train.targets.tolist() == labels[:5].flatten().tolist()
        assert test.targets.tolist() == labels[5].tolist()
        assert train.class_names[1] == "automobile"


def test_the_pickle_of_python_2_is_one_that_numpy_itself_reads(tmp_path):
    images = np.arange(24, dtype=np.uint8).reshape(2, 12)
    content = python_2_pickle(images, [3, 4])
    assert (pickle.loads(content, encoding="bytes")[b"data"] == images).all()
    (tmp_path / "batch").write_bytes(content)
    assert (read_plain_pickle(tmp_path / "batch")["data"] == images).all()


def test_arrays_in_column_order_are_read(tmp_path):
    images = np.asfortranarray(np.arange(24, dtype=np.uint8).reshape(2, 12))
    (tmp_path / "batch").write_bytes(pickle.dumps({"data": images}, protocol=2))
    assert (read_plain_pickle(tmp_path / "batch")["data"] == images).all()


class Hostile:
    """An object whose pickle makes a file when it is loaded by an ordinary unpickler."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(6))
def test_a_hostile_pickle_is_refused_and_does_nothing(tmp_path, protocol):
    write_cifar(tmp_path)
    mark = tmp_path / "was here"
    content = pickle.dumps({b"data": Hostile(mark)}, protocol=protocol)
    pickle.loads(content)
    mark.unlink()  # an ordinary unpickler was fooled
    (tmp_path / "data_batch_3").write_bytes(content)
    with pytest.raises(UnreadableData, match=r"data_batch_3: refused.*could run code") as caught:
        read_cifar10(tmp_path)
    assert not mark.exists()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "call",
    [
        b"cos\nsystem\n",
        b"cposix\nsystem\n",
        b"cbuiltins\neval\n",
        b"c__builtin__\neval\n",
        b"cnumpy\nload\n",
        b"cnumpy.core.multiarray\nscalar\n",
        b"cnumpy\nndarray.dump\n",
        b"c_codecs\ndecode\n",
    ],
)
def test_names_that_numpy_or_python_have_beside_the_allowed_ones_are_refused(tmp_path, call):
    (tmp_path / "batch").write_bytes(b"\x80\x02" + call + b"(X\x04\x00\x00\x001+1.tR.")
    with pytest.raises(UnreadableData, match="refused"):
        read_plain_pickle(tmp_path / "batch")


@pytest.mark.parametrize("name", [b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"c_codecs\nencode\n"])
def test_a_pickle_cannot_change_the_stand_ins_themselves(tmp_path, name):
    (tmp_path / "batch").write_bytes(b"\x80\x02" + name + b"N}X\x07\x00\x00\x00__doc__K\x01s\x86b.")
    with pytest.raises(UnreadableData, match="damaged"):
        read_plain_pickle(tmp_path / "batch")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        b"\x80\x02}(",
        pickle.dumps([1, 2]),
        pickle.dumps({"data": np.zeros(3)}, 2),
        b"\x80\x02]" + b"(" * 1000,
    ],
)
def test_damaged_pickles_are_one_line(tmp_path, content):
    (tmp_path / "batch").write_bytes(content)
    with pytest.raises(UnreadableData, match="batch") as caught:
        read_plain_pickle(tmp_path / "batch")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({b"data": np.zeros((2, 5), np.uint8), b"labels": [1, 2]}, r"shape \(N, 3072\), got \(2, 5\)"),
        ({b"labels": [1]}, "got NoneType"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}, "for each of 2 images"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, 10]}, "0 to 9"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": "ab"}, "0 to 9"),
    ],
)
def test_batches_of_another_content_are_refused(tmp_path, values, words):
    write_cifar(tmp_path)
    (tmp_path / "test_batch").write_bytes(pickle.dumps(values, protocol=2))
    with pytest.raises(UnreadableData, match=words):
        read_cifar10(tmp_path)


def test_a_batch_or_names_that_are_missing_are_named(tmp_path):
    write_cifar(tmp_path)
    (tmp_path / "data_batch_5").unlink()
    with pytest.raises(UnreadableData, match="data_batch_5: no such file"):
        read_cifar10(tmp_path)
    (tmp_path / "batches.meta").write_bytes(pickle.dumps({b"label_names": NAMES[:3]}))
    with pytest.raises(UnreadableData, match="10 names"):
        read_cifar10(tmp_path)


def idx(array):
    """Return an array of uint8 as an idx file."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder: Path, mark="-", end=""):
    """Write a tiny MNIST and return (images, labels) of its training set."""
    rng = np.random.default_rng(0)
    pack = gzip.compress if end else bytes
    for part, count in (("t10k", 3), ("train", 7)):
        images, labels = (
            rng.integers(0, 256, (count, 28, 28), dtype=np.uint8),
            rng.integers(0, 10, count, dtype=np.uint8),
        )
        (folder / f"{part}-images{mark}idx3-ubyte{end}").write_bytes(pack(idx(images)))
        (folder / f"{part}-labels{mark}idx1-ubyte{end}").write_bytes(pack(idx(labels)))
    return images, labels


@pytest.mark.parametrize(("mark", "end"), [("-", ""), (".", ""), ("-", ".gz")])
def test_mnist_is_read_as_written(tmp_path, mark, end):
    images, labels = write_mnist(tmp_path, mark, end)
    train, test = read_mnist(tmp_path)
    assert (train.source.read(np.arange(7)) == images[:, None]).all()
    assert train.targets.tolist() == labels.tolist()
    assert (len(test), test.image_shape) == (3, (1, 28, 28))


@pytest.mark.parametrize("change", [gzip.compress, gzip.decompress])
def test_whether_mnist_is_packed_goes_by_its_bytes(tmp_path, change):
    images, labels = write_mnist(tmp_path, end="" if change is gzip.compress else ".gz")
    for path in tmp_path.iterdir():
        path.write_bytes(change(path.read_bytes()))
    train, _ = read_mnist(tmp_path)
    assert np.array_equal(train.source.read(np.arange(len(train)))[:, 0], images)
    assert train.targets.tolist() == labels.tolist()


def test_damaged_idx_files_are_one_line(tmp_path, monkeypatch):
    write_mnist(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    whole = path.read_bytes()
    huge = whole[:4] + b"\xff" * 12 + whole[16:]
    for content in (b"", whole[:10], whole[:-1], whole + b"x", b"\x00\x00\x08\x01" + whole[4:], huge):
        path.write_bytes(content)
        with pytest.raises(UnreadableData, match="train-images-idx3-ubyte: expected") as caught:
            read_mnist(tmp_path)
        assert "\n" not in str(caught.value)
    path.write_bytes(whole)
    monkeypatch.setattr(layouts, "_MOST_BYTES", 1000)
    with pytest.raises(UnreadableData, match="holds more and is refused"):
        read_mnist(tmp_path)


def test_idx_files_that_are_missing_or_cut_archives_are_named(tmp_path):
    with pytest.raises(UnreadableData, match="expected a file train-images-idx3-ubyte or"):
        read_mnist(tmp_path)
    write_mnist(tmp_path, end=".gz")
    path = tmp_path / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UnreadableData, match="t10k-labels"):
        read_mnist(tmp_path)


def test_as_many_labels_as_images_are_expected(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(6, np.uint8)))
    with pytest.raises(UnreadableData, match="expected 7 labels, one for each image, got 6"):
        read_mnist(tmp_path)


HEAD = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"


def write_gtsrb(folder: Path):
    """Write a tiny GTSRB: two classes with two signs, and a test set of one; signs are red on green."""
    for place, table, rows in (
        ("Final_Training/Images/00000", "GT-00000.csv", [("00000_00000.ppm", 0), ("00000_00001.ppm", 0)]),
        ("Final_Training/Images/00014", "GT-00014.csv", [("00000_00000.ppm", 14), ("00000_00001.ppm", 14)]),
        ("Final_Test/Images", "GT-final_test.csv", [("00000.ppm", 14)]),
    ):
        (folder / place).mkdir(parents=True)
        lines = [HEAD]
        for name, label in rows:
            picture = np.full((40, 50, 3), (0, 255, 0), np.uint8)
            picture[5:35, 6:44] = (200 + label, 0, 0)
            Image.fromarray(picture).save(folder / place / name)
            lines.append(f"{name};50;40;6;5;43;34;{label}")
        (folder / place / table).write_text("\r\n".join(lines) + "\r\n")


def test_gtsrb_signs_are_cut_out_and_scaled(tmp_path):
    write_gtsrb(tmp_path / "GTSRB")
    for folder in (tmp_path, tmp_path / "GTSRB"):
        train, test = read_gtsrb(folder, size=16)
        assert train.image_shape == (3, 16, 16)
        assert train.targets.tolist() == [0, 0, 14, 14]
        assert test.targets.tolist() == [14]
        pixels = train.source.read(np.arange(4))
        assert (pixels[:, 1:] == 0).all()
        assert (pixels[:, 0] == np.array([200, 200, 214, 214])[:, None, None]).all()


@pytest.mark.parametrize("system", ["__MACOSX", "@eaDir", ".cache"])
def test_folders_of_systems_among_the_signs_are_left_out(tmp_path, system):
    write_gtsrb(tmp_path)
    before = read_gtsrb(tmp_path)[0].targets.tolist()
    (tmp_path / "Final_Training" / "Images" / system).mkdir()
    assert read_gtsrb(tmp_path)[0].targets.tolist() == before


def test_the_truth_of_the_test_set_may_lie_where_its_archive_unpacks(tmp_path):
    write_gtsrb(tmp_path)
    (tmp_path / "Final_Test/Images/GT-final_test.csv").rename(tmp_path / "GT-final_test.csv")
    assert len(read_gtsrb(tmp_path)[1]) == 1


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("../../secret.ppm;50;40;6;5;43;34;0", "plain name"),
        ("/etc/passwd;50;40;6;5;43;34;0", "plain name"),
        ("..\\secret.ppm;50;40;6;5;43;34;0", "plain name"),
        (";50;40;6;5;43;34;0", "."),
        ("missing.ppm;50;40;6;5;43;34;0", "missing.ppm: no such file"),
        ("00000_00000.ppm;50;40;6;5;50;34;0", "outside its picture of 50 x 40"),
        ("00000_00000.ppm;50;40;9;5;8;34;0", "outside its picture"),
        ("00000_00000.ppm;50;40;six;5;43;34;0", "whole numbers"),
        ("00000_00000.ppm;50;40;6", "whole numbers"),
        ("00000_00000.ppm;50;40;6;5;43;34;43", "class of 0 to 42"),
    ],
)
def test_damaged_tables_are_one_line(tmp_path, row, words):
    write_gtsrb(tmp_path)
    (tmp_path / "Final_Training/Images/00000/GT-00000.csv").write_text(f"{HEAD}\n{row}\n")
    with pytest.raises(UnreadableData, match=words) as caught:
        read_gtsrb(tmp_path)
    assert "\n" not in str(caught.value)


def test_tables_of_another_kind_are_refused(tmp_path):
    write_gtsrb(tmp_path)
    table = tmp_path / "Final_Test/Images/GT-final_test.csv"
    for content, words in (
        (b"Filename,ClassId\na.ppm,1\n", "missing Filename"),
        (b"\xff\xfe\x00\x01", "separated by"),
        (b"", "table is empty"),
        (HEAD.encode(), "table is empty"),
    ):
        table.write_bytes(content)
        with pytest.raises(UnreadableData, match=words):
            read_gtsrb(tmp_path)
    table.unlink()
    with pytest.raises(UnreadableData, match=r"GT-final_test\.csv: no such file"):
        read_gtsrb(tmp_path)


def test_folders_without_signs_and_sizes_out_of_bounds_are_refused(tmp_path):
    with pytest.raises(UnreadableData, match="expected folders 00000, 00001"):
        read_gtsrb(tmp_path)
    with pytest.raises(InvalidOption, match="1 to 1024 pixels, got 0"):
        read_gtsrb(tmp_path, size=0)
