"""What a GoodNet costs over the network that it guards: B and B' differ from conv_3 on, the rest runs once.

    .venv/bin/python benchmarks/goodnet_cost.py [MODEL.h5]

Default network: a DeepID with 1,283 classes and fresh weights. Both are timed in turn, several rounds, on the same
images.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from goodnet.core.classifier import Classifier
from goodnet.core.dataset import BATCH
from goodnet.formats.keras import from_keras
from goodnet.formats.keras_deepid import build_keras
from goodnet.formats.networks import read_network
from goodnet.pair.goodnet import GoodNet

IMAGES, ROUNDS = 2_048, 9


def make_pair(kind: str, original: Classifier) -> GoodNet:
    """Return a GoodNet whose B' has 30 channels of conv_3 pruned, or other weights everywhere from conv_3 on."""
    repaired = original.copy()
    if kind == "pruned":
        repaired.layer("conv_3").silence(range(30))
        return GoodNet(original, repaired)
    with torch.no_grad():
        for name, weight in repaired.network.named_parameters():
            if not name.startswith(("conv_1", "conv_2")):
                weight.mul_(1.01)
    return GoodNet(original, repaired)


def measure_ratio(kind: str, original: Classifier, rounds: int = ROUNDS) -> float:
    """Return the median over rounds of (seconds of the GoodNet) / (seconds of B) for the same images."""
    goodnet = make_pair(kind, original)
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
    network = read_network(Path(sys.argv[1])) if len(sys.argv) > 1 else from_keras(build_keras(1_283), ".h5")
    for kind in ("pruned", "fine-tuned"):
        ratio = measure_ratio(kind, network)
        print(f"GoodNet, B' {kind} from conv_3 on: {ratio:.2f} times the time of B alone")
    print(f"median of {ROUNDS} rounds, {IMAGES} images, {torch.get_num_threads()} threads")
