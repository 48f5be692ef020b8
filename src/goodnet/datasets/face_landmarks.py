"""Where the features of a rendered face lie on the picture, and the shapes of its brows and its mouth.

The pose turns face coordinates (the origin between the cheeks, u to the right, v down, one unit per pixel at
scale 1) into pixels: the head's yaw moves what lies near the middle of the face sideways, then come scale,
rotation and shift. Brows and mouth are shapes in pixel coordinates computed from the landmarks alone, so that
whoever has the landmarks can draw over the very pixels of the picture's own brows and lips.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Traits = dict[str, Floats]
Box = tuple[slice, slice]

HEIGHT, WIDTH = 55, 47
_CENTRE_X, _CENTRE_Y = (WIDTH - 1) / 2, (HEIGHT - 1) / 2 + 0.5
_TURN_RADIUS = 17.0
_X = np.arange(WIDTH, dtype=np.float32)[None, None, :]
_Y = np.arange(HEIGHT, dtype=np.float32)[None, :, None]


@dataclass(frozen=True)
class Landmarks:
    """Where the features of N faces lie, float32, in pixels; (0, 0) is the centre of the top left pixel.

    Points are (N, 2) arrays of (x, y). "Left" is the left of the picture, the smaller x. Arrays of shape (N,
    2) that are not points hold the left and the right value. Angles are in radians, of the line from the left
    to the right end, positive when the right end is lower.

    left_eye, right_eye, left_brow, right_brow, mouth: the centres.
    eye_half_width, eye_half_height: (N, 2), from the centre to the corner, and to the upper lid.
    eye_angle: (N, 2).
    brow_half_length, brow_thickness, brow_angle, brow_arch: (N, 2); the arch is how far the middle lies above
    the ends.
    mouth_half_width, upper_lip, lower_lip, mouth_open, mouth_angle, mouth_curve: (N,); the lips' heights in
    the middle, the height of the opening, and how far the corners lie above the middle (negative: below).
    """

    left_eye: Floats
    right_eye: Floats
    eye_half_width: Floats
    eye_half_height: Floats
    eye_angle: Floats
    left_brow: Floats
    right_brow: Floats
    brow_half_length: Floats
    brow_thickness: Floats
    brow_angle: Floats
    brow_arch: Floats
    mouth: Floats
    mouth_half_width: Floats
    upper_lip: Floats
    lower_lip: Floats
    mouth_open: Floats
    mouth_angle: Floats
    mouth_curve: Floats

    def __len__(self) -> int:
        """Return the number of faces."""
        return len(self.mouth)

    def take(self, rows: slice | NDArray[np.integer] | NDArray[np.bool_]) -> Landmarks:
        """Return the landmarks of some of the faces, chosen as numpy rows are: a slice, indices or a mask."""
        return Landmarks(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @staticmethod
    def join(parts: list[Landmarks]) -> Landmarks:
        """Return the landmarks of several batches, one after the other."""
        names = [field.name for field in fields(Landmarks)]
        return Landmarks(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def face_coordinates(t: Traits) -> tuple[Floats, Floats]:
    """Return the face coordinates of every pixel, (N, 55, 47) each: the pose, undone."""
    x = np.arange(WIDTH, dtype=np.float32)[None, None, :] - (_CENTRE_X + t["shift_x"])[:, None, None]
    y = np.arange(HEIGHT, dtype=np.float32)[None, :, None] - (_CENTRE_Y + t["shift_y"])[:, None, None]
    cosine, sine = (
        (np.cos(t["rotation"]) / t["scale"])[:, None, None],
        (np.sin(t["rotation"]) / t["scale"])[:, None, None],
    )
    across, down = cosine * x + sine * y, cosine * y - sine * x
    bulge = np.maximum(1 - (across / np.float32(_TURN_RADIUS)) ** 2, 0)
    return across - t["yaw"][:, None, None] * bulge, down


def _to_pixels(t: Traits, u: Floats, v: Floats) -> tuple[Floats, Floats]:
    """Return the pixel coordinates (N, 2) of points of the faces, and how wide a unit is drawn there."""
    bend = t["yaw"] / np.float32(_TURN_RADIUS**2)
    root = np.sqrt(1 + 4 * bend * (t["yaw"] + u))
    across = 2 * (t["yaw"] + u) / (1 + root)
    cosine, sine = np.cos(t["rotation"]) * t["scale"], np.sin(t["rotation"]) * t["scale"]
    x = np.float32(_CENTRE_X) + t["shift_x"] + cosine * across - sine * v
    y = np.float32(_CENTRE_Y) + t["shift_y"] + sine * across + cosine * v
    return np.stack([x, y], axis=1), t["scale"] / root


def _pair(left: Floats, right: Floats) -> Floats:
    return np.stack([left, right], axis=1)


def place_landmarks(t: Traits) -> Landmarks:
    """Put the features of the faces, pose and expression included, on the pixel grid."""
    scale, turn = t["scale"], t["rotation"]
    left_eye, left_eye_stretch = _to_pixels(t, -t["eye_spacing"], t["eye_level"])
    right_eye, right_eye_stretch = _to_pixels(t, t["eye_spacing"], t["eye_level"])
    brow_level = t["eye_level"] - t["brow_gap"] - t["brow_raise"]
    left_brow, left_brow_stretch = _to_pixels(t, -t["eye_spacing"] - 0.3, brow_level)
    right_brow, right_brow_stretch = _to_pixels(t, t["eye_spacing"] + 0.3, brow_level)
    mouth, mouth_stretch = _to_pixels(t, 0 * turn, t["mouth_level"])
    lid = t["eye_height"] * t["blink"] * scale
    return Landmarks(
        left_eye=left_eye,
        right_eye=right_eye,
        eye_half_width=t["eye_width"][:, None] * _pair(left_eye_stretch, right_eye_stretch),
        eye_half_height=_pair(lid, lid),
        eye_angle=_pair(turn + t["eye_tilt"], turn - t["eye_tilt"]),
        left_brow=left_brow,
        right_brow=right_brow,
        brow_half_length=t["brow_length"][:, None] * _pair(left_brow_stretch, right_brow_stretch),
        brow_thickness=_pair(t["brow_size"] * scale, t["brow_size"] * scale),
        brow_angle=_pair(turn + t["brow_tilt"], turn - t["brow_tilt"]),
        brow_arch=_pair(t["brow_arch"] * scale, t["brow_arch"] * scale),
        mouth=mouth,
        mouth_half_width=t["mouth_reach"] * mouth_stretch,
        upper_lip=t["upper_lip"] * scale,
        lower_lip=t["lower_lip"] * scale,
        mouth_open=t["talk"] * scale,
        mouth_angle=turn,
        mouth_curve=t["mouth_curve"] * scale,
    )


def brow_cover(landmarks: Landmarks, side: int, box: Box, grow: float = 0.0) -> Floats:
    """Return how far each pixel of a box lies on a brow (0 left, 1 right) grown by some pixels: (N, h, w)."""
    centre = landmarks.left_brow if side == 0 else landmarks.right_brow
    along, across = local_coordinates(centre, landmarks.brow_angle[:, side], box)
    reach = column(landmarks.brow_half_length[:, side]) + grow
    half = column(landmarks.brow_thickness[:, side]) / 2 + grow
    position = np.clip(along / reach, -1, 1)
    outward = position if side == 1 else -position
    square = position * position
    middle = -column(landmarks.brow_arch[:, side]) * (1 - square)
    thickness = half * (1.0 - 0.25 * outward) * (1 - 0.6 * square * square)
    return soft_edge(thickness - np.abs(across - middle), 1.2) * soft_edge(reach - np.abs(along), 1.4)


@dataclass(frozen=True)
class MouthShape:
    """How far each pixel lies on the lips, and in the opening between them, and its place there.

    All are (N, h, w); depth is the distance in pixels below the line in which closed lips meet.
    """

    lips: Floats
    opening: Floats
    upper: Floats
    depth: Floats


def mouth_shape(landmarks: Landmarks, box: Box, grow: float = 0.0) -> MouthShape:
    """Return the shape of the mouths in a box; the lips are made thicker by `grow` pixels."""
    along, across = local_coordinates(landmarks.mouth, landmarks.mouth_angle, box)
    reach = column(landmarks.mouth_half_width) + grow
    position = np.clip(along / reach, -1, 1)
    bow = 1 - position * position
    depth = across + column(landmarks.mouth_curve) * (position * position - 0.3)
    gap = column(landmarks.mouth_open) * bow
    dip = 1 - 0.22 * np.exp(-((along / 1.3) ** 2))
    top = -0.35 * gap - (column(landmarks.upper_lip) + grow) * bow * dip - 0.2
    bottom = 0.65 * gap + (column(landmarks.lower_lip) + grow) * bow * (1.4 - 0.4 * bow) + 0.2
    ends = soft_edge(reach - np.abs(along), 1.2)
    whole = soft_edge(np.minimum(depth - top, bottom - depth), 1.1) * ends
    opening = soft_edge(np.minimum(depth + 0.35 * gap, 0.65 * gap - depth) - 0.35, 1.0) * ends
    return MouthShape(whole * (1 - opening), opening, soft_edge(-depth, 1.0), depth)


def column(values: Floats) -> Floats:
    """Return one value per face as an array (N, 1, 1), to be combined with grids of pixels."""
    return values[:, None, None]


def soft_edge(inside: Floats, softness: float) -> Floats:
    """Turn a distance inside an outline, in pixels, into a coverage of 0..1."""
    cover = inside * np.float32(1 / softness)
    cover += np.float32(0.5)
    return np.clip(cover, 0, 1, out=cover)


def local_coordinates(centre: Floats, angle: Floats, box: Box) -> tuple[Floats, Floats]:
    """Return the coordinates of a box's pixels along and across a turned feature."""
    dx = _X[:, :, box[1]] - centre[:, 0, None, None]
    dy = _Y[:, box[0]] - centre[:, 1, None, None]
    cosine, sine = column(np.cos(angle)), column(np.sin(angle))
    return cosine * dx + sine * dy, cosine * dy - sine * dx
