"""Who the people of the rendered faces are: the tables of their traits, and how the traits are drawn.

Every person, and every picture of a person, has a key, a well mixed 64-bit number; all its random numbers are
computed from that key alone, so they do not depend on what else is drawn, nor in which order.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from goodnet.datasets.face_landmarks import Floats, Traits

Keys = NDArray[np.uint64]


class Draw(NamedTuple):
    """How a trait is drawn: bell-shaped within three spreads of the centre, or flat within one."""

    centre: float
    spread: float
    flat: bool = False


IDENTITY_DRAWS = {
    "skin_tone": Draw(0.5, 0.5, True),
    "skin_warmth": Draw(0, 0.35),
    "blush": Draw(0.05, 0.02),
    "freckles": Draw(-0.6, 1.2, True),
    "blotches": Draw(0.025, 0.008),
    "age": Draw(0.45, 0.55, True),
    "face_width": Draw(17.0, 1.1),
    "chin": Draw(24.6, 1.0),
    "crown": Draw(26.5, 1.2),
    "jaw_taper": Draw(0.09, 0.085),
    "cheek_hollow": Draw(0.09, 0.05),
    "socket_depth": Draw(0.22, 0.05),
    "neck_width": Draw(11.5, 1.2),
    "ear_size": Draw(2.6, 0.4),
    "ear_level": Draw(-0.5, 1.0),
    "eye_spacing": Draw(8.4, 0.55),
    "eye_level": Draw(-4.8, 0.8),
    "eye_width": Draw(3.4, 0.3),
    "eye_height": Draw(1.5, 0.24),
    "eye_tilt": Draw(0.03, 0.06),
    "iris_size": Draw(1.5, 0.1),
    "iris_kind": Draw(0.5, 0.5, True),
    "lid_crease": Draw(0.4, 0.15),
    "brow_gap": Draw(4.1, 0.55),
    "brow_length": Draw(4.6, 0.5),
    "brow_size": Draw(1.8, 0.38),
    "brow_tilt": Draw(0.06, 0.07),
    "brow_arch": Draw(0.9, 0.32),
    "brow_darkness": Draw(0.8, 0.1),
    "nose_width": Draw(3.3, 0.45),
    "nose_length": Draw(11.4, 0.9),
    "nose_bridge": Draw(1.6, 0.3),
    "nose_relief": Draw(0.28, 0.05),
    "mouth_drop": Draw(6.6, 0.7),
    "mouth_width": Draw(6.2, 0.65),
    "upper_lip": Draw(1.15, 0.28),
    "lower_lip": Draw(1.6, 0.33),
    "lip_redness": Draw(0.6, 0.2),
    "mouth_rest": Draw(0.3, 0.4),
    "femininity": Draw(0.5, 0.5, True),
    "hair_style": Draw(0.5, 0.5, True),
    "hair_melanin": Draw(0.5, 0.5, True),
    "hair_redness": Draw(0.3, 0.4),
    "hair_greyness": Draw(-0.2, 1.0, True),
    "hairline_height": Draw(-17.0, 1.6),
    "hair_volume": Draw(2.6, 0.8),
    "hair_part": Draw(0.0, 0.12),
    "hair_curl": Draw(0.6, 0.6, True),
    "hair_grain": Draw(0.2, 0.05),
    "hair_sheen": Draw(0.28, 0.12),
    "hair_fall": Draw(0.5, 0.5, True),
    "recession": Draw(0.0, 6.0, True),
    "beard_kind": Draw(0.5, 0.5, True),
    "beard_strength": Draw(0.55, 0.2),
    "beard_rise": Draw(11.0, 2.5),
    "beard_reach": Draw(13.0, 7.0, True),
    "moustache_kind": Draw(0.5, 0.5, True),
    "moustache_size": Draw(0.5, 0.5, True),
    "glasses_kind": Draw(0.5, 0.5, True),
    "glasses_width": Draw(5.9, 0.35),
    "glasses_height": Draw(4.1, 0.45),
    "glasses_round": Draw(0.5, 0.5, True),
    "glasses_rim": Draw(0.32, 0.1),
    "glasses_tone": Draw(0.5, 0.5, True),
    "collar": Draw(22.5, 1.0),
    "cloth_light": Draw(0.45, 0.45, True),
    "cloth_red": Draw(0, 0.1),
    "cloth_blue": Draw(0.02, 0.1),
    "far_light": Draw(0.45, 0.4, True),
    "far_red": Draw(0.01, 0.06),
    "far_blue": Draw(-0.02, 0.06),
    "near_light": Draw(0.45, 0.4, True),
    "near_red": Draw(0.02, 0.06),
    "near_blue": Draw(-0.03, 0.06),
    "backdrop_sharpness": Draw(3.0, 2.0, True),
}

IMAGE_DRAWS = {
    "shift_x": Draw(0, 0.7),
    "shift_y": Draw(0, 0.7),
    "rotation": Draw(0, 0.04),
    "scale": Draw(1.0, 0.022),
    "yaw": Draw(0, 1.2),
    "light_x": Draw(0, 0.28),
    "light_y": Draw(-0.2, 0.16),
    "ambient": Draw(0.44, 0.07),
    "warmth": Draw(0.01, 0.035),
    "exposure": Draw(1.08, 0.08),
    "contrast": Draw(1.05, 0.07),
    "smile": Draw(0.8, 0.45),
    "talk": Draw(0.2, 1.9, True),
    "teeth_shown": Draw(0.2, 1.2, True),
    "blink": Draw(0.95, 0.13),
    "brow_raise": Draw(0, 0.35),
    "gaze_x": Draw(0, 0.45),
    "gaze_y": Draw(0, 0.2),
    "glasses_glare": Draw(0.05, 0.25, True),
    "blur": Draw(0.1, 0.045),
    "noise": Draw(0.022, 0.006),
    "backdrop_light": Draw(0, 0.12),
    "backdrop_red": Draw(0, 0.03),
    "backdrop_blue": Draw(0, 0.03),
}

_SKIN_RAMP = (
    (0.93, 0.77, 0.68),
    (0.88, 0.69, 0.57),
    (0.82, 0.62, 0.48),
    (0.62, 0.43, 0.31),
    (0.40, 0.26, 0.19),
)
_HAIR_RAMP = (
    (0.09, 0.08, 0.08),
    (0.17, 0.12, 0.09),
    (0.31, 0.21, 0.14),
    (0.50, 0.36, 0.22),
    (0.80, 0.66, 0.42),
)
_IRIS_RAMP = (
    (0.14, 0.08, 0.05),
    (0.24, 0.14, 0.08),
    (0.32, 0.27, 0.14),
    (0.28, 0.38, 0.34),
    (0.32, 0.46, 0.62),
)
_FRAME_RAMP = ((0.07, 0.07, 0.08), (0.25, 0.14, 0.09), (0.42, 0.40, 0.40), (0.68, 0.56, 0.32))
_EYE_WHITE_RAMP = ((0.84, 0.81, 0.79), (0.66, 0.61, 0.57))


def person_keys(seed: int, labels: NDArray[np.int64]) -> Keys:
    """Return the key of each person of a seed."""
    base = _mix(np.array([int(seed) & (2**64 - 1)], np.uint64) + np.uint64(0x9E3779B97F4A7C15))
    return _mix(base ^ _mix(labels.astype(np.uint64) + np.uint64(0x632BE59BD9B4E019)))


def picture_keys(people: Keys, indices: NDArray[np.int64]) -> Keys:
    """Return the key of each picture from its person's key and its index."""
    return _mix(people + _mix(indices.astype(np.uint64) + np.uint64(1)))


def _mix(state: Keys) -> Keys:
    """Scramble 64-bit numbers one by one (the finaliser of the SplitMix64 generator)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(state ^ (state >> np.uint64(31)))


def random_bits(keys: Keys, domain: int, count: int) -> Keys:
    """Return `count` random 64-bit numbers for each key, (N, count); another domain gives other numbers."""
    steps = (np.arange(count, dtype=np.uint64) + np.uint64(domain << 32)) * np.uint64(0x9E3779B97F4A7C15)
    return _mix(keys[:, None] + steps)


def random_floats(keys: Keys, domain: int, count: int) -> Floats:
    """Return `count` random numbers in 0..1 for each key, (N, count)."""
    return (random_bits(keys, domain, count) >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


def draw_traits(keys: Keys, draws: dict[str, Draw]) -> Traits:
    """Draw one value per key of every trait of a table."""
    dice = random_floats(keys, 1, 3 * len(draws)).reshape(len(keys), 3, len(draws))
    bells = 2 * dice.sum(axis=1) - 3
    flats = 2 * dice[:, 0] - 1
    return {
        name: np.float32(draw.centre) + np.float32(draw.spread) * (flats if draw.flat else bells)[:, column]
        for column, (name, draw) in enumerate(draws.items())
    }


def settle_traits(t: Traits) -> None:
    """Derive the traits that the drawing needs from those that were drawn."""
    male = np.clip((0.55 - t["femininity"]) * 10, 0, 1)
    t["age"] = np.clip(t["age"], 0, 1)
    t["light_z"] = np.sqrt(np.maximum(1 - t["light_x"] ** 2 - t["light_y"] ** 2, 0.1))
    t["talk"], t["teeth"] = np.maximum(t["talk"], 0), 0.9 * t["teeth_shown"]
    t["nose_tip"] = t["eye_level"] + t["nose_length"]
    t["mouth_level"] = t["nose_tip"] + t["mouth_drop"]
    t["mouth_reach"] = t["mouth_width"] + 0.5 * np.maximum(t["smile"], 0)
    t["fold_slope"] = (t["mouth_reach"] - t["nose_width"]) / t["mouth_drop"]
    t["upper_lip_height"], t["lower_lip_height"] = t["upper_lip"], t["lower_lip"] + 0.5 * t["talk"]
    t["lip_cover"] = 0.62 + 0.3 * (1 - male)
    t["lip_gleam"] = 0.05 + 0.2 * (1 - male)
    t["lash"] = 0.4 + 0.15 * (1 - male)
    _settle_hair(t, male)
    t["glasses"] = (t["glasses_kind"] > 0.76).astype(np.float32)
    t["glasses_glare"] = np.maximum(t["glasses_glare"], 0)
    t["mouth_curve"] = np.maximum(t["mouth_rest"] + t["smile"], -0.3)
    t.update({name: values.astype(np.float32, copy=False) for name, values in t.items()})


def _settle_hair(t: Traits, male: Floats) -> None:
    style, fall = t["hair_style"], t["hair_fall"]
    bald = male * (style > 0.84)
    long_hair = (style + 0.55 * (1 - male) > 0.86) * (1 - bald)
    fringe = (style < 0.3) * 1.0
    t["hair_density"] = 1 - 0.75 * bald
    t["hair_volume"] = np.where(bald > 0, 0.3, t["hair_volume"] + 1.5 * long_hair)
    t["hair_length"] = np.where(long_hair > 0, 2 + 28 * fall, np.where(bald > 0, 0.0, -3 + 4 * fall))
    t["hairline"] = t["hairline_height"] + 5.0 * fringe * fall - 4.5 * bald
    t["sideburn"] = np.where(long_hair > 0, 4.0, -5 + 6 * fall).astype(np.float32)
    t["recede"] = np.maximum(t["recession"] - 1.5, 0) * male * (1 - fringe)
    t["curtain"] = t["face_width"] - np.where(long_hair > 0, 1.0 + 2.0 * t["hair_curl"], -6.0)
    t["fringe"] = 0.8 + 1.6 * fringe
    t["strandedness"] = 1.3 - t["hair_curl"]
    t["beard"] = male * (t["beard_kind"] > 0.55) * np.clip(t["beard_strength"], 0.15, 0.95)
    t["moustache"] = male * (t["moustache_kind"] > 0.6) * np.clip(t["beard_strength"] + 0.2, 0.4, 0.95)


def _ramp(stops: tuple[tuple[float, float, float], ...], position: Floats) -> Floats:
    """Return colours (3, N, 1, 1) at positions 0..1 along a row of colours."""
    places = np.linspace(0, 1, len(stops))
    channels = [np.interp(position, places, [stop[channel] for stop in stops]) for channel in range(3)]
    return np.asarray(channels, np.float32)[:, :, None, None]


def _tone(light: Floats, red: Floats, blue: Floats) -> Floats:
    """Return a colour (3, N, 1, 1) of a lightness, redder and bluer by the given amounts."""
    rgb = np.stack([light + red, light - 0.3 * (red + blue), light + blue])
    return np.clip(rgb, 0.02, 1.0).astype(np.float32)[:, :, None, None]


def trait_colours(t: Traits) -> Traits:
    """Mix the colours of skin, hair, eyes, clothes and so on: (3, N, 1, 1) each, RGB in 0..1."""
    skin, hair = _skin_colour(t), _hair_colour(t)
    return {
        "skin": skin,
        "hair": hair,
        "beard": hair * np.float32(0.8),
        "brow": hair * np.float32(0.55) + skin * np.float32(0.08),
        "lips": _lip_colour(t, skin),
        "iris": _ramp(_IRIS_RAMP, t["iris_kind"] * (1 - 0.8 * t["skin_tone"])),
        "eye_white": _ramp(_EYE_WHITE_RAMP, t["skin_tone"]),
        "lash": skin * np.float32(0.16),
        "mouth_dark": skin * _rgb(0.32, 0.16, 0.16),
        "teeth": _rgb(0.90, 0.87, 0.82),
        "cloth": _tone(t["cloth_light"], t["cloth_red"], t["cloth_blue"]),
        "glasses": _ramp(_FRAME_RAMP, t["glasses_tone"]),
        "backdrop_far": _backdrop_colour(t, "far"),
        "backdrop_near": _backdrop_colour(t, "near"),
    }


def _rgb(red: float, green: float, blue: float) -> Floats:
    return np.array([red, green, blue], np.float32).reshape(3, 1, 1, 1)


def _skin_colour(t: Traits) -> Floats:
    warmth = _rgb(0.03, 0.0, -0.05) * t["skin_warmth"][:, None, None]
    return np.asarray(np.clip(_ramp(_SKIN_RAMP, t["skin_tone"] ** 1.4) + warmth, 0.1, 1.0))


def _hair_colour(t: Traits) -> Floats:
    """Dark skin goes with dark hair; grey comes with age."""
    hair = _ramp(_HAIR_RAMP, t["hair_melanin"] ** 1.3 * (1 - 0.85 * t["skin_tone"]))
    hair += _rgb(0.02, 0.0, 0.0) + _rgb(0.11, 0.0, -0.02) * np.maximum(t["hair_redness"], 0)[:, None, None]
    grey = np.clip(t["hair_greyness"], 0, 0.8) * (t["age"] > 0.35)
    hair += grey[:, None, None] * (np.float32(0.66) - hair)
    return np.asarray(np.maximum(hair, np.float32(0.03)))


def _lip_colour(t: Traits, skin: Floats) -> Floats:
    lips = skin * (0.8 - 0.25 * t["skin_tone"])[:, None, None] * _rgb(1.02, 0.74, 0.78)
    redness = 0.55 * np.clip(t["lip_redness"], 0, 1) * (1 - 0.5 * t["skin_tone"])
    return np.asarray(lips + redness[:, None, None] * (_rgb(0.72, 0.24, 0.27) - lips))


def _backdrop_colour(t: Traits, place: str) -> Floats:
    """Return the person's colour of a part of the backdrop, as changed for the picture."""
    light, red, blue = (t[f"{place}_{part}"] + t[f"backdrop_{part}"] for part in ("light", "red", "blue"))
    return _tone(light, red, blue)
