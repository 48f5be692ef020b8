"""What hostile clients send: a status, one line of reason, and a server that answers the next one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from goodnet.serve.network import ServedNetwork
from tests.hostile import npz_files, pictures
from tests.hostile.corpus import Place
from tests.hostile.worker import _status
from tests.serve.conftest import Site, form, serving
from tests.serve.telling_network import picture, write_telling

PICTURES = [case for case in pictures.FAMILY.cases if not case.kind.endswith("leads outside")]
FORM = "multipart/form-data; boundary=BOUND"
BODIES: dict[str, tuple[str, bytes]] = {
    **{f"array, {name}": ("application/x-npy", content) for name, content in npz_files.HEADERS.items()},
    "array of objects": ("application/x-npy", npz_files.header(npz_files.described("(1, 6, 8, 3)", "|O"))),
    "a form without end": (FORM, b"--BOUND\r\n" * 5_000),
    "a form of a header without end": (FORM, b"--BOUND\r\nContent-Disposition: " + b"x" * 150_000),
    "a form of nine pictures": (FORM, form([picture(1)] * 9)),
    "a form that leads outside": (FORM, form([b"../../etc/passwd"])),
    "a form in a form": (FORM, form([form([picture(1)])])),
    "a boundary of escapes": ("multipart/form-data; boundary=\x1b", form([picture(1)])),
    "JSON": ("application/json", b'{"image": "' + b"[" * 100_000 + b'"}'),
    "a kind with escapes": ("te\x1bxt/\x07html", b"x"),
    "nothing": ("image/png", b""),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    network = ServedNetwork(write_telling(tmp_path_factory.mktemp("network")), threads=1)
    with serving(network, max_body_bytes=4_000_000, max_pixels=1_000_000, max_images=8) as running:
        yield running


def refused(site: Site, kind: str, body: bytes) -> None:
    before, started = _status("VmRSS"), time.perf_counter()
    reply = site.predict(body, kind)
    assert 400 <= reply.status < 500, (reply.status, reply.body)
    # What is no valid HTTP, as a header with escapes, is refused before it reaches goodnet: in plain text.
    no_http = reply.status == 400 and reply.headers["content-type"].startswith("text/plain")
    reason = reply.body.decode("ascii") if no_http else json.loads(reply.body)["reason"]
    assert reason
    assert reason.isprintable()
    assert time.perf_counter() - started < 15
    assert (_status("VmRSS") - before) / 1024 < 512
    assert site.predict(picture(7)).image["opinions"]["original"] == 7


@pytest.mark.parametrize("case", PICTURES, ids=lambda case: case.name)
def test_a_hostile_picture(case, site: Site, tmp_path: Path) -> None:
    path = case.make(Place(tmp_path, tmp_path / "mark", tmp_path / "secret", 1))
    refused(site, "image/png", path.read_bytes())
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body(name: str, site: Site) -> None:
    refused(site, *BODIES[name])
