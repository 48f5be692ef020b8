"""Plots of one value per class show every class; the plot of a scan its threshold and the suspects by name too."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from goodnet.core.backdoor import Backdoor
from goodnet.core.repairs import ClassAccuracy
from goodnet.core.results import Detection
from goodnet.reports.class_figures import draw_scores, plot_changes, plot_scores
from goodnet.reports.figures import NARROW
from tests.reports.conftest import make_detection
from tests.reports.test_figures import check_picture, texts


def detect(classes: int, targets=(), **more) -> Detection:
    scores = np.random.default_rng(0).uniform(0, 3, classes)
    scores[list(targets)] = 10 + np.arange(len(targets))
    suspected = tuple(Backdoor(None, target) for target in targets)
    return Detection("backdoored" if targets else "clean", tuple(scores.tolist()), 8.0, suspected, **more)


def groups(ax):
    """Return what is drawn as dots: name -> (class, value) pairs."""
    return {dots.get_label(): dots.get_xydata() for dots in ax.lines if dots.get_label()[0] != "_"}


@pytest.mark.parametrize("classes", [2, 10, 60, 61, 1283])
def test_every_class_is_there_and_the_suspect_is_named(classes):
    detection = detect(classes, [1])
    (ax,) = plot_scores(detection).axes
    found = groups(ax)
    assert found["suspected"].tolist() == [[1.0, 10.0]]
    assert len(found["others"]) == classes - 1
    by_class = dict(np.concatenate([found["others"], found["suspected"]]).tolist())
    assert [by_class[k] for k in range(classes)] == pytest.approx(detection.scores)
    assert {"threshold 8", "class 1: 10.0"} <= set(texts(ax))
    (line,) = [line for line in ax.lines if line.get_label() == "_threshold"]
    assert set(line.get_ydata()) == {8.0}
    assert ax.get_title(loc="left") == "backdoored, target 1"
    assert ax.get_ylim()[1] > 10


def test_each_kind_of_evidence_has_a_panel():
    score, margin, size = plot_scores(make_detection()).axes
    assert [ax.get_ylabel() for ax in (score, margin, size)] == ["score", "margin", "size"]
    assert groups(margin)["suspected"].tolist() == [[0.0, 6.0]]
    assert groups(size)["others"].tolist() == [[1.0, 0.0], [2.0, 1.5], [3.0, 0.0]]
    assert "threshold 8" not in texts(margin)


def test_what_is_far_below_the_threshold_looks_so_in_every_panel_and_dots_at_0_are_whole():
    noise = make_detection(evidence={"margin": (0.05, 0.0, 0.0, 0.0), "size": (9.5, 0.0, 0.0, 0.0)})
    _, margin, size = plot_scores(noise).axes
    assert margin.get_ylim()[1] == 8.0
    assert size.get_ylim()[1] > 9.5
    for ax in (margin, size):
        assert ax.get_ylim()[0] <= -0.08 * ax.get_ylim()[1]


def test_unscanned_classes_are_told_apart_and_missing_scores_left_out():
    detection = detect(8, [2], unscanned=(6, 7))
    scores = (*detection.scores[:5], float("nan"), *detection.scores[6:])
    (ax,) = plot_scores(Detection("backdoored", scores, 8.0, detection.suspected, (6, 7))).axes
    found = groups(ax)
    assert found["unscanned"][:, 0].tolist() == [6.0, 7.0]
    assert found["others"][:, 0].tolist() == [0.0, 1.0, 3.0, 4.0]
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {"others", "unscanned", "suspected"}
    (ax,) = plot_scores(Detection("inconclusive", (float("nan"),) * 3, 8.0)).axes
    assert "no class has a score" in texts(ax)


@pytest.mark.parametrize("width", [9.0, NARROW])
@pytest.mark.parametrize("targets", [[100, 105, 110, 700, 1282], [0, 1282], [1282]])
def test_labels_do_not_cover_one_another(width, targets):
    detection = replace(detect(1283, targets), threshold=9.5)
    figure = plot_scores(detection, width=width)
    figure.canvas.draw()
    labels = [text for text in figure.axes[0].texts if not text.get_text().startswith("threshold")]
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    named = {text.get_text().removeprefix("class ").partition(":")[0] for text in labels}
    assert named <= set(map(str, targets))
    assert len(named) >= min(len(targets), 3)
    assert not any(one.overlaps(two) for one, two in combinations(boxes, 2))
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert figure.get_figwidth() == width


def test_changes_are_after_minus_before_of_the_classes_given():
    rows = [ClassAccuracy(label=k, before=0.75, after=after, n=8) for k, after in ((2, 0.5), (1_000_000, 1.0))]
    (ax,) = plot_changes(rows).axes
    assert groups(ax)["others"].tolist() == [[2.0, -0.25], [1_000_000.0, 0.25]]
    assert ax.get_xlim()[1] > 1_000_000


def test_hundreds_of_suspects_do_not_fill_the_title():
    (ax,) = plot_scores(detect(300, range(200))).axes
    assert ax.get_title(loc="left") == "backdoored, targets 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, …"


def test_the_picture_is_whole(tmp_path):
    for name, detection in {"few": make_detection(), "many": detect(1283, [0, 1282]), "none": detect(10)}.items():
        check_picture(draw_scores(detection, tmp_path / f"{name}.png"))
