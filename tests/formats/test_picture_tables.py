"""Tables of pictures: CSV, JSON lines, parquet."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from goodnet.core.errors import UnreadableData
from goodnet.formats.data import read_data

COLOURS = [(10, 0, 0), (200, 0, 0), (0, 90, 0)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, colour in enumerate(COLOURS):
        Image.new("RGB", (9, 8), colour).save(tmp_path / f"{number}.png")
    return tmp_path


def check(path: Path, labels: list[int], names: tuple[str, ...] | None = None) -> None:
    data = read_data(path)
    assert data.targets.tolist() == labels
    assert data.class_names == names
    np.testing.assert_array_equal(data.source.read(np.arange(3))[:, :, 0, 0], COLOURS)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("path,label\n0.png,2\n1.png,0\n2.png,1\n", None),
        ("id;x;Class\n0.png;9;2\n1.png;9;0\n2.png;9;1\n", None),
        ("0.png,2\n1.png,0\n2.png,1\n", None),
        ("file_name,label\n0.png,c\n1.png,a\n2.png,b\n", ("a", "b", "c")),
        (
            '{"file_name": "0.png", "label": 2}\n{"file_name": "1.png", "label": 0}\n{"file_name": "2.png", "label": 1}',
            None,
        ),
        ('[{"path": "0.png", "y": 2}, {"path": "1.png", "y": 0}, {"path": "2.png", "y": 1}]', None),
    ],
)
def test_tables(text: str, names: tuple[str, ...] | None, folder: Path) -> None:
    (folder / "table.csv").write_text(text)
    check(folder / "table.csv", [2, 0, 1], names)


def test_a_folder_with_a_table(folder: Path) -> None:
    (folder / "metadata.csv").write_text("file_name,label\n0.png,0\n1.png,1\n2.png,1\n")
    check(folder, [0, 1, 1])


@pytest.mark.parametrize("name", ["../0.png", "/etc/passwd", "a/../../0.png"])
def test_pictures_outside_the_folder_are_refused(name: str, folder: Path) -> None:
    (folder / "inside").mkdir()
    (folder / "inside" / "t.csv").write_text(f"path,label\n{name},0\n")
    with pytest.raises(UnreadableData, match="lies outside the table's folder"):
        read_data(folder / "inside" / "t.csv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "found a, b; rename them"),
        ("path,label\n", "got text|table is empty"),
        ("path,label\n0.png,\n", "some have none"),
        ('{"path": "0.png"', "damaged or of another kind"),
    ],
)
def test_tables_that_cannot_be_used(text: str, words: str, folder: Path) -> None:
    (folder / "t.csv").write_text(text)
    with pytest.raises(UnreadableData, match=words):
        read_data(folder / "t.csv")


def test_broken_pictures_are_named_or_refused(folder: Path) -> None:
    (folder / "1.png").write_bytes(b"\x89PNG broken")
    (folder / "t.csv").write_text("path,label\n0.png,0\n1.png,1\n2.png,1\n")
    data = read_data(folder / "t.csv")
    assert data.targets.tolist() == [0, 1]
    assert "left out, cannot be read: 1 (1.png)" in data.notes[0]
    with pytest.raises(UnreadableData, match="1 of 3 pictures cannot be read"):
        read_data(folder / "t.csv", strict=True)


def test_parquet_of_hugging_face(folder: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    cells = [{"bytes": (folder / f"{number}.png").read_bytes(), "path": None} for number in range(3)]
    notes = {"huggingface": json.dumps({"info": {"features": {"label": {"names": ["a", "b", "c"]}}}})}
    table = pyarrow.table({"image": cells, "label": [2, 0, 1]}).replace_schema_metadata(notes)
    path = folder / "validation-0.parquet"
    parquet.write_table(table, path)
    check(path, [2, 0, 1], ("a", "b", "c"))
    stream = io.BytesIO(path.read_bytes()[:100])
    path.write_bytes(stream.getvalue())
    with pytest.raises(UnreadableData, match="expected a parquet file"):
        read_data(path)
