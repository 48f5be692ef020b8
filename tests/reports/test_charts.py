"""Charts for a page: every mark lies where its number says, whatever the width."""

import re

import pytest

from goodnet.reports.charts import class_chart, pruning_chart
from goodnet.reports.figures import PruningCurve


def dots(chart, kind):
    """Return the dots of a group as (percent from the left, percent from the bottom)."""
    paths = [line.path for line in chart.lines if line.kind.startswith("dot") and line.kind.endswith(kind)]
    return [(float(x), 100 - float(y)) for path in paths for x, y in re.findall(r"M(\S+) (\S+)h", path)]


def at(chart, value):
    """Return the height of a number on the chart's axis, from its ticks."""
    (low, *_, high) = chart.y_ticks
    slope = (high.y - low.y) / (float(high.text) - float(low.text))
    return low.y + slope * (value - float(low.text))


@pytest.mark.parametrize("classes", [2, 10, 60, 1283])
def test_every_class_has_its_dot(classes):
    values = [float(k % 7) for k in range(classes)]
    values[1] = 12.0
    chart = class_chart("score", values, threshold=8.0, suspected=[1])
    ((x, y),) = dots(chart, "suspected")
    assert (x, y) == (pytest.approx(150 / classes, abs=0.01), pytest.approx(at(chart, 12), abs=0.1))
    others = dots(chart, "others")
    assert [y for _, y in others] == pytest.approx([at(chart, v) for k, v in enumerate(values) if k != 1], abs=0.1)
    (note,) = chart.notes
    assert (note.text, note.y) == ("threshold 8", pytest.approx(at(chart, 8), abs=0.1))
    assert [mark.text for mark in chart.marks] == ["class 1: 12.0"]
    assert all(0 <= coordinate <= 100 for point in others for coordinate in point)
    assert len(chart.x_ticks) <= 10
    assert ("stem suspected" in {line.kind for line in chart.lines}) == (classes <= 60)


def test_values_that_are_missing_or_below_zero():
    chart = class_chart("size", [None, float("nan"), float("inf"), -2.0, 3.0], unscanned=[0])
    assert len(dots(chart, "others")) == 2
    assert min(y for _, y in dots(chart, "others")) >= 0
    assert [line.name for line in chart.legend] == []
    empty = class_chart("size", [None, None])
    assert dots(empty, "others") == []
    assert len(empty.y_ticks) > 1


def test_names_of_neighbours_do_not_meet():
    values = [0.0] * 1283
    for label in (100, 101, 102, 900):
        values[label] = 10.0
    marks = class_chart("score", values, suspected=[100, 101, 102, 900]).marks
    assert [mark.text for mark in marks] == ["class 900: 10.0", "class 102: 10.0"]
    sides = class_chart("score", [9.0, *[0.0] * 98, 9.0], suspected=[0, 99]).marks
    assert {mark.side for mark in sides} == {"left", "right"}


def test_a_pruning_curve():
    curve = PruningCurve("up", 4, [1.0, 0.5, 0.0], {"corner.h5": [1.0, 1.0, 0.25]}, {0.02: 1, 0.04: 1, 0.1: 2})
    chart = pruning_chart(curve)
    lines = {line.name: line.path for line in chart.lines if line.name}
    assert set(lines) == {"accuracy", "ASR: corner.h5"}
    points = [tuple(map(float, point.split())) for point in lines["accuracy"].removeprefix("M").split("L")]
    assert [x for x, _ in points] == [0, 25, 50]
    assert [100 - y for _, y in points] == pytest.approx([at(chart, v) for v in curve.accuracy], abs=0.1)
    assert [(note.x, note.text) for note in chart.notes] == [(25.0, "2 %, 4 %: 1"), (50.0, "10 %: 2")]
    assert "accuracy has dropped by" in {line.name for line in chart.legend}
