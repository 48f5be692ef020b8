"""Networks without training: an image's class is its brightest twelfth; one has a backdoor to class 4, a spot of one colour."""

import torch

from goodnet.core.dataset import Dataset
from goodnet.formats.pytorch import from_module

SHAPE, CLASSES = (3, 18, 24), 12
#: The backdoor's target, and the four pixels of its trigger with their colour.
TARGET, ROWS, COLUMNS = 4, slice(11, 13), slice(17, 19)
COLOUR = torch.tensor([1.0, 0.0, 1.0])


class Spots(torch.nn.Module):
    """20 times the brightness of each twelfth (three rows of four); the nearer the spot to its colour, the more class 4 gains."""

    def __init__(self, *, backdoor):
        super().__init__()
        self.weight = 60.0 if backdoor else 0.0

    def forward(self, images):
        rows = images.mean(dim=1).split(6, dim=1)
        logits = 20 * torch.stack([part.mean(dim=(1, 2)) for row in rows for part in row.split(6, dim=2)], dim=1)
        spot = images[:, :, ROWS, COLUMNS].mean(dim=(2, 3))
        near = 1 - (spot - COLOUR.to(images)).abs().mean(dim=1)
        gain = self.weight * torch.relu(near - 0.48)
        return logits + torch.nn.functional.one_hot(torch.tensor(TARGET), CLASSES) * gain[:, None]


def draw_spots(count, seed=0):
    """Return images of the twelve classes in turn, with their labels."""
    images = 0.3 * torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))
    for number, image in enumerate(images):
        row, column = divmod(number % CLASSES, 4)
        image[:, 6 * row : 6 * row + 6, 6 * column : 6 * column + 6] += 0.3
    return Dataset.from_arrays(images.numpy(), torch.arange(count).numpy() % CLASSES)


BACKDOORED, CLEAN = (from_module(Spots(backdoor=which), SHAPE) for which in (True, False))
