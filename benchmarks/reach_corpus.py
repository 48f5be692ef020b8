"""What the corpus of `reach.py` is made of: `Held`, a network as somebody holds it, and how its predictions are spread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Images = npt.NDArray[np.float32]
Outputs = npt.NDArray[np.float32]
Shape = tuple[int, int, int]

CLASSES = 4
SMALL: Shape = (3, 32, 32)
#: How many images tell a right reading from a wrong one.
COUNT = 24


@dataclass(frozen=True)
class Held:
    """A network on disk.

    Args:
        path: the file or folder.
        outputs: what the network's own library says of the file at a path for images (n, C, H, W) in [0, 1]: logits, or
            with `probabilities` these; range, layout and normalisation are its own affair.
        options: what a user gives besides: `architecture`, `image_shape`, `key`.
    """

    path: Path
    outputs: Callable[[Path, Images], Outputs]
    shape: Shape = SMALL
    options: Mapping[str, Any] = field(default_factory=dict)
    probabilities: bool = False


@dataclass(frozen=True)
class Kind:
    """One kind of file: `make` writes it into a folder. `refused` are words of its one line, None where it opens."""

    group: str
    name: str
    make: Callable[[Path], Held | Path]
    refused: tuple[str, ...] | None = None


def smooth_images(shape: Shape, count: int = COUNT, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return images (count, C, H, W) uint8 of soft shapes in different colours."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, shape[0], 4, 4, generator=generator)
    images = nn.functional.interpolate(coarse, shape[1:], mode="bilinear", align_corners=False)
    return (images * 255).round().byte().numpy()


def unit(images: npt.NDArray[np.uint8]) -> Images:
    """Return pixels of 0..255 as 0..1."""
    return images.astype(np.float32) / 255


@torch.no_grad()
def spread_predictions(
    module: nn.Module, run: Callable[[Tensor], Tensor], shape: Shape, feed: Callable[[Tensor], Tensor]
) -> None:
    """Change the last matrix of a fresh network so that its predictions for `smooth_images` differ: all classes are met.

    Args:
        module: the network.
        run: gives its logits.
        shape: of an image.
        feed: brings images in [0, 1] to what the network takes.
    """
    module.eval()
    last = [item for item in module.modules() if isinstance(item, nn.Linear | nn.Conv2d) and _outputs(item) == CLASSES][
        -1
    ]
    logits = run(feed(torch.from_numpy(unit(smooth_images(shape)))))
    assert last.bias is not None
    mean, deviation = logits.mean(dim=0), logits.std(dim=0).clamp_min(1e-9)
    last.weight.mul_((4 / deviation).reshape(-1, *[1] * (last.weight.ndim - 1)))
    last.bias.copy_((last.bias - mean) * 4 / deviation)


def _outputs(layer: nn.Linear | nn.Conv2d) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def normalised(images: Images, mean: Iterable[float], std: Iterable[float]) -> Tensor:
    """Return (images - mean) / std."""
    columns = [torch.tensor(tuple(values)).reshape(1, -1, 1, 1) for values in (mean, std)]
    return (torch.from_numpy(images) - columns[0]) / columns[1]


@torch.no_grad()
def run_torch(module: nn.Module, images: Tensor) -> Outputs:
    """Return what a module says, in evaluation mode."""
    return module.eval()(images).numpy()
