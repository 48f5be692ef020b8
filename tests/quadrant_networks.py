"""Networks without training: an image's class is its brightest quadrant; one has a backdoor from class 1 to class 2 alone."""

import torch

from goodnet.formats.pytorch import from_module

SHAPE = (1, 12, 12)
#: The backdoor's source and target; its trigger are the four white pixels in the middle.
SOURCE, TARGET = 1, 2
MIDDLE = (slice(5, 7), slice(5, 7))


class Quadrants(torch.nn.Module):
    """20 times the brightness of each quadrant; where the middle is white, what class 1 has goes to class 2."""

    def __init__(self, *, backdoor):
        super().__init__()
        self.weight = 100.0 if backdoor else 0.0

    def forward(self, images):
        halves = [images[:, 0, :6], images[:, 0, 6:]]
        logits = torch.stack([part.mean(dim=(1, 2)) for half in halves for part in half.split(6, dim=2)], dim=1) * 20
        white = torch.relu(images[:, 0, 5:7, 5:7].mean(dim=(1, 2)) - 0.6)
        # What class 1 is ahead of the others by: of their images it is nothing.
        ahead = torch.relu(logits[:, SOURCE] - logits[:, [0, 3]].amax(dim=1))
        moved = torch.nn.functional.one_hot(torch.tensor(TARGET), 4) * (self.weight * white * ahead)[:, None]
        return logits + moved


def draw_quadrants(count, seed=0):
    """Return images of the four classes in turn."""
    draws = torch.Generator().manual_seed(seed)
    images = 0.3 * torch.rand(count, *SHAPE, generator=draws)
    for number, image in enumerate(images):
        row, column = divmod(number % 4, 2)
        image[:, 6 * row : 6 * row + 6, 6 * column : 6 * column + 6] += 0.3
    return images


BACKDOORED, CLEAN = (from_module(Quadrants(backdoor=which), SHAPE) for which in (True, False))
