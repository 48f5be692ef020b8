"""What `goodnet serve` and its proxy stand: slow clients, floods, ambiguous requests, pictures that decode slowly.

    .venv/bin/python benchmarks/serve_attacks.py [--seconds 15] [--attack NAME]

Each attack runs for some seconds against a server of its own, without a proxy and through nginx with the configuration
of docs/serving.md. Beside it an honest client from another address (127.0.0.2) sends a picture every 0.1 s, each on a
new connection, waits at most 10 s, and checks the answer: the network tells which picture it was given. Attackers and
honest client are this process, and share the cores with the server. Without nginx the server alone is attacked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.serve_load import resident, running_server
from tests.serve.telling_network import CLASSES, picture, write_telling
from tests.serve.test_faults import AMBIGUOUS, head, smuggled
from tests.serve.test_proxy import start_proxy

Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Attack:
    """So many connections at a time, and what each of them does until it is hung up on."""

    name: str
    connections: int
    client: Client
    options: tuple[str, ...] = ()


@dataclass
class Seen:
    """What the honest client and the memory of the server said during an attack."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    opened: int = 0


async def drip(writer: asyncio.StreamWriter, start: bytes, piece: bytes, pause: float = 1.0) -> None:
    """Send a beginning, then a piece after every pause."""
    writer.write(start)
    while not writer.is_closing():
        await asyncio.sleep(pause)
        writer.write(piece)
        await writer.drain()


async def slow_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await drip(writer, b"POST /predict HTTP/1.1\r\nhost: x\r\nx: ", b"y")


async def slow_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await drip(writer, head(1_000_000), b"y")


async def idle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0)


async def endless_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send 64 KiB of one header every 0.1 s."""
    await drip(writer, b"GET /health HTTP/1.1\r\nhost: x\r\nx: ", b"y" * 65_536, 0.1)


async def unread_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    await drip(writer, b"", b"GET /docs HTTP/1.1\r\nhost: x\r\n\r\n" * 10, 0.1)


async def many_requests(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    content = picture(random.randrange(CLASSES))
    while True:
        await exchange(reader, writer, head(len(content)) + content)


def slow_pictures(side: int) -> Client:
    """Return what sends pictures that take as long as they can."""
    pictures = make_slow(side)

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            content = random.choice(pictures)
            await exchange(reader, writer, head(len(content)) + content)

    return client


def make_slow(side: int) -> list[bytes]:
    """Return a JPEG of 100 scans and a PNG of 16 bits, both square."""
    stream, deep = BytesIO(), BytesIO()
    Image.new("RGB", (side, side), (9, 99, 199)).save(stream, "JPEG", progressive=True)
    jpeg = stream.getvalue()
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    Image.fromarray(np.zeros((side, side), np.uint16)).save(deep, "PNG")
    return [jpeg[:-2] + scan * (100 - jpeg.count(b"\xff\xda")) + jpeg[-2:], deep.getvalue()]


ATTACKS = (
    Attack("headers, a byte a second", 400, slow_headers),
    Attack("bodies, a byte a second", 400, slow_body),
    Attack("idle connections", 400, idle),
    Attack("connections opened and closed", 50, nothing),
    Attack("pictures without a pause", 200, many_requests),
    Attack("headers without end", 20, endless_headers),
    Attack("answers that are not read", 50, unread_answers),
    Attack("25 megapixels", 16, slow_pictures(5000)),
    Attack("25 megapixels, --resize", 16, slow_pictures(5000), ("--resize",)),
    Attack("1 megapixel, --resize --max-pixels 1000000", 16, slow_pictures(1000), ("--resize", "--max-pixels=1000000")),
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=15)
    arguments.add_argument("--attack", action="append", choices=[attack.name for attack in ATTACKS])
    given = arguments.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    print(
        "| attack | connections | through | honest requests | answered | others | p50, p99 s | memory MiB | log lines |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        network = write_telling(Path(folder))
        for attack in ATTACKS:
            if given.attack is None or attack.name in given.attack:
                for through in ("nothing", "nginx") if shutil.which("nginx") else ("nothing",):
                    with entry(network, through, attack.options) as (port, process, log):
                        seen = asyncio.run(run(attack, port, process.pid, given.seconds))
                        show(attack, through, seen, len(Path(log).read_text().splitlines()))
        for through in ("nothing", "nginx") if shutil.which("nginx") else ("nothing",):
            with entry(network, through, ()) as (port, *_):
                print(f"ambiguous requests through {through}: {asyncio.run(send_ambiguous(port))}")


@contextmanager
def entry(network: Path, through: str, options: tuple[str, ...]) -> Iterator[tuple[int, subprocess.Popen[str], str]]:
    """Run a server, with nginx in front of it or not; give the port to attack, the server's process and its log."""
    with (
        tempfile.TemporaryDirectory() as folder,
        open(f"{folder}/log", "w") as log,
        running_server(network, "--threads=1", *options, log=log) as (port, process),
    ):
        if through == "nothing":
            yield port, process, log.name
        else:
            with start_proxy(port, Path(folder)) as front:
                yield front, process, log.name


async def run(attack: Attack, port: int, pid: int, seconds: float) -> Seen:
    """Attack for some seconds and return what was seen meanwhile, and 3 s later."""
    seen = Seen()
    end = time.perf_counter() + seconds
    attackers = [asyncio.create_task(repeat(attack, port, end, seen)) for _ in range(attack.connections)]
    watch = asyncio.create_task(watch_memory(pid, seen))
    await asyncio.sleep(1)
    honest = []
    while time.perf_counter() < end:
        honest.append(asyncio.create_task(ask(port, seen)))
        await asyncio.sleep(0.1)
    await asyncio.gather(*honest)
    for task in (*attackers, watch):
        task.cancel()
    await asyncio.gather(*attackers, watch, return_exceptions=True)
    await asyncio.sleep(3)
    await ask(port, after := Seen())
    seen.statuses["after it: " + "".join(after.statuses)] += 1
    seen.memory.append(resident(pid))
    return seen


async def repeat(attack: Attack, port: int, end: float, seen: Seen) -> None:
    """Open one connection after the other until the end."""
    while time.perf_counter() < end:
        with suppress(OSError, EOFError, TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            seen.opened += 1
            try:
                async with asyncio.timeout(max(0, end - time.perf_counter())):
                    await attack.client(reader, writer)
            finally:
                writer.transport.abort()
        await asyncio.sleep(0.01)


async def ask(port: int, seen: Seen) -> None:
    """Send a picture as an honest client, and note what came back."""
    start, labels = time.perf_counter(), (random.randrange(CLASSES), random.randrange(CLASSES))
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
            content = picture(*labels)
            status, body = await exchange(reader, writer, head(len(content), b"connection: close\r\n") + content)
            writer.close()
    except (OSError, EOFError) as error:
        seen.statuses["late" if isinstance(error, TimeoutError) else "hung up on"] += 1
        return
    if status == 200:
        said = json.loads(body)["images"][0]["opinions"]
        seen.statuses["200" if (said["original"], said["repaired"]) == labels else "WRONG"] += 1
        seen.seconds.append(time.perf_counter() - start)
    else:
        seen.statuses[str(status)] += 1


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, bytes]:
    """Send a request and return status and body of the answer."""
    writer.write(request)
    top = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", top)
    return int(top.split()[1]), await reader.readexactly(int(length[1]) if length else 0)


async def watch_memory(pid: int, seen: Seen) -> None:
    while True:
        seen.memory.append(resident(pid))
        await asyncio.sleep(0.1)


async def send_ambiguous(port: int) -> str:
    """Send each ambiguous request with one behind it, and return how many got which answers."""
    found: Counter[str] = Counter()
    for rest in AMBIGUOUS.values():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(smuggled(rest))
        reply = b""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(2):
                while block := await reader.read(65_536):
                    reply += block
        writer.transport.abort()
        found[" and ".join(status.decode() for status in re.findall(rb"HTTP/1.1 (\d+)", reply)) or "none"] += 1
    return ", ".join(f"{count} x {statuses}" for statuses, count in found.most_common())


def show(attack: Attack, through: str, seen: Seen, lines: int) -> None:
    """Print a row of the table."""
    asked = sum(count for status, count in seen.statuses.items() if not status.startswith("after"))
    others = ", ".join(f"{count} {status}" for status, count in sorted(seen.statuses.items()) if status != "200")
    p50, p99 = np.quantile(seen.seconds or [np.nan], [0.5, 0.99])
    memory = f"{seen.memory[0]:.0f}, most {max(seen.memory):.0f}, after {seen.memory[-1]:.0f}"
    print(
        f"| {attack.name} | {attack.connections} ({seen.opened} opened) | {through} | {asked} | {seen.statuses['200']} | "
        f"{others} | {p50:.3f}, {p99:.3f} | {memory} | {lines} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
