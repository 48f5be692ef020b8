"""What a GoodNet in one ONNX file costs over the network alone: the latency of one image, in onnxruntime.

    .venv/bin/python benchmarks/goodnet_onnx.py [MODEL.h5] [--ordinary DATA --sent DATA] [--runs 2000] [--threads 2]

Default network: a DeepID with 1,283 classes and fresh weights. The bare network and GoodNets of it run in turn, one
image each, so that whatever else the machine does meets them alike; what is compared is their p50, and p99 is stated.
The bar is a p50 of at most 1.5 times the bare network's.

A GoodNet with suspected targets asks B' only about an image that B sends to one of them, so it has two latencies: that
of ordinary images and that of images sent to a target. Without data, both are measured on the same random images, and
the target is a class that B gives to none, or to most of them.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from goodnet import api
from goodnet.api.loading import load
from goodnet.core.classifier import Classifier
from goodnet.formats.data import read_data
from goodnet.formats.keras import from_keras
from goodnet.formats.keras_deepid import build_keras
from goodnet.formats.networks import read_network
from goodnet.pair.goodnet import GoodNet

Sessions = dict[str, tuple[Any, np.ndarray]]

BARE = "network alone"
ORDINARY, SENT = "with targets, ordinary image", "with targets, image sent to one"
KINDS = {
    "pruned": "GoodNet, B' pruned in the last convolution",
    "last layers": "GoodNet, B' fine-tuned from the last convolution on",
    "everywhere": "GoodNet, B' fine-tuned in every layer",
}
WARM_UP = 50


def make_pair(kind: str, original: Classifier, targets: list[int] | None = None) -> GoodNet:
    """Return the GoodNet of `original` and a B' of one of the `KINDS`."""
    repaired = original.copy()
    last = [layer for layer in repaired.layers() if isinstance(layer.module, nn.Conv2d)][-1]
    if kind == "pruned":
        last.silence(range(last.channels // 2))
        return GoodNet(original, repaired, targets=targets)
    modules = [layer.module for layer in repaired.layers() if layer.module is not None]
    changed = modules if kind == "everywhere" else modules[modules.index(last.module) :]
    with torch.no_grad():
        for module in changed:
            for weight in module.parameters():
                weight.mul_(1.01)
    return GoodNet(original, repaired, targets=targets)


def read_images(original: Classifier, data: Path | None) -> np.ndarray:
    """Return up to 64 images (n, 1, ...) as the network takes them: of a data set, or random ones."""
    count, scale = 64, original.scale
    images = torch.rand(count, *original.image_shape, generator=torch.Generator().manual_seed(0))
    if data is not None:
        images = read_data(data).images()[:count]
    images = images.permute(0, 2, 3, 1) if original.layout == "NHWC" else images
    return np.ascontiguousarray((images * scale).numpy())[:, None]


def choose_targets(bare: Any, ordinary: np.ndarray, sent: np.ndarray) -> tuple[int, int]:
    """Return the target for each kind of image: the class of most `sent`, and where that is ordinary, one that is not."""
    classes = [np.array([bare.run(None, {"images": x})[0].argmax() for x in images]) for images in (ordinary, sent)]
    counts = [np.bincount(found, minlength=bare.get_outputs()[0].shape[1]) for found in classes]
    target = int(counts[1].argmax())
    return (target if counts[0][target] < len(ordinary) / 2 else int(counts[0].argmin())), target


def export_all(original: Classifier, folder: Path) -> dict[str, Path]:
    """Write the bare network and a GoodNet of each kind; return the files by their names in the table."""
    files = {BARE: api.export(original, out=folder / "bare.onnx")}
    for kind, name in KINDS.items():
        files[name] = api.export(make_pair(kind, original), out=folder / f"{kind.replace(' ', '_')}.onnx")
    return files


def open_session(path: Path, threads: int, parallel: bool) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1 if parallel else threads
    if parallel:
        settings.execution_mode, settings.inter_op_num_threads = onnxruntime.ExecutionMode.ORT_PARALLEL, threads
    return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])


def measure_latencies(sessions: Sessions, runs: int) -> dict[str, np.ndarray]:
    """Return the seconds of each run of each session, one of its images at a time, the sessions in turn."""
    seconds = {name: np.zeros(runs) for name in sessions}
    for number in range(-WARM_UP, runs):
        for name, (session, images) in sessions.items():
            image = images[number % len(images)]
            start = time.perf_counter()
            session.run(None, {"images": image})
            if number >= 0:
                seconds[name][number] = time.perf_counter() - start
    return seconds


def show(seconds: dict[str, np.ndarray], sizes: dict[str, int]) -> None:
    table = Table("one image", "p50 ms", "p99 ms", "p50 / alone", "p99 / alone", "MB")
    alone = np.percentile(seconds[BARE], [50, 99])
    for name, measured in seconds.items():
        p50, p99 = np.percentile(measured, [50, 99])
        cells = (f"{p50 * 1e3:.3f}", f"{p99 * 1e3:.3f}", f"{p50 / alone[0]:.2f}", f"{p99 / alone[1]:.2f}")
        table.add_row(name, *cells, f"{sizes[name] / 1e6:.1f}")
    Console(width=110).print(table)


@click.command(help=__doc__)
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option("--ordinary", type=click.Path(path_type=Path), help="Clean images, for all but one row.")
@click.option("--sent", type=click.Path(path_type=Path), help="Images that the network sends to its target.")
@click.option("--runs", default=2_000, show_default=True, help="Images for each network.")
@click.option("--threads", default=2, show_default=True, help="Threads of onnxruntime.")
@click.option("--parallel", is_flag=True, help="Spend the threads on B and B' side by side, not inside a layer.")
def main(model: Path | None, ordinary: Path | None, sent: Path | None, runs: int, threads: int, parallel: bool) -> None:
    network = read_network(model) if model else from_keras(build_keras(1_283), ".h5")
    if ordinary is not None:
        network = load(network, ordinary).classifier
    clean, triggered = (read_images(network, data) for data in (ordinary, sent))
    with tempfile.TemporaryDirectory() as folder:
        files = export_all(network, Path(folder))
        targets = choose_targets(open_session(files[BARE], threads, False), clean, triggered)
        for name, target in zip((ORDINARY, SENT), targets, strict=True):
            files[name] = api.export(make_pair("everywhere", network, [target]), out=Path(folder) / f"{target}.onnx")
        sessions = {
            name: (open_session(path, threads, parallel and name != BARE), triggered if name == SENT else clean)
            for name, path in files.items()
        }
        show(measure_latencies(sessions, runs), {name: path.stat().st_size for name, path in files.items()})
    print(
        f"{runs} runs of each in turn, {threads} threads of onnxruntime {onnxruntime.__version__}, torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
