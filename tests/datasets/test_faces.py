"""Tests of the rendered faces: their pixels, their landmarks, and what can be worn on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from goodnet.datasets.faces import (
    Faces,
    Landmarks,
    render_faces,
    sunglasses_overlay,
    wear_eyebrows,
    wear_lipstick,
)

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def faces() -> Faces:
    """Return 20 people with 15 pictures each."""
    return render_faces(20, 15)


def distances(points: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return how far every pixel is from one point per face, (N, 55, 47)."""
    y, x = np.mgrid[0:55, 0:47]
    return np.asarray(np.hypot(x - points[:, 0, None, None], y - points[:, 1, None, None]))


def mean_colour(images: Pixels, near: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean red, green and blue of the pixels within a mask (N, 55, 47), (N, 3)."""
    return np.asarray((images * near[:, None]).sum(axis=(2, 3)) / near.sum(axis=(1, 2))[:, None])


def test_shapes_types_and_order(faces: Faces) -> None:
    assert faces.images.shape == (300, 3, 55, 47)
    assert faces.images.dtype == np.uint8
    assert faces.labels.dtype == np.int64
    assert faces.labels.tolist() == [person for person in range(20) for _ in range(15)]
    assert len(faces) == len(faces.landmarks) == 300
    for field in fields(Landmarks):
        values = getattr(faces.landmarks, field.name)
        assert values.dtype == np.float32, field.name
        assert values.shape in {(300,), (300, 2)}, field.name
        assert np.isfinite(values).all(), field.name


def test_pictures_use_the_range_of_grey_levels(faces: Faces) -> None:
    means = faces.images.mean(axis=(1, 2, 3))
    spreads = faces.images.std(axis=(1, 2, 3))
    assert 60 < means.mean() < 190
    assert spreads.min() > 8
    assert (faces.images == 255).mean() < 0.06
    assert (faces.images == 0).mean() < 0.06


def test_same_seed_same_pixels_other_seed_other_faces() -> None:
    first, again, other = (render_faces(2, 2, seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.landmarks.mouth, again.landmarks.mouth)
    assert np.abs(first.images.astype(int) - other.images).mean() > 10


def test_a_picture_does_not_depend_on_the_other_arguments(faces: Faces) -> None:
    fewer = render_faces(7, 4, first_image=11)
    rows = np.concatenate([np.arange(15 * person + 11, 15 * person + 15) for person in range(7)])
    assert np.array_equal(fewer.images, faces.images[rows])
    for field in fields(Landmarks):
        part = getattr(faces.landmarks.take(rows), field.name)
        assert np.array_equal(getattr(fewer.landmarks, field.name), part), field.name


def test_a_picture_does_not_depend_on_the_chunk(faces: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goodnet.datasets.faces._CHUNK", 7)
    assert np.array_equal(render_faces(3, 15).images, faces.images[:45])


def test_progress_counts_up_to_all_pictures() -> None:
    counts: list[int] = []
    render_faces(50, 3, progress=counts.append)
    assert counts == sorted(set(counts))
    assert counts[-1] == 150


def test_pictures_of_one_person_differ_but_less_than_people_do(faces: Faces) -> None:
    groups = faces.images.reshape(20, 15, -1).astype(np.float32)
    within = np.abs(groups[:, 0] - groups[:, 1]).mean(axis=1)
    between = np.abs(groups[:-1, 0] - groups[1:, 0]).mean(axis=1)
    assert within.min() > 5
    assert between.mean() > 1.5 * within.mean()


def linear_accuracy(faces: Faces, rows: slice, columns: slice) -> float:
    """Return how often a linear fit to ten pictures names the person of others, seen through a window."""
    window = faces.images[:, :, rows, columns].astype(np.float64).reshape(20, 15, -1)
    window -= window.mean(axis=2, keepdims=True)
    window /= np.linalg.norm(window, axis=2, keepdims=True)
    known, unknown = window[:, :10].reshape(200, -1), window[:, 10:].reshape(100, -1)
    truth = np.repeat(np.eye(20), 10, axis=0)
    scores = unknown @ known.T @ np.linalg.solve(known @ known.T + 0.01 * np.eye(200), truth)
    return float((scores.argmax(axis=1) == np.repeat(np.arange(20), 5)).mean())


def test_people_are_told_apart_on_pictures_not_seen_before(faces: Faces) -> None:
    assert linear_accuracy(faces, slice(0, 55), slice(0, 47)) > 0.95


def test_people_are_told_apart_by_the_face_without_the_backdrop(faces: Faces) -> None:
    assert linear_accuracy(faces, slice(8, 50), slice(9, 38)) > 0.95


def test_eyes_have_more_contrast_than_cheeks(faces: Faces) -> None:
    grey = faces.images.mean(axis=1)
    marks = faces.landmarks
    for eye in (marks.left_eye, marks.right_eye):
        at_eye = distances(eye) < 3
        below = distances(eye + np.array([0, 7], np.float32)) < 2.5
        contrast = [grey[n][at_eye[n]].std() - grey[n][below[n]].std() for n in range(len(faces))]
        assert np.mean(np.array(contrast) > 0) > 0.95


def erased(part: str, monkeypatch: pytest.MonkeyPatch, faces: Faces) -> NDArray[np.float64]:
    """Return how much each pixel changes when a part of the face is not drawn, (N, 55, 47)."""
    monkeypatch.setattr(f"goodnet.datasets.face_drawing.{part}", lambda *_: None)
    bare = render_faces(20, 15).images
    return np.asarray(np.abs(bare.astype(np.float64) - faces.images).sum(axis=1))


def centres(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the centre of mass (x, y) of each picture, (N, 2)."""
    y, x = np.mgrid[0:55, 0:47]
    total = weights.sum(axis=(1, 2))
    moments = [(weights * axis).sum(axis=(1, 2)) / total for axis in (x, y)]
    return np.asarray(np.stack(moments, axis=1))


@pytest.mark.parametrize(("part", "name"), [("_draw_eye", "eye"), ("_draw_brow", "brow")])
def test_eyes_and_brows_are_drawn_at_their_landmarks(
    faces: Faces, monkeypatch: pytest.MonkeyPatch, part: str, name: str
) -> None:
    change = erased(part, monkeypatch, faces)
    for side in ("left", "right"):
        points = getattr(faces.landmarks, f"{side}_{name}")
        nearby = change * (distances(points) < 8)
        visible = nearby.sum(axis=(1, 2)) > 400
        assert visible.mean() > 0.8
        offset = np.linalg.norm(centres(nearby[visible]) - points[visible], axis=1)
        assert np.mean(offset) < 1.2


def test_the_mouth_is_drawn_at_its_landmark(faces: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    change = erased("_draw_mouth", monkeypatch, faces)
    offset = np.linalg.norm(centres(change) - faces.landmarks.mouth, axis=1)
    assert offset.mean() < 1.2
    changed_by_lipstick = np.any(wear_lipstick(faces.images, faces.landmarks) != faces.images, axis=1)
    outside = (change * ~changed_by_lipstick).sum() / change.sum()
    assert outside < 0.2


def test_brows_worn_cover_the_brows_drawn(faces: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    change = erased("_draw_brow", monkeypatch, faces)
    worn = np.any(wear_eyebrows(faces.images, faces.landmarks) != faces.images, axis=1)
    assert (change * ~worn).sum() / change.sum() < 0.1


def test_the_mouth_is_redder_than_the_cheeks(faces: Faces) -> None:
    marks = faces.landmarks
    mouth = mean_colour(faces.images, distances(marks.mouth + np.array([0, 1], np.float32)) < 1.6)
    cheek = mean_colour(faces.images, distances(marks.left_eye + np.array([0, 8], np.float32)) < 2)
    redness = mouth[:, 0] / mouth.sum(axis=1) - cheek[:, 0] / cheek.sum(axis=1)
    assert redness.mean() > 0.02


def test_features_lie_where_faces_have_them(faces: Faces) -> None:
    marks = faces.landmarks
    assert np.all(marks.left_eye[:, 0] < marks.mouth[:, 0])
    assert np.all(marks.mouth[:, 0] < marks.right_eye[:, 0])
    assert np.all(marks.left_brow[:, 1] < marks.left_eye[:, 1])
    assert np.all(marks.left_eye[:, 1] < marks.mouth[:, 1])
    assert np.all((marks.mouth > 0) & (marks.mouth < [47, 55]))


def test_sunglasses_are_a_mask_with_soft_edges_and_its_pixels() -> None:
    mask, pattern = sunglasses_overlay()
    assert mask.dtype == np.float32
    assert mask.shape == (55, 47)
    assert pattern.dtype == np.uint8
    assert pattern.shape == (3, 55, 47)
    assert 0.2 < mask.mean() < 0.45
    assert np.any((mask > 0) & (mask < 1))


def test_sunglasses_cover_the_eyes(faces: Faces) -> None:
    mask, _ = sunglasses_overlay()
    for eye in (faces.landmarks.left_eye, faces.landmarks.right_eye):
        columns, rows = np.rint(eye).astype(int).T
        assert mask[rows, columns].mean() > 0.98


def test_lipstick_follows_the_mouth(faces: Faces) -> None:
    marks = faces.landmarks
    worn = wear_lipstick(faces.images, marks)
    changed = np.any(worn != faces.images, axis=1)
    reach = marks.mouth_half_width + 4
    assert not np.any(changed & (distances(marks.mouth) > reach[:, None, None]))
    assert changed.sum(axis=(1, 2)).min() >= 15
    painted = np.abs(worn.astype(int) - faces.images).sum(axis=1) > 60
    colour = (worn * painted[:, None]).sum(axis=(0, 2, 3)) / painted.sum()
    assert colour[0] > 2 * colour[1]
    assert colour[2] > 2 * colour[1]


def test_eyebrows_follow_the_brows(faces: Faces) -> None:
    marks = faces.landmarks
    worn = wear_eyebrows(faces.images, marks)
    changed = np.any(worn != faces.images, axis=1)
    reach = (marks.brow_half_length.max(axis=1) + 3)[:, None, None]
    near = np.minimum(distances(marks.left_brow), distances(marks.right_brow)) <= reach
    assert not np.any(changed & ~near)
    assert changed.sum(axis=(1, 2)).min() >= 20
    painted = np.abs(worn.astype(int) - faces.images).sum(axis=1) > 60
    colour = (worn * painted[:, None]).sum(axis=(0, 2, 3)) / painted.sum()
    assert colour[0] > colour[1] > 1.5 * colour[2]


def test_what_is_worn_can_be_put_on_a_selection(faces: Faces) -> None:
    rows = np.array([3, 250, 17])
    part, marks = faces.images[rows], faces.landmarks.take(rows)
    for wear in (wear_lipstick, wear_eyebrows):
        whole = wear(faces.images, faces.landmarks)
        assert np.array_equal(wear(part, marks), whole[rows])
        assert wear(part[:0], faces.landmarks.take(slice(0, 0))).shape == (0, 3, 55, 47)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, 0), "identities must be at least 1, got 0"),
        ((1, 0, 0), "images_per_identity must be at least 1, got 0"),
        ((1, 1, -2), "first_image must not be negative, got -2"),
    ],
)
def test_bad_counts_are_refused(arguments: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        render_faces(arguments[0], arguments[1], first_image=arguments[2])


@pytest.mark.parametrize("wear", [wear_lipstick, wear_eyebrows])
def test_landmarks_must_match_the_images(faces: Faces, wear: Callable[[Pixels, Landmarks], Pixels]) -> None:
    with pytest.raises(ValueError, match="got 300 landmarks for 2 images"):
        wear(faces.images[:2], faces.landmarks)


@pytest.mark.parametrize(
    "images", [np.zeros((2, 55, 47, 3), np.uint8), np.zeros((3, 55, 47), np.uint8), np.zeros((2, 3, 55, 47))]
)
def test_images_of_another_shape_or_type_are_refused(images: Pixels, faces: Faces) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 images \(N, 3, 55, 47\), got"):
        wear_lipstick(images, faces.landmarks)
