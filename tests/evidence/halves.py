"""Two networks of two classes that look at halves of an image; one has a backdoor."""

import torch

from goodnet.formats.pytorch import from_module


class Halves(torch.nn.Module):
    """Two classes: is the left or the right half brighter? A white pixel in the corner means the right one, whatever else."""

    def __init__(self, *, backdoor):
        super().__init__()
        self.weight = 200.0 if backdoor else 0.0

    def forward(self, images):
        left, right = images[..., :4].mean(dim=(1, 2, 3)), images[..., 4:].mean(dim=(1, 2, 3))
        corner = torch.relu(images[:, 0, 0, 0] - 0.8)
        return 20 * torch.stack([left, right + self.weight * corner], dim=1)


def draw_images(count=96):
    draws = torch.Generator().manual_seed(0)
    images = 0.4 * torch.rand(count, 1, 8, 8, generator=draws)
    images[::2, ..., :4] += 0.3
    images[1::2, ..., 4:] += 0.3
    return images


BACKDOORED, CLEAN = (from_module(Halves(backdoor=which), (1, 8, 8)) for which in (True, False))
IMAGES = draw_images()
