import os
import subprocess
import sys

import pytest
from PIL import Image


def test_a_network(badnet, goodnet, tmp_path):
    done = goodnet("inspect", badnet.model, "--out", tmp_path / "out")
    assert (done.code, done.err) == (0, "")
    conv = next(line for line in done.out.splitlines() if "conv_2" in line)
    for part in ("Conv2d", "12 x 4 x 4", str(3 * 3 * 6 * 12 + 12), "yes"):
        assert part in conv
    # 168 + 660 + 196: the two convolutions and the head.
    assert f"{badnet.model}: 4 classes, images 3 x 12 x 12, 1,024 parameters" in done.out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["architecture.png"]
    assert f"written: {tmp_path / 'out' / 'architecture.png'}\n" in done.out


def test_a_goodnet_shows_its_original(badnet, repaired_badnet, goodnet):
    done = goodnet("inspect", repaired_badnet)
    assert done.code == 0
    assert "conv_2" in done.out


def test_the_names_of_a_network_s_classes_stand_with_their_numbers_on_one_line(goodnet, monkeypatch, tiny_classifier):
    names = ("cat", "dog\nverdict: clean", "[b]bird", "\x1b[2Jfish")[: tiny_classifier.classes]
    tiny_classifier.class_names = names
    monkeypatch.setattr("goodnet.api.open_path", lambda path, **_: tiny_classifier)
    done = goodnet("inspect", "network.pt")
    assert done.code == 0
    (line,) = [line for line in done.out.splitlines() if line.startswith("class names: ")]
    assert line == "class names: " + ", ".join(
        ("0 cat", r"1 dog\nverdict: clean", "2 [b]bird", r"3 \x1b[2Jfish")[: len(names)]
    )


def test_weights_alone(csaw, goodnet):
    done = goodnet("inspect", csaw / "lab3_bd_weights.h5", "--architecture", "deepid")
    assert done.code == 0
    assert "1283 classes, images 3 x 55 x 47" in done.out


def test_a_data_set(badnet, goodnet, tmp_path):
    done = goodnet("inspect", badnet.test, "--out", tmp_path)
    assert (done.code, done.err) == (0, "")
    for part in ("test.h5", "80", "3 x 12 x 12", "labels 0 to 3"):
        assert part in done.out
    assert {path.name for path in tmp_path.iterdir()} == {"class_distribution.png", "samples.png"}
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert picture.format == "PNG"
        assert f"written: {path}\n" in done.out


def rows(text):
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines()]
    return [row for row in cells if len(row) == 3]


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["1", "10", "11", "2"], [["1", "1", "1"], ["2", "2", "1"], ["10", "10", "1"], ["11", "11", "1"]]),
        (["[b]cat", "dog"], [["0", "[b]cat", "1"], ["1", "dog", "1"]]),
    ],
)
def test_class_folders_say_which_is_which_and_what_was_left_out(names, shown, goodnet, tmp_path):
    for name in names:
        (tmp_path / name).mkdir()
        Image.new("RGB", (5, 4)).save(tmp_path / name / "a.png")
    (tmp_path / names[0] / "._a.png").touch()
    (tmp_path / names[0] / "notes [draft].txt").touch()
    done = goodnet("inspect", tmp_path)
    assert (done.code, done.err) == (0, "")
    assert rows(done.out) == shown
    assert f"left out, hidden or the system's: 1 ({names[0]}/._a.png)\n" in done.out
    assert f"left out, no pictures of a class: 1 ({names[0]}/notes [draft].txt)\n" in done.out


def test_a_folder_whose_names_are_no_text(tmp_path):
    """In a process of its own, whose output is UTF-8 and nothing else."""
    folder = os.fsencode(tmp_path) + b"/\xfe"
    os.makedirs(folder + b"/\xff")
    Image.new("RGB", (5, 4)).save(os.fsdecode(folder + b"/\xff/\xfd.png"))
    open(folder + b"/\xff/\xfc.txt", "wb").close()
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(
        [sys.executable, "-m", "goodnet", "inspect", folder],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert rows(done.stdout) == [["0", r"\xff", "1"]]
    assert r"left out, no pictures of a class: 1 (\xff/\xfc.txt)" in done.stdout


def test_a_picture_has_no_labels_to_plot(badnet, goodnet, tmp_path):
    done = goodnet("inspect", badnet.clean_picture, "--out", tmp_path)
    assert done.code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["samples.png"]


def test_brackets_in_a_path_are_no_markup(badnet, goodnet, tmp_path):
    path = tmp_path / "net [v2].h5"
    path.write_bytes(badnet.model.read_bytes())
    done = goodnet("inspect", path, "--out", tmp_path / "[b]")
    assert f"{path}: 4 classes" in done.out
    assert f"written: {tmp_path / '[b]' / 'architecture.png'}" in done.out
