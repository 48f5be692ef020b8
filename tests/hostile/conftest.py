"""A worker process for hostile files, and what would show that something ran."""

from __future__ import annotations

import ctypes
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from tests.hostile.corpus import Case, Place

REPOSITORY = Path(__file__).parents[2]
_IN_OPEN = 0x20


@dataclass
class Watch:
    """Tells whether a file in a folder was opened, by whomever (Linux's inotify)."""

    folder: Path
    _descriptor: int = field(init=False)

    def __post_init__(self) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        self._descriptor = library.inotify_init1(os.O_NONBLOCK)
        library.inotify_add_watch(self._descriptor, os.fsencode(self.folder), _IN_OPEN)

    def close(self) -> None:
        """Stop watching."""
        os.close(self._descriptor)

    def opened(self) -> bool:
        """Return whether a file was opened since the last call."""
        try:
            return bool(os.read(self._descriptor, 1 << 16))
        except BlockingIOError:
            return False


@dataclass
class Worker:
    """The process that reads, and the witnesses."""

    process: subprocess.Popen[str]
    watch: Watch
    listener: socket.socket
    secret: Path
    picture: Path

    def place(self, folder: Path) -> Place:
        """Return where a file is made in `folder`."""
        (folder / "temporary").mkdir()
        (folder / "file").mkdir()
        return Place(folder / "file", folder / "mark", self.secret, self.listener.getsockname()[1])

    def read(self, case: Case, place: Place, *, confine: bool) -> dict[str, Any]:
        """Make a file, have it read, by the API alone where models are confined, and return what was seen."""
        path = case.make(place)
        self.watch.opened()
        job = {
            "reader": case.reader,
            "path": str(path),
            "folder": str(place.folder.parent),
            "picture": str(self.picture),
            "confine": confine,
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        report = dict(json.loads(self.process.stdout.readline()))
        called, _, _ = select.select([self.listener], [], [], 0)
        report |= {"mark": place.mark.exists(), "secret": self.watch.opened(), "called": bool(called)}
        return report


@pytest.fixture(scope="session")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A process that has imported goodnet and reads file after file."""
    folder = tmp_path_factory.mktemp("hostile")
    secrets = folder / "elsewhere"
    secrets.mkdir()
    secret = secrets / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.zeros((3, 3, 3, 2), np.float32)
    Image.new("RGB", (12, 12)).save(folder / "picture.png")
    listener = socket.create_server(("127.0.0.1", 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.hostile.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=os.environ
        | {"PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}", "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)},
    )
    worker = Worker(process, Watch(secrets), listener, secret, folder / "picture.png")
    yield worker
    assert process.stdin is not None
    process.stdin.close()
    process.wait(30)
    assert process.stdout is not None
    process.stdout.close()
    worker.watch.close()
    listener.close()
