"""What a GoodNet costs over the network that it guards: B and B' differ from conv_3 on, the rest runs once.

    .venv/bin/python benchmarks/goodnet_cost.py [MODEL.h5]

Default network: a DeepID with 1,283 classes and fresh weights. Both are timed in turn, several rounds, on the same images.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from goodnet.architectures.deepid import build_keras
from goodnet.core.dataset import BATCH
from goodnet.formats.keras import from_keras
from goodnet.formats.networks import read_network
from goodnet.guards.disagreement import GoodNet

IMAGES, ROUNDS = 2_048, 9


def measure_ratio(model: Path | None = None, rounds: int = ROUNDS) -> float:
    """Return the median over rounds of (seconds of the GoodNet) / (seconds of B) for the same images."""
    original = read_network(model) if model else from_keras(build_keras(1_283), ".h5")
    pruned = original.copy()
    pruned.layer("conv_3").silence(range(30))
    goodnet = GoodNet(original, pruned)
    images = torch.rand(IMAGES, *original.image_shape, generator=torch.Generator().manual_seed(0))
    ratios = []
    for _ in range(rounds):
        alone = _seconds(original, images)
        ratios.append(_seconds(goodnet.logits, images) / alone)
    return float(np.median(ratios))


def _seconds(run: Callable[[torch.Tensor], object], images: torch.Tensor) -> float:
    start = time.perf_counter()
    with torch.inference_mode():
        for part in torch.split(images, BATCH):
            run(part)
    return time.perf_counter() - start


if __name__ == "__main__":
    ratio = measure_ratio(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    print(f"GoodNet: {ratio:.2f} times the time of B alone (median of {ROUNDS} rounds, {IMAGES} images)")
