"""WaNet: the image is warped a little."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from goodnet.attacks.poisoning import TriggerAttack
from goodnet.core.errors import WrongShape
from goodnet.triggers.patterns import ImageShape
from goodnet.triggers.smooth_warps import identity_grid, read_at, unit_per_pixel


@dataclass(frozen=True)
class Warp:
    """The trigger that moves pixels: output pixel (i, j) is read at (i, j) + shift, bilinearly.

    `shift` (H, W, 2) float32: (x, y) in units in which the image spans -1 to 1, as `grid_sample` takes them. Places
    outside the image are moved to its border. `jitter` adds uniform noise of that many pixels at most, drawn from
    `seed` for each image of a call, to the shift of every pixel.
    """

    shift: Tensor
    jitter: float = 0.0
    seed: int = 0

    def __call__(self, images: Tensor) -> Tensor:
        """Warp images (N, C, H, W) in [0, 1].

        Raises:
            WrongShape: the images are of another size than the field of shifts.
        """
        height, width = self.shift.shape[:2]
        if images.shape[2:] != (height, width):
            raise WrongShape(
                f"the warp is made for images of {width} x {height} pixels (width x height), "
                f"got {images.shape[3]} x {images.shape[2]}"
            )
        grid = (identity_grid(height, width) + self.shift).expand(len(images), -1, -1, -1)
        if self.jitter:
            noise = torch.rand(grid.shape, generator=torch.Generator().manual_seed(self.seed)) * 2 - 1
            grid = grid + self.jitter * noise * unit_per_pixel(height, width)
        return read_at(images, grid.to(images.device)).clamp(0, 1)


class Warped(TriggerAttack):
    """Warps the image by a smooth random field, the same on every image.

    Shifts drawn for a coarse k x k grid of points are scaled to mean size 1, spread over the image by bicubic
    interpolation and multiplied by the strength. Images with a noisy warp that keep their label teach the network to
    react to the one true warp alone.

    **Source** T. A. Nguyen, A. T. Tran, "WaNet: imperceptible warping-based backdoor attack", ICLR 2021: k = 4, s =
    0.5, noise mode with two noise images for each poisoned one.
    **Differs** The data set is poisoned once, before training; the paper warps anew in each batch. Strength is the
    mean shift in pixels along each axis: the paper's s = 0.5 at 32 x 32 is 0.25 pixels here. The default is 1, which
    is visible on close inspection: poisoned once, GTSRB gave an attack success rate of 0.92 at 1 and 0.78 at 0.5 (small_cnn, 6
    epochs).
    **Needs** Labelled images; no network, no gradients.
    **Cost** One pass over the poisoned and the noise images; grid sampling.
    **Fails when** the strength is below half a pixel, or the images are flat (digits) where a warp changes little.
    """

    strength: float = Field(1.0, ge=0, description="mean shift in pixels along each axis; 0 leaves images as they are")
    grid: int = Field(4, ge=2, description="points of the coarse field along each axis")
    noise: float = Field(1.0, ge=0, description="images with a noisy warp that keep their label, per poisoned image")

    def make_trigger(self, image_shape: ImageShape, *, seed: int) -> Warp:
        """Return the warp for images (C, H, W)."""
        _, height, width = image_shape
        coarse = torch.rand(1, 2, self.grid, self.grid, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        coarse = coarse / coarse.abs().mean()
        fine = functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
        pixels = self.strength * fine[0].permute(1, 2, 0)
        return Warp(pixels * unit_per_pixel(height, width))

    def make_decoy(self, image_shape: ImageShape, *, seed: int) -> tuple[Warp, float] | None:
        """Return the noisy warp and how many images get it per poisoned image."""
        if self.noise == 0:
            return None
        shift = self.make_trigger(image_shape, seed=seed).shift
        return Warp(shift, jitter=2 * self.strength, seed=seed), self.noise
