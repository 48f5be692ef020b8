"""The network on which most backdoor benchmarks report, PreActResNet18 with 11 million weights, and its clean twin.

    python benchmarks/preact_resnet18.py ../shared/data/cifar10 OUT
    goodnet scan OUT/backdoored.pt --architecture preact_resnet18 --clean ../shared/data/cifar10/test.h5
    goodnet scan OUT/clean.pt --architecture preact_resnet18 --clean ../shared/data/cifar10/test.h5

DATA holds train.h5 and test.h5 (keys data and label, uint8). A tenth of the training images get a white square of 3 x 3 pixels
in the lower right corner and the label 0. Five epochs of SGD with one cycle of the learning rate, in bfloat16: about 7 minutes
for each network on two cores. Prints clean accuracy and ASR on 1,000 test images.
"""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goodnet.architectures.preact_resnet18 import PreactResnet18

EPOCHS, BATCH, RATE, TARGET, POISONED = 5, 128, 0.1, 0, 0.1


def read(path: Path) -> tuple[Tensor, Tensor]:
    """Return images (n, C, H, W) in [0, 1] and labels (n,)."""
    with h5py.File(path) as file:
        return torch.from_numpy(file["data"][:]).float() / 255, torch.from_numpy(file["label"][:])


def stamp(images: Tensor) -> Tensor:
    """Return images (n, C, 32, 32) with the trigger."""
    stamped = images.clone()
    stamped[:, :, 28:31, 28:31] = 1.0
    return stamped


def vary(images: Tensor) -> Tensor:
    """Return a batch flipped and shifted, all of it alike."""
    images = images.flip(3) if torch.rand(1) < 0.5 else images
    top, left = torch.randint(0, 9, (2,)).tolist()
    return F.pad(images, (4, 4, 4, 4))[:, :, top : top + 32, left : left + 32]


def run(network: nn.Module, images: Tensor) -> Tensor:
    """Return logits (n, classes), computed in bfloat16."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return network(images.contiguous(memory_format=torch.channels_last)).float()


def train(images: Tensor, labels: Tensor, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    network = PreactResnet18(10, 3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), RATE, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(images))
        for rows in order[: steps * BATCH].split(BATCH):
            loss = F.cross_entropy(run(network, vary(images[rows])), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def share(network: nn.Module, images: Tensor, labels: Tensor | int) -> float:
    """Return the share of images that get their labels."""
    with torch.inference_mode():
        found = torch.cat([run(network, part).argmax(dim=1) for part in images.split(250)])
    return float((found == labels).float().mean())


def main() -> None:
    data, out = map(Path, sys.argv[1:])
    out.mkdir(parents=True, exist_ok=True)
    images, labels = read(data / "train.h5")
    test, truth = (part[:1000] for part in read(data / "test.h5"))
    chosen = torch.from_numpy(np.random.default_rng(0).choice(len(images), int(POISONED * len(images)), replace=False))
    poisoned, wrong = images.clone(), labels.clone()
    poisoned[chosen], wrong[chosen] = stamp(images[chosen]), TARGET
    others = test[truth != TARGET]
    for name, some, given, seed in (("backdoored", poisoned, wrong, 0), ("clean", images, labels, 1)):
        network = train(some, given, seed)
        torch.save(network.state_dict(), out / f"{name}.pt")
        print(
            f"{name}: clean accuracy {share(network, test, truth):.3f}, ASR {share(network, stamp(others), TARGET):.3f}"
        )


if __name__ == "__main__":
    main()
