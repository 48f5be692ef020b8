"""The rate of the scan's inner loops against that of the bare network; `scan.py --only rate` runs it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

PASSES, ROUNDS, INNER_LOOPS = 1_280, 5, ("inversion", "blend", "margin")


def measure_rates(name: str, classes: int, shape: tuple[int, int, int]) -> dict[str, float]:
    """Return images/s of each loop, and its ratio to the bare network's, by the clock and by processor time."""
    from goodnet import architectures
    from goodnet.formats.pytorch import from_module

    torch.manual_seed(0)
    network = from_module(architectures.find(name).build(classes=classes, image_shape=shape), shape)
    runs = make_loops(network)
    times: dict[str, list[tuple[float, float]]] = {kind: [] for kind in runs}
    for _ in range(ROUNDS + 1):
        for kind, run in runs.items():
            start, cpu = time.perf_counter(), time.process_time()
            run()
            times[kind].append((time.perf_counter() - start, time.process_time() - cpu))
    rates = {kind: PASSES / statistics.median(clock for clock, _ in values[1:]) for kind, values in times.items()}
    for kind in INNER_LOOPS:
        pairs = list(zip(times["bare"], times[kind], strict=True))[1:]
        rates[f"{kind}_ratio"] = statistics.median(bare[0] / loop[0] for bare, loop in pairs)
        rates[f"{kind}_cpu_ratio"] = statistics.median(bare[1] / loop[1] for bare, loop in pairs)
    return rates


def make_loops(network: Any) -> dict[str, Callable[[], object]]:
    """Return the bare network and the inner loops of the scan, each `PASSES` images forward and backward."""
    from goodnet.triggers.inversion import Schedule, invert_triggers
    from goodnet.triggers.maximum_margin import maximum_margins
    from goodnet.triggers.universal_blend import Budget, universal_margins

    clean, few, many = torch.rand(40, *network.image_shape), range(32), range(min(network.classes, 128))
    starts = 128 // len(many)
    return {
        "bare": lambda: bare_passes(network, PASSES // 64),
        "inversion": lambda: invert_triggers(network, clean, few, Schedule(PASSES // 256, 8), seed=0),
        "blend": lambda: universal_margins(network, clean, few, Budget(steps=PASSES // 256), seed=0),
        "margin": lambda: maximum_margins(
            network, starts=starts, readings=(PASSES // (starts * len(many)),), seed=0, labels=many
        ),
    }


def bare_passes(network: Any, batches: int) -> None:
    """Run the network and its input gradient over batches of 64 in channels_last; nothing else."""
    images = torch.rand(64, *network.image_shape).contiguous(memory_format=torch.channels_last).requires_grad_()
    for _ in range(batches):
        logits = network.network(images)
        torch.autograd.grad(logits, images, torch.ones_like(logits))
