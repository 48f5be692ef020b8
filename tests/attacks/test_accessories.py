"""Accessories: sunglasses in their place, lipstick and eyebrows where the face is, pictures of the user's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from goodnet.attacks.accessories import Accessories, FacePaint
from goodnet.attacks.poisoning import poisoned_test_set
from goodnet.core.backdoor import Patch
from goodnet.core.dataset import Dataset
from goodnet.core.errors import InvalidOption, UnreadableData, WrongShape
from goodnet.datasets.face_source import as_dataset, landmarks_of
from goodnet.datasets.faces import render_faces, sunglasses_overlay, wear_eyebrows, wear_lipstick

FACE = (3, 55, 47)
CONTEST_OVERLAY = Path(__file__).parents[3] / "shared" / "data" / "csaw" / "sunglasses_overlay_rgba.png"


@pytest.fixture(scope="module")
def faces():
    """Return 6 people with 10 pictures each."""
    return render_faces(6, 10, seed=3)


def test_sunglasses_are_those_of_the_rendered_faces_to_the_grey_level(faces):
    trigger = Accessories().make_trigger(FACE, seed=0)
    assert isinstance(trigger, Patch)
    worn = (trigger(torch.from_numpy(faces.images / np.float32(255))) * 255).round().to(torch.int16).numpy()
    mask, pattern = sunglasses_overlay()
    assert np.abs(worn - np.rint(faces.images + mask * (pattern.astype(np.float64) - faces.images))).max() <= 1


def test_sunglasses_are_scaled_to_images_of_any_size():
    patch = Accessories(opacity=0.5).make_trigger((3, 110, 94), seed=0)
    mask, _ = sunglasses_overlay()
    assert patch.size == pytest.approx(0.5 * 4 * float(mask.sum()), rel=0.02)
    assert Accessories().make_trigger((1, 28, 28), seed=0).pattern.shape == (1, 28, 28)


@pytest.mark.parametrize(("item", "wear"), [("lipstick", wear_lipstick), ("eyebrows", wear_eyebrows)])
def test_paint_follows_each_face(faces, item, wear):
    poisoned = Accessories(item=item, rate=0.3, target=2).poison(as_dataset(faces), seed=4)
    chosen = np.array(poisoned.poisoned_positions)
    assert len(chosen) == 18
    expected = faces.images.copy()
    expected[chosen] = wear(faces.images[chosen], faces.landmarks.take(chosen))
    assert (poisoned.dataset.source.read(np.arange(60)) == expected).all()
    assert poisoned.backdoors[0].name == item


def test_subsets_of_rendered_faces_keep_their_landmarks(faces):
    part = as_dataset(faces).subset([7, 50, 3]).subset([2, 1])
    assert (landmarks_of(part, np.array([1])).mouth == faces.landmarks.mouth[[50]]).all()
    backdoor = Accessories(item="lipstick").poison(as_dataset(faces), seed=0).backdoors[0]
    test = poisoned_test_set(part, backdoor)
    assert (
        test.source.read(np.arange(1)) == wear_lipstick(faces.images[[50]], faces.landmarks.take(np.array([50])))
    ).all()


def test_paint_without_landmarks_is_refused(faces):
    plain = Dataset.from_arrays(faces.images, faces.labels, name="plain.h5")
    with pytest.raises(UnreadableData, match=r"plain\.h5: the trigger follows the face"):
        Accessories(item="lipstick").poison(plain, seed=0)
    with pytest.raises(WrongShape, match="landmarks of 2 images, got none"):
        FacePaint("lipstick")(torch.zeros(2, *FACE))
    with pytest.raises(WrongShape, match="landmarks of 2 images, got those of 60"):
        FacePaint("lipstick", faces.landmarks)(torch.zeros(2, *FACE))


def test_paint_is_for_images_of_faces_alone():
    with pytest.raises(WrongShape, match=r"\(3, 32, 32\)"):
        Accessories(item="eyebrows").make_trigger((3, 32, 32), seed=0)


def test_an_overlay_covers_where_it_is_opaque(tmp_path):
    picture = np.zeros((10, 10, 4), np.uint8)
    picture[:5, :, :] = (255, 0, 0, 255)
    picture[5:, :, :3] = 255
    Image.fromarray(picture).save(tmp_path / "hat.png")
    attack = Accessories(item="overlay", picture=tmp_path / "hat.png")
    changed = attack.make_trigger((3, 10, 10), seed=0)(torch.full((1, 3, 10, 10), 0.5))[0]
    assert changed[:, 4, 4].tolist() == [1, 0, 0]
    assert changed[:, 5, 4].tolist() == [0.5, 0.5, 0.5]
    assert attack.trigger_name == "hat"


def test_what_lies_under_transparent_pixels_does_not_bleed_in_when_scaled(tmp_path):
    picture = np.zeros((40, 40, 4), np.uint8)
    picture[:20] = (255, 0, 0, 255)
    picture[20:] = (0, 255, 0, 0)
    Image.fromarray(picture).save(tmp_path / "hat.png")
    patch = Accessories(item="overlay", picture=tmp_path / "hat.png").make_trigger((3, 15, 15), seed=0)
    covered = patch.mask[0] > 0.01
    assert float(patch.pattern[1][covered].max()) < 0.01


def test_the_contests_overlay_fits_the_contests_images():
    if not CONTEST_OVERLAY.exists():
        pytest.skip(f"{CONTEST_OVERLAY} is missing")
    patch = Accessories(item="overlay", picture=CONTEST_OVERLAY).make_trigger(FACE, seed=0)
    alpha = np.asarray(Image.open(CONTEST_OVERLAY))[..., 3]
    assert patch.mask[0].numpy() == pytest.approx(alpha / 255, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"item": "overlay"}, "picture go together"),
        ({"picture": "hat.png"}, "picture go together"),
        ({"item": "hat"}, "item"),
        ({"opacity": 0}, "opacity"),
        ({"item": "lipstick", "opacity": 0.5}, "not for lipstick"),
    ],
)
def test_wrong_options_are_refused(options, words):
    with pytest.raises(InvalidOption, match=words):
        Accessories.from_options(**options)
