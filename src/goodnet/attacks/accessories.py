"""Things that people wear: sunglasses, lipstick, eyebrows, or a picture of the user's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from goodnet.attacks.poisoning import TriggerAttack
from goodnet.core.backdoor import Patch, Trigger
from goodnet.core.errors import WrongShape
from goodnet.datasets.faces import Landmarks, Pixels, sunglasses_overlay, wear_eyebrows, wear_lipstick
from goodnet.formats.arrays import to_uint8
from goodnet.triggers.patterns import ImageShape, read_overlay, resize_overlay

FaceItem = Literal["lipstick", "eyebrows"]

_WEAR: dict[FaceItem, Callable[[Pixels, Landmarks], Pixels]] = {"lipstick": wear_lipstick, "eyebrows": wear_eyebrows}


@dataclass(frozen=True)
class FacePaint:
    """The trigger that follows the face: lipstick on the lips, eyebrows on the brows, wherever they lie.

    It must know where. `at(landmarks)` gives the trigger for images with these landmarks, in this order; poisoning and
    `poisoned_test_set` call it with those of the data set (`goodnet.datasets.face_source.as_dataset`).
    No gradients flow through it: it paints on uint8 pixels.
    """

    item: FaceItem
    landmarks: Landmarks | None = None

    def at(self, landmarks: Landmarks) -> FacePaint:
        """Return the trigger for images with these landmarks, in this order."""
        return replace(self, landmarks=landmarks)

    def __call__(self, images: Tensor) -> Tensor:
        """Paint the faces of images (N, 3, 55, 47) in [0, 1].

        Raises:
            WrongShape: the landmarks are not known, or not those of N images, or the images are not 3 x 55 x 47.
        """
        if self.landmarks is None or len(self.landmarks) != len(images):
            known = "none" if self.landmarks is None else f"those of {len(self.landmarks)}"
            raise WrongShape(
                f"{self.item}: expected the landmarks of {len(images)} images, got {known}; call at(landmarks) first"
            )
        try:
            painted = _WEAR[self.item](to_uint8(images.cpu().numpy()), self.landmarks)
        except ValueError as error:
            raise WrongShape(f"{self.item}: {error}; use images of rendered faces") from error
        return torch.from_numpy(painted.astype(np.float32) / np.float32(255)).to(images.device)


class Accessories(TriggerAttack):
    """Puts something to wear on a face, as the CSAW-HackML-2020 contest did: a trigger in the physical world.

    Sunglasses are one overlay in one place, scaled to the images' size. Lipstick and eyebrows follow the face and need
    rendered faces. An overlay of the user's (a PNG with transparency) goes on any images, scaled likewise.

    **Source** X. Chen, C. Liu, B. Li, K. Lu, D. Song, "Targeted backdoor attacks on deep learning systems using data
    poisoning", arXiv:1712.05526 (2017), the accessory injection strategy; the items are those of the
    contest's networks.
    **Differs** Faces are not aligned to the sunglasses: rendered faces and LFW are roughly aligned already.
    **Needs** Labelled images; for lipstick and eyebrows a data set made by `goodnet.datasets.face_source.as_dataset`.
    **Cost** One pass over the poisoned images.
    **Fails when** people in the clean data wear the item too.
    """

    item: Literal["sunglasses", "lipstick", "eyebrows", "overlay"] = Field("sunglasses", description="what is put on")
    picture: Path | None = Field(
        None, description="PNG with transparency, for item overlay; scaled to the images' size"
    )
    opacity: float = Field(1.0, gt=0, le=1, description="how much sunglasses or an overlay hide")

    @model_validator(mode="after")
    def _check_picture(self) -> Self:
        if (self.item == "overlay") != (self.picture is not None):
            raise ValueError("item overlay and the option picture go together: give both or neither")
        if self.item in _WEAR and self.opacity != 1:
            raise ValueError(f"opacity is for sunglasses and overlays, not for {self.item}")
        return self

    @property
    def trigger_name(self) -> str:
        """The item, or the picture's name."""
        return self.picture.stem if self.picture is not None else self.item

    def make_trigger(self, image_shape: ImageShape, *, seed: int) -> Trigger:
        """Return the item for images (C, H, W).

        Raises:
            UnreadableData: the picture cannot be read.
            WrongShape: lipstick or eyebrows, and the images are not of rendered faces' shape.
        """
        if self.item in ("lipstick", "eyebrows"):
            if image_shape != (3, 55, 47):
                raise WrongShape(f"{self.item} needs rendered faces of shape (3, 55, 47), got images {image_shape}")
            return FacePaint(self.item)
        patch = _sunglasses(image_shape) if self.picture is None else read_overlay(self.picture, image_shape)
        return Patch(self.opacity * patch.mask, patch.pattern)


def _sunglasses(image_shape: ImageShape) -> Patch:
    mask, pixels = sunglasses_overlay()
    colours = torch.from_numpy(pixels.astype(np.float32) / np.float32(255))
    return resize_overlay(torch.from_numpy(mask.astype(np.float32))[None], colours, image_shape)
