"""A server in a thread, and clients that are plain sockets."""

from __future__ import annotations

import faulthandler
import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from goodnet.serve.network import ServedNetwork
from goodnet.serve.options import ServeOptions
from goodnet.serve.server import listen, make_server
from tests.serve.telling_network import write_telling


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def image(self) -> dict[str, Any]:
        assert self.status == 200, self.body
        assert len(self.json["images"]) == 1
        return self.json["images"][0]


@dataclass(frozen=True)
class Site:
    """A running server."""

    port: int
    network: ServedNetwork
    application: Any

    def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def predict(self, body: Any, kind: str = "image/png", query: str = "") -> Reply:
        return self.request("POST", f"/predict{query}", body, {"content-type": kind})

    def predict_form(self, files: list[bytes], query: str = "") -> Reply:
        return self.predict(form(files), "multipart/form-data; boundary=BOUND", query)

    def metric(self, name: str) -> float:
        """Return the value of a line of /metrics, 0 where there is none."""
        lines = self.request("GET", "/metrics").body.decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == name)


def form(files: list[bytes], extra: bytes = b"") -> bytes:
    """Return a multipart form of files, with boundary BOUND."""
    head = b'--BOUND\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'
    return b"".join(head + content + b"\r\n" for content in files) + extra + b"--BOUND--\r\n"


@contextmanager
def serving(network: ServedNetwork, **options: Any) -> Iterator[Site]:
    """Serve in a thread while the block runs; the server must then stop in time."""
    choices = ServeOptions.from_options(port=0, **options)
    listener = listen(choices)
    port = listener.getsockname()[1]
    server = make_server(network, choices)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield Site(port, network, server.config.app)
    finally:
        server.should_exit = True
        thread.join(choices.request_seconds + 15)
        if thread.is_alive():
            faulthandler.dump_traceback(all_threads=True)
            pytest.fail("the server did not stop; what its threads wait for is printed above")


@pytest.fixture(scope="session")
def telling_file(tmp_path_factory) -> Path:
    """The file of the network whose answer is written into its picture; every class can be refused."""
    return write_telling(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="session")
def telling(telling_file) -> ServedNetwork:
    """The network of `telling_file`."""
    return ServedNetwork(telling_file, threads=1)


@pytest.fixture(scope="module")
def site(telling) -> Iterator[Site]:
    """A server with small limits that all tests of a module share."""
    with serving(telling, max_body_bytes=200_000, max_pixels=1_000_000, max_images=8, body_seconds=1) as running:
        yield running
