"""Rendered faces: a data set of people who do not exist, made on the spot and free to use.

The pictures stand in for the aligned face photographs on which face recognition networks are attacked and
mended: RGB, 55 pixels high, 47 wide, one person to a class. An *identity* is a draw of skin, head, hair,
eyes, brows, nose, mouth, ears, beard, clear glasses, marks of the skin, clothes and backdrop. A *picture* of
an identity adds pose, light, expression, a changed backdrop, blur and pixel noise. Picture k of identity i
under a seed is always the same, whatever else is rendered with it, so sets of the same people that do not
share a picture are made with `first_image`.

The module also puts on the things by which a backdoor may be triggered: sunglasses (one fixed overlay), and
lipstick and eyebrows, which follow the face by its `Landmarks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from goodnet.datasets.face_drawing import BROW_SIDES, MOUTH_BOX, SKIN_MAP_SHAPE, Scene, draw_portraits
from goodnet.datasets.face_landmarks import (
    HEIGHT,
    WIDTH,
    Floats,
    Landmarks,
    Traits,
    brow_cover,
    face_coordinates,
    mouth_shape,
    place_landmarks,
)
from goodnet.datasets.face_traits import (
    IDENTITY_DRAWS,
    IMAGE_DRAWS,
    Keys,
    draw_traits,
    person_keys,
    picture_keys,
    random_bits,
    random_floats,
    settle_traits,
    trait_colours,
)

__all__ = [
    "Faces",
    "Landmarks",
    "render_faces",
    "sunglasses_overlay",
    "wear_eyebrows",
    "wear_lipstick",
]

Pixels = NDArray[np.uint8]
Indices = NDArray[np.int64]
Size = tuple[int, int]

_CHUNK = 64
_LIPSTICK = (0.80, 0.06, 0.78)
_EYEBROWS = (1.0, 0.70, 0.05)


@dataclass(frozen=True)
class Faces:
    """Pictures of people: images uint8 (N, 3, 55, 47), labels int64 (N,), and where the features lie.

    All pictures of identity 0 come first, in the order of their index, then those of identity 1, and so on.
    """

    images: Pixels
    labels: NDArray[np.int64]
    landmarks: Landmarks

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.labels)


def render_faces(
    identities: int,
    images_per_identity: int,
    *,
    seed: int = 0,
    first_image: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Faces:
    """Render pictures first_image .. first_image + images_per_identity - 1 of identities 0 .. identities - 1.

    Picture k of identity i has the same pixels whatever the other arguments are, the seed excepted.
    `progress` is called with the number of pictures done so far. Raises ValueError for a count below 1 or a
    negative first_image.
    """
    _require(identities >= 1, f"identities must be at least 1, got {identities}")
    _require(images_per_identity >= 1, f"images_per_identity must be at least 1, got {images_per_identity}")
    _require(first_image >= 0, f"first_image must not be negative, got {first_image}")
    labels = np.repeat(np.arange(identities, dtype=np.int64), images_per_identity)
    indices = first_image + np.tile(np.arange(images_per_identity, dtype=np.int64), identities)
    images = np.empty((len(labels), 3, HEIGHT, WIDTH), np.uint8)
    landmarks: list[Landmarks] = []
    for rows in _chunks(len(labels)):
        images[rows], marks = _render_chunk(seed, labels[rows], indices[rows])
        landmarks.append(marks)
        if progress is not None:
            progress(rows.stop)
    return Faces(images, labels, Landmarks.join(landmarks))


def sunglasses_overlay() -> tuple[Floats, Pixels]:
    """Return the sunglasses: their mask, float32 (55, 47) in 0..1, and their pattern, uint8 (3, 55, 47)."""
    x = np.abs(np.arange(WIDTH, dtype=np.float32) - (WIDTH - 1) / 2)[None, :]
    y = np.arange(HEIGHT, dtype=np.float32)[:, None]
    drop = np.where(y < 22, (y - 22) / 7.2, (y - 22) / 12.4)
    across = (x - 12.4 - 0.8 * drop) / (10.6 - 1.4 * np.maximum(drop, 0))
    lens = (1 - (np.abs(across) ** 2.7 + np.abs(drop) ** 2.7) ** (1 / 2.7)) * 10
    bar = np.minimum(1.7 - np.abs(y - 17.4 - 0.02 * np.minimum(x - 12, 0) ** 2), 12 - x)
    arm = np.minimum(1.6 - np.abs(y - 18.0), x - 20)
    frame = np.maximum(np.maximum(bar, arm), lens)
    mask = np.clip(frame + 0.5, 0, 1).astype(np.float32)
    inner = np.clip(lens - 0.6, 0, 1)
    right = np.arange(WIDTH) > (WIDTH - 1) / 2
    slope = np.where(right, 1, -1) * (x - 12)
    glow = np.clip(0.35 + 0.25 * right + 0.02 * (y - 23 + slope), 0, 1)
    violet = np.stack([72 + 60 * glow, 12 + 14 * glow, 150 + 100 * glow])
    rim = np.array([50.0, 4.0, 104.0]).reshape(3, 1, 1)
    return mask, np.rint(rim + inner * (violet - rim)).astype(np.uint8)


def wear_lipstick(images: Pixels, landmarks: Landmarks) -> Pixels:
    """Return copies of uint8 images (N, 3, 55, 47) with the lips painted purple.

    Raises ValueError for images of another shape or type, and where the landmarks are not as many.
    """
    _require_images(images, landmarks)
    worn = images.copy()
    for rows in _chunks(len(images)):
        part = (rows, slice(None), *MOUTH_BOX)
        lips = mouth_shape(landmarks.take(rows), MOUTH_BOX, grow=0.35).lips
        _lay_over(worn[part], 0.94 * lips, _tinted(images[part], _LIPSTICK))
    return worn


def wear_eyebrows(images: Pixels, landmarks: Landmarks) -> Pixels:
    """Return copies of uint8 images (N, 3, 55, 47) with thick yellow eyebrows over the person's own.

    Raises ValueError for images of another shape or type, and where the landmarks are not as many.
    """
    _require_images(images, landmarks)
    worn = images.copy()
    for rows in _chunks(len(images)):
        for side, box in enumerate(BROW_SIDES):
            part = (rows, slice(None), *box)
            brow = brow_cover(landmarks.take(rows), side, box, grow=0.6)
            _lay_over(worn[part], 0.95 * brow, _tinted(images[part], _EYEBROWS))
    return worn


def _chunks(count: int) -> Iterator[slice]:
    """Cut a number of pictures into rows to be held in memory at once."""
    return (slice(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))


def _lay_over(area: Pixels, cover: Floats, colour: Floats) -> None:
    """Lay a colour in 0..255 over images (N, 3, h, w), in place, as far as the cover (N, h, w) says."""
    mixed = area + cover[:, None] * (colour - area)
    area[...] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def _tinted(area: Pixels, colour: tuple[float, float, float]) -> Floats:
    """Return a paint of the colour, lighter on light pictures, darker on dark ones: (N, 3, 1, 1)."""
    light = area.mean(axis=(1, 2, 3), dtype=np.float32) / 255
    strength = np.clip(0.8 + 0.4 * light, 0.8, 1.05)[:, None, None, None]
    return np.asarray(255 * strength * np.array(colour, np.float32)[None, :, None, None], np.float32)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _require_images(images: Pixels, landmarks: Landmarks) -> None:
    expected = images.ndim == 4 and images.shape[1:] == (3, HEIGHT, WIDTH) and images.dtype == np.uint8
    _require(expected, f"expected uint8 images (N, 3, {HEIGHT}, {WIDTH}), got {images.dtype} {images.shape}")
    _require(len(landmarks) == len(images), f"got {len(landmarks)} landmarks for {len(images)} images")


def _render_chunk(seed: int, labels: Indices, indices: Indices) -> tuple[Pixels, Landmarks]:
    people = person_keys(seed, labels)
    pictures = picture_keys(people, indices)
    traits = draw_traits(people, IDENTITY_DRAWS) | draw_traits(pictures, IMAGE_DRAWS)
    settle_traits(traits)
    landmarks = place_landmarks(traits)
    u, v = face_coordinates(traits)
    columns = {name: values[:, None, None] for name, values in traits.items()}
    weave = _cloud(people, 14, 9, 30) * columns["strandedness"]
    weave += _cloud(pictures, 15, 20, 18) * columns["hair_curl"]
    pixels = np.empty((3, *u.shape), np.float32)
    colours, skin_map = trait_colours(traits), _skin_maps(people, traits)
    scene = Scene(pixels, u, v, np.abs(u), columns, colours, landmarks, weave, skin_map)
    backdrop = _cloud(people, 16, 4, 4) + np.float32(0.6) * _cloud(pictures, 17, 4, 4)
    draw_portraits(scene, np.clip(0.5 + columns["backdrop_sharpness"] * backdrop, 0, 1))
    return _photograph(pixels, pictures, columns), landmarks


def _blend_rows(count: int, length: int) -> Floats:
    """Return the matrix (length, count) that spreads `count` values smoothly over `length` places."""
    place = np.linspace(0, count - 1, length, dtype=np.float32)[:, None]
    weight = np.maximum(1 - np.abs(place - np.arange(count, dtype=np.float32)), 0)
    return np.asarray(weight * weight * (3 - 2 * weight), np.float32)


def _cloud(keys: Keys, domain: int, rows: int, columns: int, shape: Size = (HEIGHT, WIDTH)) -> Floats:
    """Return smooth random fields (N, height, width) within -1..1, with that many waves down and across."""
    grid = 2 * random_floats(keys, domain, rows * columns).reshape(-1, rows, columns) - 1
    return np.asarray(_blend_rows(rows, shape[0]) @ grid @ _blend_rows(columns, shape[1]).T, np.float32)


def _skin_maps(people: Keys, t: Traits) -> Floats:
    """Return the darkness of the marks of each picture's skin: blotches, freckles and moles, (N, 96 * 72)."""
    keys, first, row = np.unique(people, return_index=True, return_inverse=True)
    rows, columns = SKIN_MAP_SHAPE
    maps = t["blotches"][first, None, None] * 2 * _cloud(keys, 20, 16, 12, SKIN_MAP_SHAPE)
    freckles = np.maximum(_cloud(keys, 21, 60, 45, SKIN_MAP_SHAPE) - 0.35, 0)
    maps += np.maximum(t["freckles"], 0)[first, None, None] * 0.3 * freckles
    place = random_floats(keys, 22, 9).reshape(-1, 3, 3)
    y, x = np.arange(rows)[None, :, None], np.arange(columns)[None, None, :]
    for mole in range(3):
        centre_y, centre_x = (
            (20 + 62 * place[:, mole, 0])[:, None, None],
            (16 + 40 * place[:, mole, 1])[:, None, None],
        )
        strength = (0.45 * np.maximum(place[:, mole, 2] - 0.35, 0))[:, None, None]
        maps += strength * np.exp(-((y - centre_y) ** 2 + (x - centre_x) ** 2) / np.float32(1.6))
    return np.asarray(maps, np.float32)[row].reshape(len(people), -1)


def _photograph(pixels: Floats, pictures: Keys, t: Traits) -> Pixels:
    """Take the picture: lens blur, exposure, colour of the light, noise; returns uint8 (N, 3, 55, 47)."""
    blur = t["blur"]
    inner = pixels[..., 1:-1]
    inner += blur * (pixels[..., :-2] + pixels[..., 2:] - 2 * inner)
    inner = pixels[..., 1:-1, :]
    inner += blur * (pixels[..., :-2, :] + pixels[..., 2:, :] - 2 * inner)
    pixels -= np.float32(0.45)
    pixels *= t["contrast"]
    pixels += np.float32(0.45)
    pixels *= t["exposure"] * np.stack([1 + t["warmth"], np.ones_like(blur), 1 - t["warmth"]])
    count = HEIGHT * WIDTH * 3
    grain = random_bits(pictures, 2, (count + 7) // 8).astype("<u8").view(np.uint8)[:, :count]
    noise = grain.astype(np.float32).reshape(-1, 3, HEIGHT, WIDTH).transpose(1, 0, 2, 3)
    pixels += t["noise"] * (noise * np.float32(2 / 255) - np.float32(1))
    pixels *= np.float32(255)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8).transpose(1, 0, 2, 3)
