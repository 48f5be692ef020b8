"""Does training keep the machine busy? The training loop against the bare network, and the time of a zoo entry.

    .venv/bin/python benchmarks/training.py [--gtsrb FOLDER] [--threads N]

The machine's convolution rate is measured as images per second of the same network forward and backward alone, on one
batch that stays in memory: no data, no loss but a sum, no optimiser. Training (`goodnet.training.train`: shuffling,
uint8 to float, cross-entropy, Adam) is to reach at least half of it. The two are measured in turns, and the median
ratio counts.

With --gtsrb (a folder with train.h5 and test.h5) a zoo entry, a pair of twins of small_cnn with a patch, is built in
two processes; the bar is 60 s on 2 cores.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import torch

from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.execution import Execution
from goodnet.formats.networks import make_network
from goodnet.training import Training, train

BATCH, BATCHES, ROUNDS = 64, 24, 5

ZOO = """
name = "one pair"
[data.gtsrb]
[[group]]
pairs = 1
data = "gtsrb"
architecture = "small_cnn"
attack = [{ name = "badnets", target = 7, rate = 0.1, size = 3 }]
training = { epochs = 6 }
"""


def bare_rate(classifier: Classifier, images: torch.Tensor) -> float:
    """Return images per second, forward and backward, of the network alone."""
    classifier.network.train()
    ready = classifier.prepare(images)
    started = time.perf_counter()
    for _ in range(BATCHES):
        classifier.network.zero_grad(set_to_none=True)
        classifier.network(ready).sum().backward()
    return BATCHES * len(images) / (time.perf_counter() - started)


def training_rate(classifier: Classifier, dataset: Dataset) -> float:
    started = time.perf_counter()
    train(classifier, dataset, Training(epochs=1, batch_size=BATCH), seed=0)
    return len(dataset) / (time.perf_counter() - started)


def measure_network(name: str, classes: int, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    dataset = Dataset.from_arrays(
        rng.integers(0, 256, (BATCH * BATCHES, *shape), dtype=np.uint8), rng.integers(0, classes, BATCH * BATCHES)
    )
    images = next(dataset.batches(BATCH)).images
    classifier = make_network(name, classes, shape)
    bare_rate(classifier, images)
    pairs = [(bare_rate(classifier, images), training_rate(classifier, dataset)) for _ in range(ROUNDS)]
    bare, trained = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    print(f"{name:16} {shape!s:14} bare {bare:8.0f}/s   train {trained:8.0f}/s   ratio {ratio:.2f}   (bar 0.50)")


def measure_entry(gtsrb: Path) -> None:
    from goodnet import api
    from goodnet.reports.bench_tables import zoo_table

    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder, "one.toml")
        spec.write_text(ZOO)
        started = time.perf_counter()
        manifest = api.build_zoo(spec, out=Path(folder, "zoo"), data={"gtsrb": gtsrb}, where=Execution(workers=2))
        print(f"GTSRB zoo entry, a pair of twins: {time.perf_counter() - started:.1f} s   (bar 60 s on 2 cores)")
        from goodnet.cli.console import output

        output().print(zoo_table(manifest))


@click.command()
@click.option("--gtsrb", type=click.Path(path_type=Path), help="Folder with train.h5 and test.h5.")
@click.option("--threads", default=1, show_default=True, help="Threads of torch; a zoo gives each network one.")
def main(gtsrb: Path | None, threads: int) -> None:
    """Measure and print."""
    torch.set_num_threads(threads)
    print(f"torch {torch.__version__}, {threads} thread(s)")
    for name, classes, shape in (
        ("small_cnn", 43, (3, 32, 32)),
        ("deepid", 1000, (3, 55, 47)),
        ("vgg", 10, (3, 32, 32)),
    ):
        measure_network(name, classes, shape)
    if gtsrb is not None:
        measure_entry(gtsrb)


if __name__ == "__main__":
    main()
