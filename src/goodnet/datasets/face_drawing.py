"""Draw a batch of small portraits from numbers.

This module holds the pencil, `goodnet.datasets.faces` holds the model: it says who the people are and where
their features lie (`Landmarks`), and `draw_portraits` turns that into pixels. Everything is evaluated for all
pictures of a batch at once, as soft-edged shapes (coverage from a distance to the outline) and Gaussian
shadows on the pixel grid. The head, the hair and the nose are drawn in *face coordinates* (the origin between
the cheeks, u to the right, v down, one unit per pixel at scale 1); eyes, brows and mouth are drawn in pixel
coordinates from the landmarks themselves, so that whoever has the landmarks can draw over the same shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from goodnet.datasets.face_landmarks import (
    HEIGHT,
    WIDTH,
    Box,
    Floats,
    Landmarks,
    Traits,
    brow_cover,
    column,
    local_coordinates,
    mouth_shape,
    soft_edge,
)

WHOLE: Box = (slice(0, HEIGHT), slice(0, WIDTH))
EYE_BAND: Box = (slice(10, 36), slice(0, WIDTH))
EYE_SIDES: tuple[Box, Box] = ((slice(13, 33), slice(2, 25)), (slice(13, 33), slice(22, 45)))
BROW_SIDES: tuple[Box, Box] = ((slice(7, 29), slice(0, 26)), (slice(7, 29), slice(21, WIDTH)))
NOSE_BOX: Box = (slice(14, 44), slice(8, 39))
LOWER_FACE: Box = (slice(24, HEIGHT), slice(0, WIDTH))
MOUTH_BOX: Box = (slice(32, 52), slice(8, 39))
SKIN_MAP_SHAPE = (96, 72)
SKIN_MAP_CELLS_PER_UNIT = 1.5

_SKIN_SHADOW = np.array([0.0, 0.16, 0.22], np.float32).reshape(3, 1, 1, 1)


@dataclass(frozen=True)
class Scene:
    """A batch of pictures being drawn.

    pixels: (3, N, 55, 47), RGB in 0..1.  u, v: (N, 55, 47), face coordinates of each pixel.  away: |u|.
    traits: each (N, 1, 1).  colours: each (3, N, 1, 1).  weave: (N, 55, 47), the hair's strands in -1..1.
    skin_map: (N, 96 * 72), the darkness of the skin's own marks over face coordinates.
    """

    pixels: Floats
    u: Floats
    v: Floats
    away: Floats
    traits: Traits
    colours: Traits
    landmarks: Landmarks
    weave: Floats
    skin_map: Floats

    def paint(self, box: Box, cover: Floats, colour: Floats | np.floating[Any]) -> None:
        """Lay a colour over the pixels of a box, as far as cover (N, rows, columns) says."""
        area = self.pixels[(slice(None), slice(None), *box)]
        area += cover * (colour - area)

    def grid(self, box: Box) -> tuple[Floats, Floats, Floats]:
        """Return u, v and |u| of a box."""
        part = (slice(None), *box)
        return self.u[part], self.v[part], self.away[part]


def draw_portraits(scene: Scene, backdrop: Floats) -> None:
    """Draw the whole portrait, from the backdrop (N, 55, 47; 0..1, the mix of two colours) to the glasses."""
    far, near = scene.colours["backdrop_far"], scene.colours["backdrop_near"]
    np.add(far, (near - far) * backdrop, out=scene.pixels)
    hair = _hair_tones(scene)
    _draw_clothes(scene)
    _draw_back_hair(scene, hair)
    _draw_neck_and_ears(scene)
    _draw_head(scene)
    _draw_beard(scene)
    _draw_front_hair(scene, hair)
    for side in (0, 1):
        _draw_eye(scene, side)
        _draw_brow(scene, side)
    _draw_mouth(scene)
    _draw_glasses(scene)


def _blob(x: Floats, y: Floats, width: Floats | float, height: Floats | float) -> Floats:
    """Return a Gaussian hill of height 1 at x = y = 0."""
    square = (x / width) ** 2
    square += (y / height) ** 2
    np.negative(square, out=square)
    return np.asarray(np.exp(square, out=square))


def _head_radius(scene: Scene, box: Box) -> tuple[Floats, Floats]:
    """Return the place of each pixel across and along the head, in units of its outline."""
    u, v, _ = scene.grid(box)
    t = scene.traits
    down = np.clip(v / t["chin"], 0, 1)
    across = u / (t["face_width"] * (1 - t["jaw_taper"] * down * down))
    along = np.where(v < 0, np.minimum(v + 7, 0) / (t["crown"] - 7), v / t["chin"])
    return across, along


def _hair_tones(scene: Scene) -> Floats:
    t = scene.traits
    sheen = _blob(scene.u - 6 * t["light_x"], scene.v + t["crown"] - 4, 11.0, 4.5)
    tone = 0.8 + 0.014 * t["light_x"] * scene.u - 0.006 * scene.v + t["hair_sheen"] * sheen
    tone += t["hair_grain"] * scene.weave
    return np.asarray(scene.colours["hair"] * tone, np.float32)


def _draw_clothes(scene: Scene) -> None:
    u, v, away = scene.grid(LOWER_FACE)
    t = scene.traits
    cloth = soft_edge(v - (t["collar"] + 0.14 * away), 1.2)
    folds = 0.9 + 0.25 * scene.weave[:, LOWER_FACE[0]] * t["hair_grain"] + 0.012 * t["light_x"] * u
    scene.paint(LOWER_FACE, cloth, scene.colours["cloth"] * folds)


def _hair_outline(scene: Scene, box: Box) -> Floats:
    """Return the coverage of the hair's outer shape: round above, straight down below the eyes."""
    u, v, _ = scene.grid(box)
    t = scene.traits
    volume = t["hair_volume"] * soft_edge(t["hair_length"] - 3 - v, 8.0)
    across = u / (t["face_width"] + 0.75 * volume)
    along = np.minimum(v + 7, 0) / (t["crown"] - 7 + t["hair_volume"])
    radius = np.sqrt(across * across + along * along)
    return soft_edge((1 - radius) * t["face_width"] + t["hair_curl"] * scene.weave[(slice(None), *box)], 1.6)


def _draw_back_hair(scene: Scene, hair: Floats) -> None:
    t = scene.traits
    length = soft_edge(t["hair_length"] + 2 * scene.weave - scene.v, 2.5)
    scene.paint(WHOLE, _hair_outline(scene, WHOLE) * length, hair * np.float32(0.72))


def _draw_neck_and_ears(scene: Scene) -> None:
    u, v, away = scene.grid(LOWER_FACE)
    t, skin = scene.traits, scene.colours["skin"]
    neck = (
        soft_edge(t["neck_width"] - away, 1.6)
        * soft_edge(v - 12, 2.0)
        * soft_edge(t["collar"] + 4 - 0.3 * away - v, 1.5)
    )
    scene.paint(LOWER_FACE, neck, skin * (0.62 + 0.012 * t["light_x"] * u))
    u, v, away = scene.grid(EYE_BAND)
    x, y = (away - t["face_width"] - 0.2) / t["ear_size"], (v - t["ear_level"]) / (1.7 * t["ear_size"])
    radius = np.sqrt(x * x + y * y)
    cover = soft_edge((1 - radius) * 2.2, 1.2) * soft_edge(t["ear_level"] - 1 - t["hair_length"] + 4, 2.0)
    tone = 0.72 + 0.15 * radius + 0.01 * t["light_x"] * u
    scene.paint(EYE_BAND, cover, skin * tone * np.array([1.06, 0.96, 0.94], np.float32).reshape(3, 1, 1, 1))


def _draw_head(scene: Scene) -> None:
    t = scene.traits
    across, along = _head_radius(scene, WHOLE)
    square = across * across
    square += along * along
    cover = soft_edge((1 - np.sqrt(square)) * t["face_width"], 1.3)
    facing = np.sqrt(np.maximum(1 - 0.95 * square, 0.04))
    shade = t["light_x"] * across + t["light_y"] * along + t["light_z"] * facing
    shade = t["ambient"] + (1 - t["ambient"]) * np.maximum(shade, 0)
    _shade_eye_sockets(scene, shade)
    _shade_nose(scene, shade)
    _shade_lower_face(scene, shade)
    shade -= _skin_marks(scene)
    tones = scene.colours["skin"] * (shade - _SKIN_SHADOW * shade * (1 - shade))
    tones[0] += t["blush"] * _blob(scene.away - 9.5, scene.v - 5.5, 4.5, 4.0)
    scene.paint(WHOLE, cover, tones)


def _skin_marks(scene: Scene) -> Floats:
    rows, columns = SKIN_MAP_SHAPE
    row = np.clip((scene.v * SKIN_MAP_CELLS_PER_UNIT + rows / 2).astype(np.int32), 0, rows - 1)
    column = np.clip((scene.u * SKIN_MAP_CELLS_PER_UNIT + columns / 2).astype(np.int32), 0, columns - 1)
    faces = np.arange(len(scene.u), dtype=np.int32)[:, None, None] * (rows * columns)
    return np.take(scene.skin_map.reshape(-1), faces + row * columns + column)


def _shade_eye_sockets(scene: Scene, shade: Floats) -> None:
    u, v, away = scene.grid(EYE_BAND)
    t = scene.traits
    area = shade[(slice(None), *EYE_BAND)]
    x, y = away - t["eye_spacing"], v - t["eye_level"]
    area -= t["socket_depth"] * _blob(x, y + 1.2, 5.2, 3.0)
    area -= 0.6 * t["socket_depth"] * _blob(away - 3.9, y, 1.7, 2.6)
    area -= 0.16 * t["age"] * _blob(x, y - 3.1, 3.4, 0.9)
    area += 0.05 * _blob(x, y - 5.0, 4.5, 2.0)
    brow = t["eye_level"] - t["brow_gap"]
    lines = np.exp(-((v - brow + 4.0) ** 2)) + np.exp(-((v - brow + 7.0) ** 2))
    area -= 0.09 * t["age"] * lines * np.exp(-((u / 9) ** 2))


def _shade_nose(scene: Scene, shade: Floats) -> None:
    u, v, _ = scene.grid(NOSE_BOX)
    t = scene.traits
    area = shade[(slice(None), *NOSE_BOX)]
    x, tip = u - 0.45 * t["yaw"], t["nose_tip"]
    below = v - tip
    progress = np.clip((v - t["eye_level"]) / t["nose_length"], 0, 1)
    side = x / (t["nose_bridge"] + (0.75 * t["nose_width"] - t["nose_bridge"]) * progress * progress)
    ridge = np.exp(-side * side) * soft_edge(1.2 - below, 2.0) * soft_edge(v - t["eye_level"] + 2, 4.0)
    relief = 0.3 + 1.5 * t["light_x"] * side - 0.45 * side * side * (1 - 0.5 * progress)
    area += t["nose_relief"] * ridge * relief
    spread = np.abs(x)
    area += 0.1 * t["nose_relief"] * 3 * _blob(x, below + 0.6, 1.3, 1.2)
    area -= t["nose_relief"] * 0.75 * _blob(x, below - 1.9, t["nose_width"] * 0.95, 0.95)
    area -= 0.34 * _blob(spread - t["nose_width"] * 0.55, below - 1.2, 0.95, 0.7)
    area -= 0.18 * _blob(spread - t["nose_width"] - 0.3, below - 0.2, 0.7, 1.5)


def _shade_lower_face(scene: Scene, shade: Floats) -> None:
    u, v, away = scene.grid(LOWER_FACE)
    t = scene.traits
    area = shade[(slice(None), *LOWER_FACE)]
    mouth, tip = t["mouth_level"], t["nose_tip"]
    area += 0.05 * _blob(away - 9.5, v - 3.0, 4.0, 3.0)
    area -= t["cheek_hollow"] * _blob(away - 12.0, v - 11.5, 3.4, 5.5)
    fold = away - t["nose_width"] - 1.7 - t["fold_slope"] * (v - tip)
    area -= (0.04 + 0.15 * t["age"]) * np.exp(-(fold * fold)) * soft_edge(2.2 - np.abs(v - tip - 2.0), 2.5)
    area -= 0.16 * _blob(u, v - mouth - t["lower_lip_height"] - 1.7, 3.8, 1.1)
    area += 0.05 * _blob(u, v - 0.5 * (mouth + t["chin"]) - 1.2, 4.0, 1.8)
    area -= 0.06 * _blob(u, v - 0.5 * (mouth + tip) - 0.6, 0.8, 1.6)
    area -= 0.08 * _blob(away - t["mouth_reach"] - 0.4, v - mouth + 0.8, 1.0, 1.0)


def _draw_beard(scene: Scene) -> None:
    u, v, away = scene.grid(LOWER_FACE)
    t = scene.traits
    across, along = _head_radius(scene, LOWER_FACE)
    face = soft_edge((1 - np.sqrt(across * across + along * along)) * t["face_width"] + 0.6, 1.6)
    weave = scene.weave[:, LOWER_FACE[0]]
    upper_edge = t["mouth_level"] + 2.4 - t["beard_rise"] * np.minimum((away / t["face_width"]) ** 2, 1)
    beard = soft_edge(v - upper_edge + weave, 3.0) * soft_edge(t["beard_reach"] - away, 3.0) * t["beard"]
    thickness = 1.0 + 0.9 * t["moustache_size"]
    height = t["mouth_level"] - t["upper_lip_height"] - 0.5 * thickness - 0.3 + 0.012 * u * u
    moustache = soft_edge(thickness - np.abs(v - height), 1.8) * soft_edge(t["mouth_reach"] + 0.7 - away, 1.5)
    cover = np.maximum(beard, moustache * t["moustache"]) * face * (1 + 0.3 * weave)
    scene.paint(LOWER_FACE, np.minimum(cover, 1), scene.colours["beard"] * (0.85 + 0.01 * t["light_x"] * u))


def _draw_front_hair(scene: Scene, hair: Floats) -> None:
    t = scene.traits
    side = np.minimum(scene.away / t["face_width"], 1.2)
    fourth = side**4
    fourth *= 0.25 + 0.75 * fourth
    line = t["hairline"] + (t["sideburn"] - t["hairline"]) * fourth + t["hair_part"] * scene.u
    line -= t["recede"] * _blob(side - 0.55, np.zeros_like(side), 0.25, 1.0)
    above = soft_edge(line - scene.v + t["fringe"] * scene.weave, 2.2)
    curtain = soft_edge(scene.away - t["curtain"] + scene.weave, 2.0)
    curtain *= soft_edge(t["hair_length"] - scene.v, 2.5) * soft_edge(scene.v - t["hairline"], 4.0)
    cover = np.maximum(above, curtain)
    scene.paint(WHOLE, cover * _hair_outline(scene, WHOLE) * t["hair_density"], hair)


def _draw_eye(scene: Scene, side: int) -> None:
    marks, box, t = scene.landmarks, EYE_SIDES[side], scene.traits
    centre = marks.left_eye if side == 0 else marks.right_eye
    x, y = local_coordinates(centre, marks.eye_angle[:, side], box)
    width, height = column(marks.eye_half_width[:, side]), column(marks.eye_half_height[:, side])
    bow = 1 - np.minimum((x / width) ** 2, 1.5)
    top, bottom = -height * bow, 0.7 * height * bow
    opening = soft_edge(np.minimum(y - top, bottom - y), 1.0)
    light = t["ambient"] + (1 - t["ambient"]) * 0.75
    scene.paint(box, opening, scene.colours["eye_white"] * light)
    gx, gy = x - t["gaze_x"], y + 0.15 - t["gaze_y"]
    distance = np.sqrt(gx * gx + gy * gy)
    scene.paint(box, opening * soft_edge(t["iris_size"] - distance, 0.9), scene.colours["iris"])
    scene.paint(box, opening * soft_edge(0.45 * t["iris_size"] - distance, 1.0) * 0.9, np.float32(0.04))
    glint = _blob(gx - 0.7 * t["light_x"] - 0.3, gy + 0.6, 0.5, 0.5)
    scene.paint(box, opening * glint * 0.55, np.float32(0.95))
    lash = soft_edge(t["lash"] - np.abs(y - top + 0.2), 0.9) * soft_edge(width + 0.4 - np.abs(x), 1.0)
    lower = soft_edge(0.25 - np.abs(y - bottom - 0.2), 1.0) * soft_edge(width - np.abs(x), 1.2) * 0.35
    scene.paint(box, np.maximum(lash * 0.85, lower), scene.colours["lash"])
    crease = np.exp(-((y - top + 1.7) ** 2)) * soft_edge(width - np.abs(x), 2.0) * t["lid_crease"]
    scene.paint(box, crease, scene.colours["skin"] * np.float32(0.5))


def _draw_brow(scene: Scene, side: int) -> None:
    box, t = BROW_SIDES[side], scene.traits
    cover = brow_cover(scene.landmarks, side, box) * t["brow_darkness"]
    cover *= 1 + 0.2 * scene.weave[(slice(None), *box)]
    scene.paint(box, np.minimum(cover, 1), scene.colours["brow"])


def _draw_mouth(scene: Scene) -> None:
    t, shape = scene.traits, mouth_shape(scene.landmarks, MOUTH_BOX)
    tone = 1.0 - 0.2 * shape.upper + 0.008 * t["light_x"] * scene.u[(slice(None), *MOUTH_BOX)]
    scene.paint(MOUTH_BOX, shape.lips * t["lip_cover"], scene.colours["lips"] * tone)
    gap = column(scene.landmarks.mouth_open)
    gleam = _blob(shape.depth - 0.65 * gap - 0.9, scene.grid(MOUTH_BOX)[0], 0.6, 2.5)
    scene.paint(MOUTH_BOX, gleam * shape.lips * t["lip_gleam"], np.float32(0.95))
    seam = np.exp(-((shape.depth / 0.55) ** 2)) * shape.lips * soft_edge(1.2 - gap, 1.0)
    scene.paint(MOUTH_BOX, seam * 0.7, scene.colours["mouth_dark"])
    scene.paint(MOUTH_BOX, shape.opening, scene.colours["mouth_dark"])
    teeth = shape.opening * soft_edge(t["teeth"] - shape.depth, 1.0) * soft_edge(t["teeth"], 1.0)
    scene.paint(MOUTH_BOX, teeth * 0.9, scene.colours["teeth"])


def _draw_glasses(scene: Scene) -> None:
    if not scene.traits["glasses"].any():
        return
    u, v, away = scene.grid(EYE_BAND)
    t = scene.traits
    x, y = away - t["eye_spacing"] - 0.3, v - t["eye_level"] - 0.6
    a, b = (x / t["glasses_width"]) ** 2, (y / t["glasses_height"]) ** 2
    round_part, square_part = np.sqrt(a + b), np.sqrt(np.sqrt(a * a + b * b))
    radius = square_part + t["glasses_round"] * (round_part - square_part)
    inside = (1 - radius) * t["glasses_height"]
    lens = soft_edge(inside, 1.2)
    rim = soft_edge(t["glasses_rim"] - np.abs(inside), 0.9)
    arms = soft_edge(0.45 - np.abs(y + 1.5), 1.0) * soft_edge(x - t["glasses_width"], 1.0)
    arms *= soft_edge(19 - away, 2.0)
    bridge = soft_edge(0.4 - np.abs(y + 1.0 - 0.05 * u * u), 1.0) * soft_edge(-t["glasses_width"] - x, 1.0)
    glare = _blob(x + y, x - y, 2.0, 4.0) * t["glasses_glare"]
    scene.paint(EYE_BAND, lens * t["glasses"] * glare, np.float32(0.92))
    frame = np.maximum(rim, np.maximum(arms, bridge)) * t["glasses"] * 0.85
    scene.paint(EYE_BAND, frame, scene.colours["glasses"])
