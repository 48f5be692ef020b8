"""Plots show the numbers that they were given, are whole PNG files, and leave pyplot alone."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnreadableData, UnwritableOutput
from goodnet.core.results import Metrics, Rate
from goodnet.reports.figures import (
    PruningCurve,
    draw_class_distribution,
    draw_pruning_curves,
    draw_rates,
    plain,
    plot_class_distribution,
    plot_pruning_curves,
    plot_rates,
)

ASCENDING = PruningCurve(
    "ascending", 4, [0.98, 0.97, 0.9, 0.5, 0.1], {"sunglasses.h5": [1, 1, 1, 0.6, 0]}, {0.02: 2, 0.04: 2, 0.1: 3}
)
DESCENDING = PruningCurve("descending", 4, [0.98, 0.4, 0.1], {}, {0.02: 1})


def make_data(labels, name="data.h5", **options) -> Dataset:
    return Dataset.from_arrays(np.zeros((len(labels), 1, 1, 1), dtype=np.uint8), labels, name=name, **options)


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def check_picture(path, low: int = 400, high: int = 4000) -> None:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert low <= min(picture.size) <= max(picture.size) <= high
        pixels = np.asarray(picture.convert("L"))
    assert pixels[0].min() == pixels[-1].min() == pixels[:, 0].min() == pixels[:, -1].min() == 255  # nothing is cut
    assert pixels.min() < 128


def test_pruning_curves_are_the_numbers_given():
    left, right = plot_pruning_curves([ASCENDING, DESCENDING]).axes
    lines = {line.get_label(): line for line in left.lines}
    np.testing.assert_allclose(lines["accuracy"].get_xdata(), [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(lines["accuracy"].get_ydata(), ASCENDING.accuracy)
    np.testing.assert_allclose(lines["ASR: sunglasses.h5"].get_ydata(), [1, 1, 1, 0.6, 0])
    np.testing.assert_allclose(right.lines[0].get_xdata(), [0, 0.25, 0.5])
    assert left.get_ylim() == right.get_ylim() == (0, 1.02)
    assert (left.get_xlabel(), left.get_ylabel()) == ("fraction of the 4 channels pruned", "rate")
    assert left.get_title(loc="left") == "ascending"


def test_thresholds_are_marked_where_they_were_reached():
    left, right = plot_pruning_curves([ASCENDING, DESCENDING]).axes
    assert {"2 %, 4 %: 2/4", "10 %: 3/4"} <= set(texts(left))
    assert "2 %: 1/4" in texts(right)
    stops = [line.get_xdata()[0] for line in left.lines if line.get_label() == "accuracy has dropped by"]
    assert sorted(stops) == [0.5, 0.75]
    rings = [line for line in left.lines if line.get_marker() == "o"]
    assert sorted((line.get_xdata()[0], line.get_ydata()[0]) for line in rings) == [(0.5, 0.9), (0.75, 0.5)]


@pytest.mark.parametrize("reached", [(45, 48, 52), (1, 2, 3), (29, 30, 31), (0, 30, 60)])
def test_threshold_labels_do_not_overlap(reached):
    curve = PruningCurve(
        "order", 60, np.linspace(1, 0, 61).tolist(), {}, dict(zip((0.02, 0.04, 0.1), reached, strict=True))
    )
    figure = plot_pruning_curves([curve, curve])
    figure.draw_without_rendering()
    labels = [t for ax in figure.axes for t in (*ax.texts, ax.title, ax._left_title) if t.get_text()]
    boxes = [text.get_window_extent() for text in labels]
    assert len(boxes) == 8
    assert not any(one.overlaps(two) for one, two in combinations(boxes, 2))
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes)


@pytest.mark.parametrize(
    "options",
    [
        {"accuracy": []},
        {"accuracy": [1.0] * 6},
        {"accuracy": [1.0, 0.5], "attack_success_rates": {"a": [1.0]}},
        {"accuracy": [1.0, 0.5], "thresholds": {0.02: 2}},
        {"accuracy": [1.0, 0.5], "thresholds": {2: 1}},
    ],
)
def test_curves_that_do_not_fit_are_errors(options):
    with pytest.raises(ValueError, match="'order'"):
        PruningCurve("order", 4, **options)


def test_nothing_to_draw_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="pruning curve"):
        draw_pruning_curves([], tmp_path / "x.png")
    with pytest.raises(ValueError, match="data set"):
        draw_class_distribution([], tmp_path / "x.png")
    with pytest.raises(ValueError, match="got none"):
        draw_rates([], tmp_path / "x.png")
    with pytest.raises(ValueError, match="without rates"):
        draw_rates([("net", Metrics())], tmp_path / "x.png")
    with pytest.raises(UnreadableData, match="no labels"):
        draw_class_distribution([Dataset.from_arrays(np.zeros((1, 1, 1, 1), np.uint8))], tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_bars_are_the_images_per_class():
    data = make_data([0, 0, 0, 2, 2, 3])
    other = make_data([1, 4], name="other.h5")
    left, right = plot_class_distribution([data, other]).axes
    assert [bar.get_height() for bar in left.patches] == [3, 0, 2, 1, 0]
    assert [bar.get_height() for bar in right.patches] == [0, 1, 0, 0, 1]
    assert left.get_title(loc="left") == "data.h5"
    assert "n = 6 images, 5 classes (2 empty)\nimages per class: min 0 / median 1 / max 3" in texts(left)


def test_many_classes_are_a_profile():
    labels = np.repeat(np.arange(1283), 2)
    (ax,) = plot_class_distribution([make_data([*labels, 7])]).axes
    heights = {int(line[0][0]): line[1][1] for line in ax.collections[0].get_segments()}
    assert heights == {k: 3 if k == 7 else 2 for k in range(1283)}
    assert "1,283 classes (0 empty)" in texts(ax)[0]


def test_class_names_and_a_known_number_of_classes():
    data = make_data([0, 1])
    named = Dataset(data.source, data.labels, "named", ("stop", "yield $", "go"))
    (ax,) = plot_class_distribution([named]).axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["stop", r"yield \$", "go"]
    (ax,) = plot_class_distribution([data], classes=9).axes
    assert len(ax.patches) == 9


def test_rates_are_dots_with_their_intervals():
    before = Metrics(clean_accuracy=Rate.of(98, 100), attack_success_rate={"glasses": Rate.of(50, 50)})
    after = Metrics(
        clean_accuracy=Rate.of(95, 100),
        attack_success_rate={"glasses": Rate.of(1, 50)},
        refused_clean=Rate.of(4, 100),
        refused_poisoned={"glasses": Rate.of(47, 50)},
    )
    (ax,) = plot_rates([("before", before), ("after", after)]).axes
    rates = [Rate.of(98, 100), Rate.of(95, 100), Rate.of(50, 50), Rate.of(1, 50), Rate.of(4, 100), Rate.of(47, 50)]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    bars = [line for line in ax.lines if line.get_marker() != "o"]
    assert [line.get_xdata()[0] for line in dots] == [rate.value for rate in rates]
    assert [tuple(line.get_xdata()) for line in bars] == [(rate.low, rate.high) for rate in rates]
    assert [dot.get_ydata()[0] for dot in dots] == [bar.get_ydata()[0] for bar in bars] == ax.get_yticks().tolist()
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["before", "after", "before", "after", "after", "after"]
    assert "0.9800  [0.930, 0.994]  n = 100" in texts(ax)


def test_files_are_whole_pictures_with_nothing_cut(tmp_path):
    check_picture(draw_pruning_curves([ASCENDING, DESCENDING], tmp_path / "a.png", title="orders of pruning"))
    long = "a network with a very long file name, fine-pruned and unlearned.safetensors"
    rows = [(long, Metrics(clean_accuracy=Rate.of(1_000_000, 1_000_000)))]
    check_picture(draw_rates(rows, tmp_path / "b.png"), low=150)
    data = make_data(np.arange(20), name=long)
    names = tuple(f"a long class name {k}" for k in range(20))
    named = Dataset(data.source, data.labels, long, names)
    check_picture(draw_class_distribution([named, data, data, data], tmp_path / "c.png"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "c.png"]


def test_a_path_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UnwritableOutput):
        draw_pruning_curves([ASCENDING], tmp_path / "file" / "a.png")


def test_plain_text_has_no_mathematics_and_an_end():
    assert plain("a\nb  c") == "a b c"
    assert plain("costs $5 or $6") == r"costs \$5 or \$6"
    assert len(plain("x" * 100, 20)) == 20
    assert plain("\x1b[1m\u202egpj.\udcff") == r"\x1b[1m\u202egpj.\xff"


def test_pyplot_is_never_imported(tmp_path):
    code = (
        "import sys; from goodnet.reports.figures import *; "
        "curve = PruningCurve('a', 1, [1.0, 0.0]); draw_pruning_curves([curve], sys.argv[1]); "
        "assert 'matplotlib.figure' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], check=True)
