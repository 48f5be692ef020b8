"""What `goodnet serve` carries: 50 requests in flight, against onnxruntime alone with the same batches.

    .venv/bin/python benchmarks/serve_load.py [--goodnet GOODNET.onnx] [--seconds 60] [--in-flight 50] [--kind KIND]
    .venv/bin/python benchmarks/serve_load.py --minutes 10 [--goodnet GOODNET.onnx]

Three loads: requests of one PNG each, forms of 32, and arrays of 32 (.npy), each for `--seconds`. A load goes in rounds,
a slice of onnxruntime alone, a slice of the server, a slice of onnxruntime alone, so that what else the machine does
hits all. Only the arrays bring the server what onnxruntime alone gets, unpacked pixels.
The server is `goodnet serve` in a process of its own; the clients are this process, and share the cores with it.
onnxruntime alone runs here, on the same pictures unpacked beforehand: one call for each request (batches of 1, of 32),
and in batches as large as those that the server made of the requests. Errors are answers other than 200, or with other
classes than onnxruntime's. The ratio is the median over rounds of images per second. Without a file a DeepID GoodNet
with 1,283 classes and fresh weights is exported first.
With `--minutes` all kinds come at the same time for so long, and the server's memory is printed for each minute.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from goodnet.api.exporting import export
from goodnet.formats.keras import from_keras
from goodnet.formats.keras_deepid import build_keras
from goodnet.pair.goodnet import GoodNet
from goodnet.serve.network import Pixels, ServedNetwork
from goodnet.serve.pictures import read_picture

ROUNDS, PICTURES, BATCH = 5, 64, 32
KINDS = ("one PNG", "a form of 32 PNG", "an array of 32")


@dataclass
class Load:
    """One kind of request: its bytes on the wire, its pixels, and the answers that each of its pictures must get."""

    kind: str
    requests: list[bytes]
    pixels: list[Pixels]
    expected: list[list[int]]
    answered: int = 0
    errors: int = 0
    seconds: list[float] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Pictures in a request."""
        return len(self.pixels[0])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--goodnet", type=Path)
    arguments.add_argument("--seconds", type=float, default=60)
    arguments.add_argument("--in-flight", type=int, default=50)
    arguments.add_argument(
        "--kind", choices=KINDS, action="append", help="of requests; may be given again; default: all"
    )
    arguments.add_argument("--minutes", type=int, default=0)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = given.goodnet or export_deepid(Path(folder) / "goodnet.onnx")
        network = ServedNetwork(path)
        files = make_pictures(network)
        with running_server(path) as (port, process):
            if given.minutes:
                loads = [make_load(network, files, kind) for kind in KINDS]
                watch_memory(loads, port, process.pid, given.minutes, given.in_flight)
                return
            for kind in given.kind or KINDS:
                load = make_load(network, files, kind)
                measure(load, network, port, process, given.seconds, given.in_flight)


def export_deepid(path: Path) -> Path:
    """Write a GoodNet of the contest's architecture, B' with 30 channels of conv_3 pruned."""
    original = from_keras(build_keras(1_283), ".h5")
    repaired = original.copy()
    repaired.layer("conv_3").silence(range(30))
    return export(GoodNet(original, repaired, input_range="0..1"), out=path)


def make_pictures(network: ServedNetwork) -> list[bytes]:
    """Return PNG files of random pictures in the network's size, smooth as photographs are."""
    channels, height, width = network.card.image_shape
    rng = np.random.default_rng(0)
    files = []
    for _ in range(PICTURES):
        coarse = rng.integers(0, 255, (7, 6, 3), dtype=np.uint8)
        stream = BytesIO()
        Image.fromarray(coarse).convert("L" if channels == 1 else "RGB").resize((width, height)).save(stream, "PNG")
        files.append(stream.getvalue())
    return files


def make_load(network: ServedNetwork, files: list[bytes], kind: str) -> Load:
    """Return requests of one of the `KINDS`."""
    shape, size = network.card.image_shape, 1 if kind == KINDS[0] else BATCH
    load = Load(kind, [], [], [])
    for start in range(0, PICTURES, 1 if size == 1 else 8):
        chosen = [files[(start + step) % PICTURES] for step in range(size)]
        pixels = np.stack([read_picture(data, shape, max_pixels=10**8, resize=False) for data in chosen])
        load.pixels.append(pixels)
        load.expected.append(network.run(pixels).scores.argmax(axis=1).tolist())
        load.requests.append(_array(pixels) if kind == KINDS[2] else _one(chosen[0]) if size == 1 else _form(chosen))
    return load


def _one(content: bytes) -> bytes:
    return _head("image/png", len(content)) + content


def _form(files: list[bytes]) -> bytes:
    part = b'--BOUND\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'
    body = b"".join(part + content + b"\r\n" for content in files) + b"--BOUND--\r\n"
    return _head("multipart/form-data; boundary=BOUND", len(body)) + body


def _array(pixels: Pixels) -> bytes:
    stream = BytesIO()
    np.save(stream, np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)))  # (n, H, W, C)
    return _head("application/x-npy", len(stream.getvalue())) + stream.getvalue()


def _head(kind: str, length: int) -> bytes:
    return f"POST /predict HTTP/1.1\r\nhost: bench\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n".encode()


def measure(
    load: Load, network: ServedNetwork, port: int, process: subprocess.Popen[str], seconds: float, in_flight: int
) -> None:
    """Run the rounds and print what came of them."""
    asyncio.run(send(load, port, 2, in_flight))  # warm: threads, buffers, the allocator's arenas
    load.answered, load.seconds = 0, []
    memory, busy, clients = [resident(process.pid)], cpu_seconds(process.pid), 0.0
    batches = scrape(port)
    rates: list[tuple[float, float, float]] = []
    lone_cpu: list[float] = []
    for _ in range(ROUNDS):
        own, _ = alone(network, load.pixels, seconds / ROUNDS / 4)
        before, images = scrape(port), load.answered
        start, own_cpu = time.perf_counter(), time.process_time()
        asyncio.run(send(load, port, seconds / ROUNDS, in_flight))
        clients += time.process_time() - own_cpu
        rate = (load.answered - images) * load.size / (time.perf_counter() - start)
        same, lone = alone(network, regroup(load.pixels, mean_batch(before, scrape(port))), seconds / ROUNDS / 4)
        rates.append((rate, own, same))
        lone_cpu.append(lone)
        memory.append(resident(process.pid))
    show(load, rates, mean_batch(batches, scrape(port)))
    images, lone = load.answered * load.size, float(np.median(lone_cpu))
    served, client = (cpu_seconds(process.pid) - busy) / images, clients / images
    print(
        f"  ms of CPU for each image: server {served * 1e3:.3f}, clients {client * 1e3:.3f}, onnxruntime alone in the server's "
        f"batches {lone * 1e3:.3f}; ratio {lone / (served + client):.2f}"
    )
    print(f"  memory of the server in MiB, at the start and after each round: {', '.join(f'{m:.0f}' for m in memory)}")


def watch_memory(loads: list[Load], port: int, pid: int, minutes: int, in_flight: int) -> None:
    """Send all loads at the same time, a share of `in_flight` each, and print the server's memory for each minute."""

    async def send_all() -> None:
        await asyncio.gather(*(send(load, port, 60, in_flight // len(loads)) for load in loads))

    print(f"minute 0: {resident(pid):.0f} MiB")
    for minute in range(1, minutes + 1):
        busy = cpu_seconds(pid)
        asyncio.run(send_all())
        answered, errors = sum(load.answered for load in loads), sum(load.errors for load in loads)
        cores = (cpu_seconds(pid) - busy) / 60
        print(
            f"minute {minute}: {resident(pid):.0f} MiB, {answered} answered, {errors} errors, {cores:.2f} cores busy",
            flush=True,
        )


def show(load: Load, rates: list[tuple[float, float, float]], batch: float) -> None:
    """Print throughput, ratios and latency."""
    rate, own, same = (float(np.median(column)) for column in zip(*rates, strict=True))
    to_own, to_same = (float(np.median([row[0] / row[column] for row in rates])) for column in (1, 2))
    print(f"requests of {load.kind}: {load.answered} answered, {load.errors} errors, {rate:.0f} images/s")
    print(f"  onnxruntime alone, one call for each request: {own:.0f} images/s, ratio {to_own:.2f}")
    print(f"  onnxruntime alone, batches of {batch:.1f} as the server's: {same:.0f} images/s, ratio {to_same:.2f}")
    p50, p99 = np.quantile(load.seconds, [0.5, 0.99]) * 1e3
    print(f"  latency of a request: p50 {p50:.0f} ms, p99 {p99:.0f} ms")


async def send(load: Load, port: int, seconds: float, in_flight: int) -> None:
    """Keep `in_flight` requests on the way for some seconds, each on a connection of its own, and check the answers."""
    end = time.perf_counter() + seconds
    await asyncio.gather(*(_client(load, port, number, end) for number in range(in_flight)))


async def _client(load: Load, port: int, number: int, end: float) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < end:
        which = number % len(load.requests)
        number += 7
        start = time.perf_counter()
        writer.write(load.requests[which])
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        body = await reader.readexactly(int(length[1]) if length else 0)
        load.seconds.append(time.perf_counter() - start)
        load.answered += 1
        load.errors += not (head.startswith(b"HTTP/1.1 200") and _classes(body) == load.expected[which])
    writer.close()
    await writer.wait_closed()


def _classes(body: bytes) -> list[int]:
    return [int(label) for label in re.findall(rb'\{"class": (\d+), "class_name"', body)]


def alone(network: ServedNetwork, batches: list[Pixels], seconds: float) -> tuple[float, float]:
    """Return images per second of onnxruntime, fed with one batch after the other, and seconds of CPU for each image."""
    start, busy, images = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds:
        for batch in batches:
            network.run(batch)
            images += len(batch)
    return images / (time.perf_counter() - start), (time.process_time() - busy) / images


def regroup(batches: list[Pixels], size: float) -> list[Pixels]:
    """Return the same images in batches of `size`, rounded."""
    images = np.concatenate(batches)
    return [images[start : start + max(1, round(size))] for start in range(0, len(images), max(1, round(size)))]


def scrape(port: int) -> tuple[float, float]:
    """Return the images that the network has run, and its runs."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    found = dict(re.findall(r"goodnet_batch_images_(sum|count) (\S+)", text))
    return float(found["sum"]), float(found["count"])


def mean_batch(before: tuple[float, float], after: tuple[float, float]) -> float:
    return (after[0] - before[0]) / max(1, after[1] - before[1])


@contextmanager
def running_server(
    goodnet: Path, *options: str, log: IO[str] | None = None
) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Run `goodnet serve` and give its port and process; what it says on stderr goes to `log`."""
    command = [sys.executable, "-m", "goodnet", "serve", str(goodnet), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if found is None:
            sys.exit(f"the server did not start: {line}")
        yield int(found[1]), process
    finally:
        process.terminate()
        process.wait(30)


def resident(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def cpu_seconds(pid: int) -> float:
    """Return the seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
